"""Harness throughput over a bare ONNX Runtime loop on the same model, in turns in one process.

The bare loop gets batches that are ready; the harness gets clip after clip as the tensor store
gives them, forms the batches, checks the outputs and returns the scores by clip id.

python benchmarks/overhead.py
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from measured import finish, workbench

from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.datasets import motion8
from harness.run import feed_from_tensors, predict, stream_from_session
from harness.runtimes.ort import ort_session
from harness.spec import Cell, LoopSettings, Sample
from harness.timing import interleaved

GOAL = 0.99
CELL = Cell("nonlocal_tiny", "cpu", 8)
ROUNDS = 7
SETTINGS = LoopSettings(warmup_queries=1, min_queries=5, min_seconds=1.0)


def main() -> int:
    bench = workbench()
    spec, model = bench.model(CELL.model), bench.device_model(CELL)
    with tempfile.TemporaryDirectory() as folder:
        store = CropStore(Path(folder), spec.protocol, motion8())
        clips = stored_samples(store, motion8().clips, workers=0, batch=CELL.batch)
        items = [item for item in clips if isinstance(item, Sample)]
    feeds = [
        feed_from_tensors(spec, CELL.batch, [item.tensor for item in items[start : start + 8]])
        for start in range(0, len(items), CELL.batch)
    ]
    bare = ort_session(Path(model.artifact.path), level="none")
    session = bench.device(CELL.device).open(model)

    def run_bare() -> None:
        for feed in feeds:
            bare.run(None, dict(feed))

    def run_harness() -> None:
        predict(stream_from_session(session), spec, CELL.batch, items)

    ratios = []
    for _ in range(ROUNDS):
        bare_ms, harness_ms = interleaved(run_bare, run_harness, SETTINGS, block_queries=1)
        ratios.append(float(np.median(bare_ms) / np.median(harness_ms)))
        print(
            f"  bare {np.median(bare_ms):8.2f} ms   harness {np.median(harness_ms):8.2f} ms   "
            f"ratio {ratios[-1]:.4f}"
        )
    spread = f"{min(ratios):.4f} to {max(ratios):.4f} over {ROUNDS} rounds"
    return finish("overhead", float(np.median(ratios)), GOAL, at_least=True, note=spread)


if __name__ == "__main__":
    sys.exit(main())
