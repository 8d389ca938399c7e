"""Throughput of the harness over that of a bare ONNX Runtime loop on the same model, in turns in one process.

The bare loop gets ready-made batches; the harness gets clip after clip from the tensor store, forms the
batches in its thread, checks the outputs and returns the scores by clip id, half a second's batches
at a time. The two alternate batch by batch, because a shared machine's speed changes by more than the
goal within a second; everything that the harness does between bare batches counts as its time.

python benchmarks/overhead.py
"""

import itertools
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from measured import finish, workbench

from harness.clips import Sample
from harness.data.datasets import motion8
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.predict.run import feed_from_samples, scored_batches
from harness.runtimes.ort.session import OrtSession, ort_session
from harness.spec import Cell, Feed

GOAL = 0.99
CELL = Cell("nonlocal_tiny", "cpu", 8)
WARM = 100
WINDOWS = 200
WINDOW = 12
DRAWS = 2000


def main() -> int:
    bench = workbench()
    spec, model = bench.model(CELL.model), bench.device_model(CELL)
    with tempfile.TemporaryDirectory() as folder:
        store = CropStore(Path(folder), spec.protocol, motion8())
        clips = stored_samples(store, motion8().clips, workers=0, batch=CELL.batch)
        items = [item for item in clips if isinstance(item, Sample)]
    feeds = deque(
        feed_from_samples(spec, CELL.batch, items[start : start + CELL.batch])
        for start in range(0, len(items), CELL.batch)
    )
    # Half a round apart, so that neither warms the processor's cache for the other.
    feeds.rotate(len(feeds) // 2)
    batches = itertools.cycle(feeds)
    session = ort_session(Path(model.artifact.path), level="none")
    run = OrtSession(session).run
    kept: deque[object] = deque(maxlen=len(items))
    taken_s: list[tuple[float, float]] = []

    def in_turns(given: Iterable[Feed]) -> Iterator[Feed]:
        """Run the harness's batches, and after each one a batch of the bare loop."""
        start_s = time.perf_counter()
        for feed in given:
            output = run(feed)
            middle_s = time.perf_counter()
            kept.append(session.run(None, dict(next(batches))))
            end_s = time.perf_counter()
            taken_s.append((end_s - middle_s, middle_s - start_s))
            # From here on, time counts for the harness: its work on this output and the next batch.
            start_s = end_s
            yield output

    samples = itertools.islice(itertools.cycle(items), CELL.batch * (WARM + WINDOWS * WINDOW))
    for _, scores in scored_batches(in_turns, spec, CELL.batch, samples):
        kept.append(scores)
    windows_ms = 1000 * np.reshape(taken_s[WARM:], (WINDOWS, WINDOW, 2)).mean(axis=1)
    bare, harness = np.median(windows_ms, axis=0)
    print(f"  a batch of {CELL.batch}: bare {bare:.2f} ms, harness {harness:.2f} ms")
    ratios = windows_ms[:, 0] / windows_ms[:, 1]
    draws = np.random.default_rng(0).choice(ratios, (DRAWS, WINDOWS))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    note = f"median of {WINDOWS} windows of {WINDOW} batches, 95 % interval {low:.4f} to {high:.4f}"
    return finish("overhead", float(np.median(ratios)), GOAL, at_least=True, note=note)


if __name__ == "__main__":
    sys.exit(main())
