"""Accuracy floors that sit within the noise of the very number that they were made from.

A model that is exactly as good as its reference falls below such a floor about as often as chance
decides: 71.6 % of 19,796 clips is a floor of 14,174, and the published reference is 71.6 %.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

from harness.contract.thresholds import Thresholds
from harness.judge.limits import AccuracyFloor, floor_count
from harness.measure.statistics import CONFIDENCE, wilson_interval
from harness.spec import Cell


def floor_warnings(thresholds: Thresholds, cells: Sequence[Cell]) -> tuple[str, ...]:
    """Name each floor of some cells that lies inside the interval of its own reference, once."""
    tables = dict.fromkeys((cell.model, cell.device) for cell in cells)
    return tuple(
        warning for model, device in tables for warning in _warnings(thresholds, model, device)
    )


def chance_below(least: int, count: int, share: float) -> float:
    """Return how often fewer than ``least`` of ``count`` clips are right, at a true ``share``.

    This is for other clips of the same kind; on the very same clips only those that flip count. It
    is the normal approximation of the binomial, with the correction for counts.
    """
    spread = math.sqrt(count * share * (1.0 - share))
    if spread == 0.0:
        return float(count * share < least)
    return NormalDist(count * share, spread).cdf(least - 0.5)


def _warnings(thresholds: Thresholds, model: str, device: str) -> Iterator[str]:
    table = thresholds.file.models[model]
    count = thresholds.file.clip_sets[table.clip_set].clip_count
    for name in ("top1", "top5"):
        floor: AccuracyFloor = getattr(table.devices[device], name)
        warning = _warning(floor, count)
        if warning is not None:
            yield f"models.{model}.devices.{device}.{name}: {warning}"


def _warning(floor: AccuracyFloor, count: int) -> str | None:
    if floor.golden is None:
        return None
    right, least = round(floor.golden * count), floor_count(floor.floor, count)
    interval = wilson_interval(right, count, CONFIDENCE)
    if least == 0 or floor.floor < interval.low:
        return None
    half = 0.5 * (interval.high - interval.low) * count
    chance = chance_below(least, count, floor.golden)
    return (
        f"the floor of {least:,} of {count:,} clips lies within the noise of its reference, "
        f"{right:,} clips +- {half:.0f}: a model just as good misses it in {100 * chance:.0f} of "
        f"100 sets of such clips, and on this one when {max(0, right - least) + 1} more are wrong"
    )
