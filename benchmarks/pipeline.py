"""Two cores over one, and how busy a device slower than decoding is kept.

python benchmarks/pipeline.py [--clips DIR] [--count N]
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import kinetics_like
from measured import finish

from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.registry import model_spec
from harness.spec import Clip, ClipSet

GOAL = 1.8
GOAL_BUSY = 0.97
SPEC = model_spec("nonlocal_r50")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path, help="folder of clips; default: made from real ones")
    parser.add_argument("--count", type=int, default=200, help="clips, taken in turn")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("this needs two processors")
    with tempfile.TemporaryDirectory() as folder:
        paths = list(kinetics_like.clips(options.clips, Path(folder)).values())
        clips = tuple(
            Clip(f"{number:05d}", paths[number % len(paths)], 0) for number in range(options.count)
        )
        seconds = {}
        for count in (1, 2, 2, 1):
            os.sched_setaffinity(0, set(cores[:count]))
            taken_s = streamed(Path(folder) / f"store-{len(seconds)}-{count}", clips, count)
            seconds.setdefault(count, []).append(taken_s)
            print(f"  {count} core(s): {len(clips) / taken_s:8.1f} clips/s", flush=True)
        os.sched_setaffinity(0, set(cores))
        latency_s = 1.5 * min(seconds[2]) / len(clips)
        busy = busy_share(Path(folder) / "busy", clips, latency_s)
    ratio = min(seconds[1]) / min(seconds[2])
    note = f"a device of {1000 * latency_s:.0f} ms a clip is busy {100 * busy:.1f} % of the time"
    status = finish("pipeline", ratio, GOAL, at_least=True, note=f"{note} (goal {100 * GOAL_BUSY})")
    return status or int(busy < GOAL_BUSY)


def streamed(root: Path, clips: tuple[Clip, ...], workers: int) -> float:
    """Return the seconds from the first sample to the last: starting processes does not count."""
    with contextlib.closing(stream(root, clips, workers)) as items:
        for _ in range(2 * workers + 2):
            next(items)
        start_s, done = time.perf_counter(), sum(1 for _ in items)
    return (time.perf_counter() - start_s) * len(clips) / done


def busy_share(root: Path, clips: tuple[Clip, ...], latency_s: float) -> float:
    """Return the share of the time, from the first sample on, that a fixed latency is."""
    with contextlib.closing(stream(root, clips, None)) as items:
        next(items)
        start_s, done = time.perf_counter(), 0
        for _ in items:
            time.sleep(latency_s)
            done += 1
        return done * latency_s / (time.perf_counter() - start_s)


def stream(root: Path, clips: tuple[Clip, ...], workers: int | None):  # type: ignore[no-untyped-def]
    store = CropStore(root, SPEC.protocol, ClipSet("made", clips, ("any",), "d" * 64))
    return stored_samples(store, clips, workers)


if __name__ == "__main__":
    sys.exit(main())
