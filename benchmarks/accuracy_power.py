"""How surely the verdict on accuracy tells a real loss from none, on the whole of Kinetics-400.

Two truths at 0.5 % discordant clips of 19,796: a device that loses the margin, 0.2 points, and one
that loses nothing (A/A). Both go through the judge of the suite. `not green` is how often the
verdict is no pass; it is exact, summed over all tables of discordant pairs. A device that loses
just the margin is the hardest that must not pass: one-sided at 95 %, the judge stops 95 % of those.
`shown` is how often the loss is also shown to be one (lower bound above zero). The simulated
columns send predictions of every clip through measuring and judging.
"""

import argparse
import bisect
import dataclasses
import pathlib
import sys

import numpy as np
from measured import finish
from scipy.stats import binom

from harness.clips import Clip, ClipSet, Predictions
from harness.judge import judge_accuracy
from harness.judge.limits import AccuracyFloor, AccuracyLimits, PairedLimits
from harness.measure.accuracy import AccuracyMeasurement, accuracy_measurement
from harness.measure.statistics import mcnemar_midp, tango_bounds
from harness.spec import Status

CLIPS, CLASSES, RIGHT = 19796, 8, 0.75
DISCORDANCE, MARGIN, CONFIDENCE = 0.005, 0.002, 0.95
GOAL = 0.95
# Far below what the truths here reach, so that the paired comparison alone decides.
FLOOR = AccuracyFloor(floor=0.5, source="benchmark")
LIMITS = AccuracyLimits(
    top1=FLOOR,
    top5=FLOOR,
    clip_count=CLIPS,
    paired=PairedLimits(margin=MARGIN, confidence=CONFIDENCE, source="benchmark"),
)


@dataclasses.dataclass(frozen=True)
class Truth:
    """Shares of clips that PyTorch alone, and that the device alone, has right."""

    reference_only: float
    device_only: float


def truth_of(loss: float) -> Truth:
    """Return the truth with a loss at the discordance of the benchmark."""
    return Truth((DISCORDANCE + loss) / 2, (DISCORDANCE - loss) / 2)


def share_of_tables(truth: Truth, most: dict[int, int]) -> float:
    """Return how often b is at most ``most[c]``, over all tables of discordant pairs."""
    left = truth.reference_only / (1.0 - truth.device_only)
    return float(
        sum(
            binom.pmf(c, CLIPS, truth.device_only) * binom.cdf(b, CLIPS - c, left)
            for c, b in most.items()
        )
    )


def green_limits(measured: AccuracyMeasurement, top: int) -> dict[int, int]:
    """Return, by c, the most clips b that only PyTorch has right with which the judge passes."""

    def is_refused(b: int, c: int) -> bool:
        assert measured.paired is not None
        paired = measured.paired.model_copy(
            update={"b": b, "c": c, "loss": (b - c) / CLIPS, "p_midp": mcnemar_midp(b, c)}
        )
        verdict = judge_accuracy(measured.model_copy(update={"paired": paired}), LIMITS)
        return verdict.status is not Status.PASS

    return {
        c: bisect.bisect_left(range(400), True, key=lambda b, c=c: is_refused(b, c)) - 1
        for c in range(top)
    }


def shown_limits(top: int) -> dict[int, int]:
    """Return, by c, the most clips b with which a loss is not shown to be one."""

    def is_shown(b: int, c: int) -> bool:
        return tango_bounds(b, c, CLIPS, CONFIDENCE).low > 0.0

    return {
        c: bisect.bisect_left(range(400), True, key=lambda b, c=c: is_shown(b, c)) - 1
        for c in range(top)
    }


def predictions(right: np.ndarray, labels: np.ndarray) -> Predictions:
    """Return predictions that are right of the clips that ``right`` says."""
    classes = np.where(right, labels, (labels + 1) % CLASSES)
    scores = np.tile(-0.1 * np.arange(CLASSES, dtype=np.float32), (CLIPS, 1, 1))
    scores[np.arange(CLIPS), 0, classes] = 1.0
    return Predictions(tuple(f"c{number}" for number in range(CLIPS)), scores)


def measured_run(truth: Truth, rng: np.random.Generator) -> AccuracyMeasurement:
    """Draw which clips are right, and measure."""
    labels = rng.integers(0, CLASSES, size=CLIPS)
    named = zip(range(CLIPS), labels.tolist(), strict=True)
    clips = tuple(Clip(f"c{number}", pathlib.Path("x"), label) for number, label in named)
    both = (1.0 - DISCORDANCE) * RIGHT
    shares = [truth.reference_only, truth.device_only, both]
    kind = rng.choice(4, size=CLIPS, p=[*shares, 1.0 - sum(shares)])
    reference = predictions((kind == 0) | (kind == 2), labels)
    device = predictions((kind == 1) | (kind == 2), labels)
    clip_set = ClipSet("benchmark", clips, tuple("abcdefgh"), "0" * 64)
    return accuracy_measurement(device, clip_set, reference)


def main(arguments: list[str] | None = None) -> int:
    """Print the table and the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="simulated runs of each truth")
    runs = parser.parse_args(arguments).runs
    rng = np.random.default_rng(2026)
    green = green_limits(measured_run(truth_of(0.0), rng), 140)
    shown = shown_limits(140)
    print(
        f"{'true loss':<12}{'not green':>12}{'shown':>10}{'simulated: not green':>24}{'shown':>10}"
    )
    not_green = {}
    for loss in (0.0, 0.0005, 0.001, MARGIN, 0.0025, 0.003):
        truth = truth_of(loss)
        not_green[loss] = 1.0 - share_of_tables(truth, green)
        drawn = [measured_run(truth, rng) for _ in range(runs)]
        refused = [judge_accuracy(one, LIMITS).status is not Status.PASS for one in drawn]
        lows = [one.paired is not None and one.paired.bounds.low > 0.0 for one in drawn]
        print(
            f"{100 * loss:.2f} points {not_green[loss]:>12.4f}"
            f"{1.0 - share_of_tables(truth, shown):>10.4f}"
            f"{np.mean(refused):>24.3f}{np.mean(lows):>10.3f}"
        )
    stays_green = 1.0 - not_green[0.0]
    note = f"A/A stays green in {100 * stays_green:.2f} % of all runs (goal >= 95 %)"
    status = finish("accuracy_power", not_green[MARGIN], GOAL, at_least=True, note=note)
    return max(status, int(stays_green < GOAL))


if __name__ == "__main__":
    sys.exit(main())
