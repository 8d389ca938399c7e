"""10,000 clips against 1,000: peak memory (with the workers) and time of an accuracy run, at 64 x 64.

The clips are motion8's, over and over, under new names; each is decoded, stored,
read, normalised, run by a function in place of a device, and scored. Each size runs in its own
process.

python benchmarks/scale.py [--large N] [--small N]
"""

import argparse
import functools
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measured import finish

from harness.clips import Clip, ClipSet
from harness.data.datasets import motion8
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.host.child_process import peak_bytes, run_in_child
from harness.predict.journal import Work, journal_at, predict_resumed
from harness.predict.run import stream_from_runner
from harness.registry import model_spec
from harness.spec import Feed

GOAL = 1.1
TIME_OFF = 0.1
WARM = 200
SPEC = model_spec("nonlocal_tiny")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", type=int, default=10_000)
    parser.add_argument("--small", type=int, default=1_000)
    options = parser.parse_args()
    peaks, seconds = [], []
    # Small runs come before and after, because the machine's other load changes slowly.
    for count in (options.small, options.large, options.small):
        (taken_s, workers_bytes), cost = run_in_child(run_clips, count)
        peaks.append(cost.peak_bytes + workers_bytes)
        seconds.append(taken_s)
        print(f"  {count:>7} clips {taken_s:8.1f} s  peak {peaks[-1] / 1e6:7.1f} MB", flush=True)
    small_s = (seconds[0] + seconds[2]) / 2
    growth = seconds[1] / small_s / (options.large / options.small)
    note = f"time grows {growth:.3f} times as fast as the clips (goal 1 +/- {TIME_OFF})"
    status = finish("scale", peaks[1] / min(peaks[0], peaks[2]), GOAL, at_least=False, note=note)
    return status or int(abs(growth - 1) > TIME_OFF)


def run_clips(count: int) -> tuple[float, int]:
    """Predict this many clips; return the seconds and the peak memory of the workers."""
    shipped = motion8().clips
    clips = tuple(
        Clip(
            f"{number:06d}",
            shipped[number % len(shipped)].path,
            shipped[number % len(shipped)].label,
        )
        for number in range(count)
    )
    clip_set = ClipSet("many", clips, motion8().class_names, "d" * 64)
    marks: list[tuple[int, float]] = []
    workers: list[int] = []

    def mark(done: int) -> None:
        # Time starts once all workers are busy: starting them takes the same for few clips as for many.
        if (done >= WARM and not marks) or done == count:
            marks.append((done, time.perf_counter()))
            workers.append(sum(peak_bytes(one.pid) for one in multiprocessing.active_children()))

    with tempfile.TemporaryDirectory() as folder:
        store = CropStore(Path(folder) / "crops", SPEC.protocol, clip_set)
        samples = functools.partial(stored_samples, store)
        with journal_at(Path(folder), {}, SPEC, clips) as journal:
            preds = predict_resumed(
                stream_from_runner(score),
                SPEC,
                8,
                Work(clips, samples, journal),
                mark,
            )
    assert len(preds.clip_ids) == count
    (warm, start_s), (_, end_s) = marks
    return (end_s - start_s) * count / (count - warm), max(workers)


def score(feed: Feed) -> Feed:
    """Stand in for a device."""
    (values,) = feed.values()
    means = values.reshape(len(values), -1)[:, :8]
    exponents = np.exp(means - means.max(axis=1, keepdims=True))
    return {SPEC.output.name: (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)}


if __name__ == "__main__":
    sys.exit(main())
