"""How much a series varies from night to night, taken robustly from recent nights.

Values are logarithms, turned so that lower is worse. The scale comes from the steps between neighbouring
nights of two recent windows, a long and a short one, of which the larger counts: noise that has grown is
seen within days. How far neighbouring nights resemble each other comes from a longer window. Neither a
step of the level nor a drift enters: the nights under test are taken about their own mean.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# An error or a share of exactly zero has no logarithm; this is below any that is measured.
_SMALLEST = 1e-12
# Fewest steps between nights from which a noise is taken.
STEPS_MIN = 10
# Two windows of steps: how many, how many of the largest are left out (outlier nights, the change itself),
# what is left of a normal distribution of sd 1, and how much of the scale counts: of nine steps it is uncertain.
_WINDOWS = ((39, 2, 0.88, 1.0), (9, 2, 0.68, 0.8))
# The last nights under test do not tell their own scale; of longer tests the older ones do.
_UNCOUNTED_MAX = 3
_RESEMBLANCE_NIGHTS = 60
_CORRELATION_MAX = 0.95
# A correlation below so many standard errors counts as none; to a larger one this margin is added.
_CORRELATED_FROM, _CORRELATION_MARGIN = 1.0, 0.2
_CLIPPED_SD = 3.0
_SD_OF_MEDIAN = 1.4826


@dataclasses.dataclass(frozen=True)
class Noise:
    """What a series does by itself.

    Attributes:
        sd: standard deviation of a night, of logarithms.
        correlation: of neighbouring nights, 0 to 0.95; it fades by this factor with each night.
        freedom: degrees of freedom of ``sd``.
    """

    sd: float
    correlation: float
    freedom: float

    @property
    def step_sd(self) -> float:
        """The part of ``sd`` that is new each night."""
        return self.sd * math.sqrt(1.0 - self.correlation)

    def error(self, *counts: int) -> float:
        """Return the standard error of a difference between means of so many nights each."""
        return self.sd * math.sqrt(sum(self._share(count) for count in counts))

    def _share(self, count: int) -> float:
        """Return the variance of a mean of nights, over that of one night."""
        lags = np.arange(1, count)
        return float(count + 2.0 * ((count - lags) * self.correlation**lags).sum()) / count**2


def scaled(values: Sequence[float], is_higher_better: bool) -> Values:
    """Return the logarithms, turned so that lower is worse."""
    logs: Values = np.log(np.maximum(np.asarray(values, dtype=np.float64), _SMALLEST))
    return logs if is_higher_better else -logs


def noise_from_nights(values: Values, tested: int, is_quiet: Mask) -> Noise | None:
    """Return the noise of a series; None if it has too few nights.

    Args:
        values: scaled, oldest first, tonight last.
        tested: the last nights, which are compared with a level now: they may have another one.
        is_quiet: for each night whether it counts; those of a loss that was found do not.
    """
    step_sd = sd_of_steps(values[: -min(tested, _UNCOUNTED_MAX)])
    if step_sd is None:
        return None
    older = np.flatnonzero(is_quiet[: len(values) - tested])[-_RESEMBLANCE_NIGHTS:]
    correlation, count = _correlation(values[older], np.diff(older) == 1, values[-tested:])
    sd = step_sd / math.sqrt(1.0 - correlation)
    # One or two nights stand out by the scale, which every step tells; the level of more does by the
    # correlation, of which nights that resemble each other tell less.
    share = 1.0 if tested <= 2 else (1.0 - correlation) / (1.0 + correlation)
    return Noise(sd, correlation, max(2.0, share * count))


def sd_of_steps(values: Values) -> float | None:
    """Return the standard deviation of nights that do not resemble each other, from their steps.

    None if there are too few steps.
    """
    steps = np.abs(np.diff(values))
    if len(steps) < STEPS_MIN:
        return None
    scales = []
    for count, left_out, normal, share in _WINDOWS:
        kept = np.sort(steps[-count:])[:-left_out]
        scales.append(share * math.sqrt(float(np.mean(kept**2))) / normal)
    return max(scales) / math.sqrt(2.0)


def _correlation(older: Values, are_neighbours: Mask, tested: Values) -> tuple[float, int]:
    """Return the correlation of neighbouring nights, and from how many nights it comes."""
    if len(older) < 3:
        return _CORRELATION_MAX, len(older)
    rest = older - np.median(older)
    limit = _CLIPPED_SD * _SD_OF_MEDIAN * float(np.median(np.abs(rest)))
    rest = np.clip(rest, -limit, limit)
    products, squares, levels = (rest[1:] * rest[:-1])[are_neighbours], rest**2, 1
    if len(tested) > 2:
        own = np.clip(tested - tested.mean(), -limit, limit)
        products = np.concatenate([products, own[1:] * own[:-1]])
        squares, levels = np.concatenate([squares, own**2]), 2
    count, power = len(squares), float(squares.mean())
    if power == 0.0 or len(products) == 0:
        return 0.0, count
    found = float(products.mean()) / power
    # Each level that was taken from the nights themselves hides some of their correlation.
    found += levels * (1.0 + 3.0 * found) / count
    if found < _CORRELATED_FROM / math.sqrt(count):
        return 0.0, count
    return min(found + _CORRELATION_MARGIN, _CORRELATION_MAX), count
