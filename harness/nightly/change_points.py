"""Where a series of nights changes its level: E-divisive split with a t-test, as Hunter does.

The algorithm of Fleming et al., "Hunter: Using Change Point Detection to Hunt for Performance
Regressions" (2023), step by step as Apache Otava 0.8 computes it, so that both can be compared:
sliding windows are split where the energy distance between the two sides is largest, as long as a
t-test tells them apart at ten times ``max_p``; then the weakest points are removed until all that
are left hold at ``max_p`` and ``min_magnitude``. No random number is drawn: the same series gives
the same answer every night.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.errors import InputError

WINDOW = 50
MAX_P = 0.001
# The first pass keeps weaker candidates, so that the second can weigh them beside each other.
_FIRST_PASS = 10.0

Values = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class ChangePoint:
    """A change of level: ``index`` is the first value of the new one.

    Attributes:
        index: of the first value after the change.
        before: mean since the change point before it, or since the start.
        after: mean until the next change point, or to the end.
        p_value: of the two-sided t-test between the two sides.
    """

    index: int
    before: float
    after: float
    p_value: float

    @property
    def change(self) -> float:
        """Relative change of the mean, such as -0.05; infinite from a mean of zero."""
        if self.before == 0.0:
            return math.copysign(math.inf, self.after)
        return self.after / self.before - 1.0

    @property
    def magnitude(self) -> float:
        """The larger of the relative changes there and back."""
        back = math.inf if self.after == 0.0 else abs(self.before / self.after - 1.0)
        return max(abs(self.change), back)


def change_points(
    values: Sequence[float],
    *,
    window: int = WINDOW,
    max_p: float = MAX_P,
    min_magnitude: float = 0.0,
) -> tuple[ChangePoint, ...]:
    """Return the change points of a series, one value a night, oldest first.

    ``window`` nights are split at a time; ``min_magnitude`` is the smallest relative change of level.

    Raises:
        InputError: a value is not finite, or the window is under two nights.
    """
    series = np.asarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        raise InputError(
            "a series with NaN or infinite values has no change points; leave them out"
        )
    if window < 2:
        raise InputError(f"a window of {window} nights cannot be split; give 2 or more")
    weak = _weak_points(series, window, _FIRST_PASS * max_p)
    return tuple(_merged(series, weak, max_p, min_magnitude))


def _weak_points(series: Values, window: int, max_p: float) -> list[int]:
    """Return the candidates of all windows."""
    found: set[int] = set()
    start = 0
    while (part := series[start : start + window]).size:
        indices = [start + index for index in _split(part, max_p)]
        found.update(indices)
        start = max([start + window // 2, *indices])
    return sorted(found)


def _split(series: Values, max_p: float) -> list[int]:
    """Split one window where its sides are farthest apart, until a split is not significant."""
    points: list[int] = []
    known: dict[tuple[int, int], tuple[float, int]] = {}
    while True:
        edges = [0, *points, len(series)]
        spans = [span for span in itertools.pairwise(edges) if span[1] - span[0] > 1]
        for span in spans:
            if span not in known:
                known[span] = _farthest(series, *span)
        if not spans:
            return points
        # The first of equals, as everywhere.
        start, end = max(spans, key=lambda span: known[span][0])
        index = known[start, end][1]
        if not _p_value(series[start:index], series[index:end]) <= max_p:
            return points
        points = sorted([*points, index])


def _farthest(series: Values, start: int, end: int) -> tuple[float, int]:
    """Return the largest energy distance of two neighbouring pieces, and where the second starts.

    The second piece may end before the window does, so that a spell is found as well as a step.
    """
    part = series[start:end]
    count = len(part)
    sums = np.zeros((count + 1, count + 1))
    sums[1:, 1:] = np.abs(part[:, None] - part[None, :]).cumsum(axis=0).cumsum(axis=1)
    diagonal = np.diagonal(sums)
    left = np.arange(1, count)[:, None]
    ends = np.arange(2, count + 1)[None, :]
    right = ends - left
    across = sums[left, ends] - diagonal[left]
    inside_left = diagonal[left] / 2.0
    inside_right = (diagonal[ends] - 2.0 * sums[left, ends] + diagonal[left]) / 2.0
    distance = (
        across
        - right / np.maximum(left - 1, 1) * inside_left
        - left / np.maximum(right - 1, 1) * inside_right
    ) * (2.0 / ends)
    distance[right < 1] = -np.inf
    best = int(np.argmax(distance))
    return float(distance.flat[best]), start + 1 + best // (count - 1)


def _merged(
    series: Values, weak: Sequence[int], max_p: float, min_magnitude: float
) -> list[ChangePoint]:
    """Remove the weakest point and weigh its neighbours again, until all that are left hold."""
    points = list(weak)
    while points:
        edges = [0, *points, len(series)]
        found = [_change_point(series, *edges[n : n + 3]) for n in range(len(points))]
        weakest = max(found, key=lambda point: point.p_value)
        if weakest.p_value < max_p:
            weakest = min(found, key=lambda point: point.magnitude)
            if weakest.magnitude > min_magnitude:
                return found
        points.remove(weakest.index)
    return []


def _change_point(series: Values, start: int, index: int, end: int) -> ChangePoint:
    left, right = series[start:index], series[index:end]
    return ChangePoint(index, float(left.mean()), float(right.mean()), _p_value(left, right))


def _p_value(left: Values, right: Values) -> float:
    """Return the two-sided p-value of a t-test with one variance for both sides.

    With Otava the deviations are those of the values at hand (divided by n, not n - 1).
    """
    from scipy.special import stdtr

    freedom = len(left) + len(right) - 2
    difference = float(left.mean() - right.mean())
    if freedom < 1:
        return 1.0
    squares = (len(left) - 1) * float(left.var()) + (len(right) - 1) * float(right.var())
    error = math.sqrt(squares / freedom * (1.0 / len(left) + 1.0 / len(right)))
    if error == 0.0:
        return 0.0 if difference else 1.0
    return float(2.0 * stdtr(freedom, -abs(difference) / error))
