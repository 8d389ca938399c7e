"""Is tonight worse than the frozen baseline? Evidence from one series, without a judgement.

Values are compared as logarithms, turned so that lower is worse. The noise between nights comes
from the differences of neighbouring nights, which neither a step nor a slow drift inflates; nights
that stick out are left out of it. The last 1, 3 and 7 nights since the baseline are each
compared with it by a t-test: a cliff shows in one night, a drift in several.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

# An error or a share of exactly zero has no logarithm; this is below any that is measured.
_SMALLEST = 1e-12
# Neighbouring differences are averages of two nights each, so they count for two thirds.
_EFFICIENCY = 2.0 / 3.0
_OUTLIER_SD = 4.0
_MEDIAN_OF_NORMAL = 0.6744897501960817


@dataclasses.dataclass(frozen=True)
class Rules:
    """How the nightly gate decides; ``docs/nightly.md`` says what rates follow.

    Attributes:
        family_p: chance of a false red in a night without any change, over all its series.
        series_p: largest p-value of a red series, however few there are.
        looks: how many of the last nights are averaged, each once.
        nights_min: fewest differences between nights that the noise is taken from.
        cliff: relative loss that is told although the noise is not known yet.
        window: nights that change points are looked for in at a time.
        point_p: largest p-value of a change point.
        point_errors: how many standard errors, by the noise between nights, a change point has to
            be: the p-value alone is that of the best of many places.
        level_errors: how many of them the level since the change has to be below the baseline.
    """

    family_p: float = 0.02
    series_p: float = 0.001
    looks: tuple[int, ...] = (1, 3, 7)
    nights_min: int = 10
    cliff: float = 0.10
    window: int = 50
    point_p: float = 0.001
    point_errors: float = 4.0
    level_errors: float = 3.5


@dataclasses.dataclass(frozen=True)
class Reference:
    """The level that tonight is compared with: mean of the logarithms, over ``count`` runs."""

    level: float
    count: int


@dataclasses.dataclass(frozen=True)
class Noise:
    """Standard deviation between nights, of logarithms, and its degrees of freedom."""

    sd: float
    freedom: float


@dataclasses.dataclass(frozen=True)
class Loss:
    """The clearest loss against the reference.

    Attributes:
        nights: that were averaged.
        change: of the level, of logarithms, so below zero.
        p_value: that so much comes by chance, over all looks; None if the noise is not known.
    """

    nights: int
    change: float
    p_value: float | None


def scaled(values: Sequence[float], is_higher_better: bool) -> Values:
    """Return the logarithms, turned so that lower is worse."""
    logs: Values = np.log(np.maximum(np.asarray(values, dtype=np.float64), _SMALLEST))
    return logs if is_higher_better else -logs


def reference_from_values(values: Values) -> Reference:
    """Return the level of scaled values, at least one."""
    return Reference(float(values.mean()), len(values))


def noise_from_nights(values: Values, nights_min: int) -> Noise | None:
    """Return the noise of scaled values in the order of the nights; None if they are too few."""
    steps = np.abs(np.diff(values))
    if len(steps) < nights_min:
        return None
    typical = float(np.median(steps)) / _MEDIAN_OF_NORMAL
    kept = steps[steps <= _OUTLIER_SD * typical]
    sd = math.sqrt(float(np.mean(kept**2)) / 2.0)
    return Noise(sd, max(1.0, _EFFICIENCY * len(kept)))


def without_worst(values: Values) -> Values:
    """Return scaled values without the worst one, so that one bad night is not many; one is kept."""
    return values if len(values) < 2 else np.delete(values, int(values.argmin()))


def clearest_loss(
    nights: Values, reference: Reference, noise: Noise | None, rules: Rules, least: float
) -> Loss | None:
    """Return the most significant loss of the last nights against the reference; None if none.

    Args:
        nights: scaled values since the reference, oldest first, tonight last.
        reference: the level that counts.
        noise: between nights, or None.
        rules: of the gate.
        least: smallest loss that counts, of logarithms; the nights must lose it without their
            worst one, too.
    """
    looks = [count for count in rules.looks if count <= len(nights)]
    if noise is None:
        looks = looks[:1]
    found = [
        _loss(nights[-count:], reference, noise, len(looks))
        for count in looks
        if without_worst(nights[-count:]).mean() - reference.level <= -least
    ]
    return min(found, key=_clarity, default=None)


def _clarity(loss: Loss) -> tuple[float, float]:
    return (1.0 if loss.p_value is None else loss.p_value, loss.change)


def _loss(nights: Values, reference: Reference, noise: Noise | None, looks: int) -> Loss:
    """Return the change of level, and its one-sided p-value times the number of looks."""
    from scipy.special import stdtr

    loss = float(nights.mean()) - reference.level
    if noise is None:
        return Loss(len(nights), loss, None)
    error = noise.sd * math.sqrt(1.0 / len(nights) + 1.0 / reference.count)
    if error == 0.0:
        return Loss(len(nights), loss, 0.0)
    return Loss(len(nights), loss, min(1.0, looks * float(stdtr(noise.freedom, loss / error))))


def holm(p_values: Sequence[float], family_p: float, series_p: float) -> list[bool]:
    """Return which hypotheses fall, by Holm's step-down, and never above ``series_p``.

    The chance that any falls of those that are true is at most ``family_p``, however they depend.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    answers = [False] * len(p_values)
    for rank, index in enumerate(order):
        if not p_values[index] <= min(series_p, family_p / (len(p_values) - rank)):
            break
        answers[index] = True
    return answers
