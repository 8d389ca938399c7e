"""Whether a series is worse than its reference: each night since is judged as it was known that night.

The last 2, 3, 5 and 10 nights are compared with the reference by a t-test; what they lose has to stand out
from the noise of the series itself. One night alone never makes a loss: it is a suspect, and a second run
confirms or clears it. The nights of a loss leave the noise, so that a loss does not become ordinary by
lasting.
"""

import dataclasses
import math

import numpy as np

from harness.nightly.noise import Mask, Noise, Values, noise_from_nights

# No message promises more: so many nights without a change were simulated for each of the noises
# of benchmarks/nights.py, and the rule holds at most one red in so many of them.
NIGHTS_TO_A_FALSE_RED = 200


@dataclasses.dataclass(frozen=True)
class Rules:
    """How the nightly gate decides; ``docs/nightly.md`` says what rates follow.

    Attributes:
        family_p: chance of a false red in a night without any change, over all its series.
        series_p: largest p-value of a series, however few there are.
        looks: how many of the last nights are averaged, and which share of the p-value each gets:
            the looks overlap, so the shares may add up to more than one; the rate is simulated.
        reference_nights: the first nights of a series that has no frozen baseline.
        cliff: relative loss that counts whatever the nights' resemblance, and before the noise is known.
        window: nights that change points are looked for in at a time.
        point_p: largest p-value of a change point.
        point_errors: how many standard errors, by the noise between nights, a change point has to
            be: the p-value alone is that of the best of many places.
    """

    family_p: float = 0.02
    series_p: float = 0.001
    looks: tuple[tuple[int, float], ...] = (
        (1, 0.6),
        (2, 0.25),
        (3, 0.25),
        (5, 0.6),
        (10, 0.6),
    )
    reference_nights: int = 10
    cliff: float = 0.10
    window: int = 50
    point_p: float = 0.001
    point_errors: float = 4.0

    def of_matrix(self, count: int) -> float:
        """Return the p-value for each of so many series (Bonferroni)."""
        return min(self.series_p, self.family_p / max(1, count))


RULES = Rules()
# A night counts as at most so far from the middle of its look, in standard deviations.
_CLIPPED_SD = 1.5
# About four times what nights that do not resemble each other have to lose.
_MOST_ERRORS = 14.0


@dataclasses.dataclass(frozen=True)
class Reference:
    """The level that nights are compared with: mean of the logarithms, over ``count`` runs."""

    level: float
    count: int


@dataclasses.dataclass(frozen=True)
class Loss:
    """The clearest loss of a night against the reference.

    Attributes:
        nights: how many were averaged; a loss of one night is a suspect.
        change: of the level, of logarithms, so below zero.
        errors: the change in standard errors of the series' own noise, below zero; None where the
            noise is not known.
    """

    nights: int
    change: float
    errors: float | None


def reference_from_values(values: Values) -> Reference:
    """Return the level of scaled values, at least one."""
    return Reference(float(values.mean()), len(values))


def losses(
    values: Values, fresh: int, reference: Reference, least: float, series_p: float
) -> list[Loss | None]:
    """Return what each of the last ``fresh`` nights has lost, judged by what was known that night.

    Args:
        values: scaled, oldest first, tonight last.
        fresh: nights since the reference.
        reference: the level that counts.
        least: smallest loss that counts, of logarithms, above zero.
        series_p: p-value of this series, as ``Rules.of_matrix`` gives it.
    """
    is_quiet = np.ones(len(values), dtype=np.bool_)
    found: list[Loss | None] = []
    first = len(values) - fresh
    for end in range(first + 1, len(values) + 1):
        past = values[:end]
        seen = [
            loss
            for look, share in RULES.looks
            if look <= end - first
            and (loss := _loss(past, look, reference, least, share * series_p, is_quiet))
        ]
        for loss in seen:
            if loss.nights > 1:
                is_quiet[end - loss.nights : end] = False
        found.append(_clearest(seen))
    return found


def _clearest(seen: list[Loss]) -> Loss | None:
    """Return a loss of several nights rather than a suspect, and the one that stands out most."""
    lasting = [loss for loss in seen if loss.nights > 1]
    return min(lasting or seen, key=lambda loss: loss.errors or 0.0, default=None)


def _loss(
    values: Values,
    look: int,
    reference: Reference,
    least: float,
    p_value: float,
    is_quiet: Mask,
) -> Loss | None:
    nights = values[-look:]
    if float(nights.mean()) - reference.level > -least:
        return None
    from scipy.special import stdtrit

    noise = noise_from_nights(values, look, is_quiet)
    if noise is None:
        change = float(nights.mean()) - reference.level
        return (
            Loss(look, change, None) if look == 1 and change <= math.log1p(-RULES.cliff) else None
        )
    change = _level(nights, noise) - reference.level
    error = noise.error(look, reference.count)
    quantile = -float(stdtrit(noise.freedom, p_value))
    needed = min(quantile * error, _most(noise, look, reference.count))
    if change > -max(least, needed):
        return None
    return Loss(look, change, change / error if error > 0.0 else -math.inf)


def _most(noise: Noise, nights: int, runs: int) -> float:
    """Return a loss that counts even where nights resemble each other, as they do in a slow drift."""
    alone = dataclasses.replace(noise, sd=noise.step_sd, correlation=0.0)
    return max(-math.log1p(-RULES.cliff), _MOST_ERRORS * alone.error(nights, runs))


def _level(nights: Values, noise: Noise) -> float:
    """Return the level of some nights: their mean, of which no single night decides.

    Of two nights the better one counts, and of three the best may be at most 1.5 standard
    deviations better than the level.
    """
    middle, reach = float(np.median(nights)), _CLIPPED_SD * noise.sd
    mean = middle + float(np.clip(nights - middle, -reach, reach).mean())
    return mean if len(nights) == 1 else max(mean, nights.max() - (len(nights) - 2) * reach)
