"""Measure what each fault in the input costs the tiny models on the shipped motion8 clips.

    python benchmarks/motion8_faults.py

Prints top-1 of each model under each fault, top-1 of a single-frame baseline trained the same way,
and the smallest loss of accuracy, in points, that any fault causes. Exits 1 when a fault costs
less than the goal, a model is below its floor or the baseline is above its ceiling.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fixtures.motion8_batches import BatchSampler, clip_cache, decoded_clip
from fixtures.motion8_faults import FAULTS, reversed_views
from fixtures.tiny_models import (
    MOTION8,
    SPECS,
    Floats,
    Frames,
    held_out_labels,
    predictions,
    standard_views,
    still_views,
    trained_model,
)
from fixtures.train_motion8 import RECIPES, TRAINING_SEED, train

FLOORS: Final = {"nonlocal_tiny": 0.97, "timesformer_tiny": 0.90}
BASELINE_CEILING: Final = 0.30
LOSS_GOAL_POINTS: Final = 5.0

Prepare = Callable[[str, Frames], Floats]


def show(row: str, top1: float) -> None:
    """Print one row of the table."""
    print(f"{row:<44} {100 * top1:6.2f} %", flush=True)


def model_table(name: str, clips: list[Frames], target: list[int]) -> tuple[float, float]:
    """Print one model's rows; return its top-1 and the smallest loss that a fault causes."""
    model = trained_model(name)

    def preds_of(prepare: Prepare) -> list[int]:
        return predictions(name, model, clips, prepare)

    def top1_of(preds: list[int], expected: list[int] = target) -> float:
        return float(np.mean(np.equal(preds, expected)))

    right = preds_of(standard_views)
    top1 = top1_of(right)
    show(f"{name}: none", top1)
    losses = []
    for fault, prepare in FAULTS.items():
        preds = preds_of(prepare)
        losses.append(top1 - top1_of(preds))
        show(f"{name}: {fault}", top1_of(preds))
        if prepare is reversed_views:
            show(f"{name}: {fault}, against the paired class", top1_of(preds, paired(target)))
    shifted = top1_of(right, [(label + 1) % 8 for label in target])
    show(f"{name}: label offset +1", shifted)
    return top1, min(*losses, top1 - shifted)


def paired(target: list[int]) -> list[int]:
    """Return the class of each clip played backwards."""
    return [label ^ 1 for label in target]


def baseline_top1(cache: Path, clips: list[Frames], target: list[int], count: int) -> float:
    """Train nonlocal_tiny on single frames and return its top-1 on single frames."""
    recipe = RECIPES["single_frame"]
    name = recipe.model
    training = clip_cache(cache, count, TRAINING_SEED)
    sampler = BatchSampler(training, SPECS[name].protocol.short_side, strided=False, still=True)
    model: Any = train(recipe, sampler)
    preds = predictions(name, model, clips, still_views)
    return float(np.mean(np.equal(preds, target)))


def main() -> int:
    """Print the table and return the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    cache = Path(tempfile.gettempdir()) / "motion8-cache"
    parser.add_argument("--cache", type=Path, default=cache, help="decoded training clips")
    parser.add_argument("--clips", type=int, default=2000, help="clips to train the baseline on")
    options = parser.parse_args()
    listed = held_out_labels()
    clips = [decoded_clip(MOTION8 / path) for path, _ in listed]
    target = [label for _, label in listed]
    tables = {name: model_table(name, clips, target) for name in FLOORS}
    baseline = baseline_top1(options.cache, clips, target, options.clips)
    show("nonlocal_tiny trained on single frames", baseline)
    loss = 100 * min(loss for _, loss in tables.values())
    print(f"motion8_faults: {loss:.2f} (goal {LOSS_GOAL_POINTS:.2f})")
    is_met = all(tables[name][0] >= floor for name, floor in FLOORS.items())
    return 0 if is_met and baseline < BASELINE_CEILING and loss >= LOSS_GOAL_POINTS else 1


if __name__ == "__main__":
    sys.exit(main())
