"""Harness throughput over a bare ONNX Runtime loop on the same model, in turns in one process.

The bare loop gets batches that are ready; the harness gets clip after clip as the tensor store
gives them, forms the batches in its thread, checks the outputs and returns the scores by clip id.
Batch after batch in turns, as a shared machine changes its speed by more than the goal in a second.

python benchmarks/overhead.py
"""

import contextlib
import itertools
import sys
import tempfile
from collections import deque
from pathlib import Path

import numpy as np
from measured import finish, workbench

from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.datasets import motion8
from harness.run import feed_from_samples, scored_batches, stream_from_session
from harness.runtimes.ort import OrtSession, ort_session
from harness.spec import Cell, LoopSettings, Sample
from harness.timing import interleaved

GOAL = 0.99
CELL = Cell("nonlocal_tiny", "cpu", 8)
ROUNDS = 7
SETTINGS = LoopSettings(warmup_queries=5, min_queries=200, min_seconds=1.0)


def main() -> int:
    bench = workbench()
    spec, model = bench.model(CELL.model), bench.device_model(CELL)
    with tempfile.TemporaryDirectory() as folder:
        store = CropStore(Path(folder), spec.protocol, motion8())
        clips = stored_samples(store, motion8().clips, workers=0, batch=CELL.batch)
        items = [item for item in clips if isinstance(item, Sample)]
    feeds = [
        feed_from_samples(spec, CELL.batch, items[start : start + CELL.batch])
        for start in range(0, len(items), CELL.batch)
    ]
    bare = ort_session(Path(model.artifact.path), level="none")
    session = OrtSession(bare)

    answers = scored_batches(stream_from_session(session), spec, CELL.batch, itertools.cycle(items))
    batches = itertools.cycle(feeds)
    kept: deque[object] = deque(maxlen=len(items))
    ratios = []
    with contextlib.closing(answers):
        for _ in range(ROUNDS):
            bare_ms, harness_ms = interleaved(
                lambda: kept.append(bare.run(None, dict(next(batches)))),
                lambda: kept.append(next(answers)),
                SETTINGS,
                block_queries=1,
            )
            ratios.append(float(np.median(bare_ms) / np.median(harness_ms)))
            print(
                f"  bare {np.median(bare_ms):6.2f} ms   harness {np.median(harness_ms):6.2f} ms   "
                f"ratio {ratios[-1]:.4f}"
            )
    spread = f"{min(ratios):.4f} to {max(ratios):.4f} over {ROUNDS} rounds"
    return finish("overhead", float(np.median(ratios)), GOAL, at_least=True, note=spread)


if __name__ == "__main__":
    sys.exit(main())
