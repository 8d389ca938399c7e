"""The speedup from one core to two, and how busy a device is kept that is slower than decoding.

The same number of clips is decoded with the whole process on one core and on two, in turns. The
machine's own ceiling is measured, too: two processes that share nothing and decode the same clips,
over one. The fake device takes a fixed time per clip, 1.5 times what decoding
takes on two cores, and follows the path of an accuracy run, at each batch size.

python benchmarks/pipeline.py [--clips DIR] [--count N] [--rounds N]
"""

import argparse
import contextlib
import functools
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kinetics_like
import numpy as np
from measured import finish

from harness.clips import Clip, ClipSet
from harness.data.loading import crops_from_clip
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.predict.run import readable_samples, scored_batches, stream_from_runner
from harness.registry import model_spec
from harness.spec import Feed

GOAL = 1.8
GOAL_BUSY = 0.97
DEVICE_OVER_DECODE = 1.5
BATCHES = (1, 16)
SPEC = model_spec("nonlocal_r50")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path, help="folder of clips; default: made from real ones")
    parser.add_argument("--count", type=int, default=200, help="clips, taken in turn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("this needs two processors")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        paths = list(kinetics_like.clips(options.clips, folder).values())
        clips = tuple(
            Clip(f"{number:05d}", paths[number % len(paths)], 0) for number in range(options.count)
        )
        ratios, two_s = scaling("the pipeline", functools.partial(streamed, folder), clips, options)
        ceilings, _ = scaling("no pipeline", bare_decoders, clips[: options.count // 2], options)
        os.sched_setaffinity(0, set(cores[:2]))
        latency_s = DEVICE_OVER_DECODE * two_s
        busy = [busy_share(folder, clips, latency_s, batch) for batch in BATCHES]
    for batch, share in zip(BATCHES, busy, strict=True):
        print(
            f"  a device of {1000 * latency_s:.0f} ms a clip, batch {batch}, is busy "
            f"{100 * share:.1f} % of the time (goal >= {100 * GOAL_BUSY:.0f})"
        )
    note = (
        f"rounds {min(ratios):.2f} to {max(ratios):.2f}; two decoders that share nothing over one: "
        f"{np.median(ceilings):.2f} ({min(ceilings):.2f} to {max(ceilings):.2f})"
    )
    status = finish("pipeline", float(np.median(ratios)), GOAL, at_least=True, note=note)
    return status or int(min(busy) < GOAL_BUSY)


def scaling(
    title: str, run: Callable[[tuple[Clip, ...], int], float], clips: tuple[Clip, ...], options: Any
) -> tuple[list[float], float]:
    """Return two cores over one, round by round, and the median seconds a clip on two."""
    cores = sorted(os.sched_getaffinity(0))
    ratios, two = [], []
    for _ in range(options.rounds):
        taken = {}
        for count in (1, 2):
            os.sched_setaffinity(0, set(cores[:count]))
            taken[count] = run(clips, count)
        os.sched_setaffinity(0, set(cores))
        ratios.append(taken[1] / taken[2])
        two.append(taken[2])
        print(
            f"  {title:<14}{1 / taken[1]:8.1f} clips/s on one core,{1 / taken[2]:8.1f} on two: "
            f"{ratios[-1]:.2f}",
            flush=True,
        )
    return ratios, float(np.median(two))


def streamed(folder: Path, clips: tuple[Clip, ...], workers: int) -> float:
    """Return the seconds per clip once every process is working: starting them does not count."""
    with contextlib.closing(stream(folder, clips, workers)) as items:
        for _ in range(len(clips) // 8):
            next(items)
        start_s, done = time.perf_counter(), sum(1 for _ in items)
    return (time.perf_counter() - start_s) / done


def bare_decoders(clips: tuple[Clip, ...], count: int) -> float:
    """Return the seconds per clip of processes that only decode, one per core."""
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(count + 1)
    children = [context.Process(target=decode_all, args=(clips, gate)) for _ in range(count)]
    for child in children:
        child.start()
    gate.wait()
    start_s = time.perf_counter()
    for child in children:
        child.join()
    return (time.perf_counter() - start_s) / (count * len(clips))


def decode_all(clips: tuple[Clip, ...], gate: Any) -> None:
    """Decode a clip, wait for the other processes, then decode every clip; runs in its own process."""
    import cv2

    cv2.setNumThreads(1)
    crops_from_clip(clips[0], SPEC.protocol)
    gate.wait()
    for clip in clips:
        crops_from_clip(clip, SPEC.protocol)


def busy_share(folder: Path, clips: tuple[Clip, ...], latency_s: float, batch: int) -> float:
    """Return the share of time that the device works, from its first query to its last."""
    marks: list[float] = []

    def run(feed: Feed) -> Feed:
        marks.append(time.perf_counter())
        time.sleep(latency_s * batch)
        marks.append(time.perf_counter())
        return {SPEC.output.name: np.full((batch, 400), 1 / 400, np.float32)}

    whole = clips[: len(clips) // batch * batch]
    with contextlib.closing(stream(folder, whole, None, batch)) as items:
        samples = readable_samples(items, {})
        for _ in scored_batches(stream_from_runner(run), SPEC, batch, samples):
            pass
    return len(whole) * latency_s / (marks[-1] - marks[0])


def stream(folder: Path, clips: tuple[Clip, ...], workers: int | None, batch: int = 1):  # type: ignore[no-untyped-def]
    root = Path(tempfile.mkdtemp(dir=folder))
    store = CropStore(root, SPEC.protocol, ClipSet("made", clips, ("any",), "d" * 64))
    return stored_samples(store, clips, workers, batch)


if __name__ == "__main__":
    sys.exit(main())
