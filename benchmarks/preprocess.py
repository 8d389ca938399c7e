"""Clips per second of the harness over mmaction2's pipeline, in turns in one process on one core.

python benchmarks/preprocess.py [--clips DIR] [--rounds N]
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import kinetics_like
import numpy as np
from measured import finish

from harness.clips import Clip, Sample
from harness.data.loading import sample_from_clip
from harness.data.sampling import frame_indices
from harness.data.skipping import NotPlain, coded_from_container, needed
from harness.registry import model_spec

GOAL = 1.5
GOAL_ANY = 1.0
SPEC = model_spec("nonlocal_r50")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path, help="folder of clips; default: made from real ones")
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    kinetics_like.use_one_core()
    guide = kinetics_like.guide_pipeline(SPEC)
    with_b, all_ratios, over_bare = [], [], []
    print("  CPU milliseconds a clip, median; decoder: bare decoding of what the frames need;")
    print("  ratio: median over the turns, with 80 % of them in brackets")
    print(f"  {'clip':<34}{'mmaction2':>10}{'harness':>9}{'ratio':>7}{'decoder':>24}  decoded")
    with tempfile.TemporaryDirectory() as made:
        for name, path in kinetics_like.clips(options.clips, Path(made)).items():
            ours = partial(sample_from_clip, Clip(name, path, 0), SPEC.protocol)
            item = ours()
            assert isinstance(item, Sample), item
            np.testing.assert_array_equal(item.tensor, guide(path))
            runs = (partial(guide, path), ours, partial(bare, path))
            taken_ms = in_turns(options.rounds, *runs)
            guide_ms, ours_ms, bare_ms = np.median(taken_ms, axis=1)
            decoded, frames, has_b = counts(path)
            # Turn by turn, so that a change of the machine's speed between turns does not count.
            low, ratio, high = np.quantile(taken_ms[0] / taken_ms[1], [0.1, 0.5, 0.9])
            all_ratios.append(ratio)
            over_bare.append(np.median(taken_ms[1] / taken_ms[2]))
            if has_b:
                with_b.append(ratio)
            print(
                f"  {name:<34}{guide_ms:>10.1f}{ours_ms:>9.1f}{ratio:>7.2f} ({low:.2f} to "
                f"{high:.2f}){bare_ms:>9.1f}  {decoded} of {frames} frames; {over_bare[-1]:.2f}x the "
                "bare decoder"
            )
    note = (
        f"tensors identical; the lowest of any clip is {min(all_ratios):.2f} (goal {GOAL_ANY}); the "
        f"path takes {min(over_bare):.2f} to {max(over_bare):.2f} times the bare decoder's own "
        "time for the frames needed"
    )
    status = finish("preprocess", min(with_b or [0.0]), GOAL, at_least=True, note=note)
    return status or int(min(all_ratios) < GOAL_ANY)


def in_turns(rounds: int, *runs: Callable[[], object]) -> np.ndarray:
    """Return the CPU milliseconds [run, turn]: other work on the machine does not count."""
    taken_ms = np.empty((len(runs), rounds))
    for turn in range(rounds):
        for number, run in enumerate(runs):
            start_s = time.process_time()
            run()
            taken_ms[number, turn] = 1000 * (time.process_time() - start_s)
    return taken_ms


def bare(path: Path) -> None:
    """Decode the pictures that the wanted frames need and drop them, by FFmpeg alone."""
    import av

    with av.open(io.BytesIO(path.read_bytes())) as container:
        for group in _groups(container):
            for packet in (*group, None):
                container.streams.video[0].codec_context.decode(packet)
            container.streams.video[0].codec_context.flush_buffers()


def counts(path: Path) -> tuple[int, int, bool]:
    """Return the pictures to decode, the frames of the clip, and whether it has B-frames."""
    import av

    with av.open(str(path)) as container:
        times = coded_from_container(container).times
    with av.open(str(path)) as container:
        return sum(len(group) for group in _groups(container)), len(times), times != sorted(times)


def _groups(container):  # type: ignore[no-untyped-def]
    try:
        coded = coded_from_container(container)
    except NotPlain as error:
        raise SystemExit("a clip is not plain H.264; measure it without --clips") from error
    times = sorted(coded.times)
    wanted = {times[index] for index in frame_indices(SPEC.protocol, len(times))}
    return list(needed(coded, wanted))


if __name__ == "__main__":
    sys.exit(main())
