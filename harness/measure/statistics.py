"""The statistics behind a verdict: intervals, the paired test, percentiles and session bounds.

Checked in the tests against SciPy, statsmodels, published values and simulation. SciPy is not used here: to
import ``scipy.special`` would be a sixth of what ``harness verify`` takes to start.
"""

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, quantiles

from harness.measure.measurement import Measurement

CONFIDENCE = 0.95
POWER = 0.80
# As many sessions as the known spread of a host counts for.
SPREAD_SESSIONS = 10


class Interval(Measurement):
    """A two-sided confidence interval, or two one-sided bounds; ``confidence`` says how sure."""

    low: float
    high: float
    confidence: float


def normal_quantile(probability: float) -> float:
    """Return the value that a standard normal variable stays under with ``probability``."""
    return NormalDist().inv_cdf(probability)


def student_quantile(freedom: int, probability: float) -> float:
    """Return the value that Student's t stays under with ``probability``, at least one half."""
    low, high = 0.0, math.pi / 2.0
    while low < (middle := (low + high) / 2.0) < high:
        is_below = _student_share(freedom, middle) < 2.0 * probability - 1.0
        low, high = (middle, high) if is_below else (low, middle)
    return math.sqrt(freedom) * math.tan(high)


def _student_share(freedom: int, angle: float) -> float:
    """Return the chance that abs(t) stays under ``sqrt(freedom) tan(angle)``.

    A finite sum, by Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    is_odd, total = freedom % 2, 0.0
    term = math.cos(angle) if is_odd else 1.0
    for power in range(is_odd, freedom - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * math.cos(angle) ** 2
    share = math.sin(angle) * total
    return 2.0 / math.pi * (angle + share) if is_odd else share


def wilson_interval(k: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the two-sided Wilson score interval of a share of ``k`` in ``n``.

    Nothing counted bounds nothing: ``n == 0`` gives the whole range.
    """
    if n == 0:
        return Interval(low=0.0, high=1.0, confidence=confidence)
    z = normal_quantile((1.0 + confidence) / 2.0)
    share, shrink = k / n, 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1.0 - share) / n + z * z / (4 * n * n))
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Interval(low=low, high=high, confidence=confidence)


def mcnemar_midp(b: int, c: int) -> float:
    """Return the two-sided mid-p value of McNemar's test for ``b`` and ``c`` discordant pairs.

    Twice the smaller tail, with the observed table counted by half. ``b == c`` gives exactly 1, and
    so do no discordant pairs at all.
    """
    less, total = min(b, c), b + c
    *below, seen = itertools.accumulate(
        range(less), lambda ways, k: ways * (total - k) // (k + 1), initial=1
    )
    return (2 * sum(below) + seen) / (1 << total)


def tango_bounds(b: int, c: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Tango's two one-sided score bounds of ``(b - c) / n``, each at ``confidence``.

    Without discordant pairs they are still as wide as the score test makes them, z^2 / (n + z^2).
    """
    z = normal_quantile(confidence)
    low, high = -_tango_upper(c, b, n, z), _tango_upper(b, c, n, z)
    return Interval(low=low, high=high, confidence=confidence)


def _tango_upper(b: int, c: int, n: int, z: float) -> float:
    """Return the largest difference that the score test does not reject."""
    if n == 0 or b == n:
        return 1.0

    def excess(delta: float) -> float:
        return (b - c - n * delta) ** 2 - z * z * _tango_variance(b, c, n, delta)

    # At the estimate the excess is negative, and at 1 it is (b - c - n)^2 > 0.
    low, high = (b - c) / n, 1.0
    while low < (middle := (low + high) / 2.0) < high:
        low, high = (low, middle) if excess(middle) > 0.0 else (middle, high)
    return high


def _tango_variance(b: int, c: int, n: int, delta: float) -> float:
    """Return the variance of ``b - c`` at the likeliest discordance for the difference ``delta``."""
    linear = (2 * n - b + c) * delta - b - c
    constant = -c * delta * (1.0 - delta)
    root = math.sqrt(max(0.0, linear * linear - 8.0 * n * constant))
    share = (root - linear) / (4.0 * n)
    return n * (2.0 * share + delta * (1.0 - delta))


def minimum_detectable_loss(n: int, discordant: int, confidence: float = CONFIDENCE) -> float:
    """Return the paired loss that ``n`` clips find with power 0.8 at the observed discordance.

    At least one discordant pair is assumed: none seen does not mean that none can happen.
    """
    z = normal_quantile(confidence) + normal_quantile(POWER)
    return min(1.0, z * math.sqrt(max(discordant, 1)) / n)


def chance_deficit(discordant: int, doubt: float) -> int:
    """Return the net loss of clips that is exceeded with probability ``doubt`` at most by chance.

    Where a device is as good as its reference, each discordant clip is lost or won with equal
    chance: the exact sign test, given their number.
    """
    lost, ways, at_least, all_ways = discordant, 1, 1, 1 << discordant
    while lost > 0 and at_least / all_ways <= doubt:
        ways = ways * lost // (discordant - lost + 1)
        lost, at_least = lost - 1, at_least + ways
    return max(0, 2 * lost - discordant)


def deciding_count(b: int, c: int, n: int, margin: float, confidence: float = CONFIDENCE) -> int:
    """Return how many clips, discordant as often as these, would put the loss on a side of ``margin``.

    To within 1 %, and at most a thousand times ``n``: a loss of just the margin is never decided.
    """

    def is_decided(count: int) -> bool:
        bounds = tango_bounds(round(b * count / n), round(c * count / n), count, confidence)
        return bounds.high <= margin or bounds.low > margin

    low, high = n, 2 * n
    while high < 1000 * n and not is_decided(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if is_decided(middle) else (middle, high)
    return min(high, 1000 * n)


def session_bounds(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Return the two one-sided Student bounds of the mean over sessions; None below two."""
    return _pooled_bounds(values, 0.0, 0, confidence) if len(values) > 1 else None


def spread_bounds(
    values: Sequence[float], spread: float, confidence: float = CONFIDENCE
) -> Interval | None:
    """Return the two one-sided bounds of the mean over sessions whose spread is roughly known.

    The known standard deviation counts as that of ``SPREAD_SESSIONS`` sessions and is pooled with
    what these sessions show, so that few sessions suffice where the spread is known to be small,
    and sessions that scatter widely widen the bounds. None without a session.
    """
    return _pooled_bounds(values, spread, SPREAD_SESSIONS, confidence) if values else None


def _pooled_bounds(
    values: Sequence[float], spread: float, spread_sessions: int, confidence: float
) -> Interval:
    count = len(values)
    mean, freedom = fmean(values), spread_sessions + count - 1
    squares = math.fsum((value - mean) ** 2 for value in values) + spread_sessions * spread**2
    half = student_quantile(freedom, confidence) * math.sqrt(squares / freedom / count)
    return Interval(low=mean - half, high=mean + half, confidence=confidence)


def look_confidence(look: int, confidence: float = CONFIDENCE) -> float:
    """Return how sure the bounds of one look must be, where one looks again until they decide.

    Looking again and again at 95 % bounds errs far more often than in 5 % of runs (13 to 17 %, as
    simulated for 2 to 6 and 5 to 20 sessions). So the doubt is spent: the look of number ``look``,
    from 1, gets 6 / (pi look)^2 of it, which adds up to all of it however many looks there are, as
    far as the sessions are independent and their speeds near normal.
    """
    return 1.0 - (1.0 - confidence) * 6.0 / (math.pi * look) ** 2


def percentile_bound(
    sessions: Sequence[Sequence[float]], percentile: float, confidence: float = CONFIDENCE
) -> float | None:
    """Return a time that a session's percentile is on average not above; None where too few.

    The percentile is taken in each session, and its bound is Student's over the sessions, of
    logarithms: queries of one session share its luck, so that pooling them would count it as many
    times as there are queries. Each session needs twice the queries that hold one beyond the
    percentile (20 for p90, 200 for p99). One session may still be slower than the average one.
    """
    parts = round(1.0 / (1.0 - percentile))
    if len(sessions) < 2 or min(map(len, sessions)) < 2 * parts:
        return None
    # Of so many queries it lies between two of them, and is interpolated.
    logs = [math.log(quantiles(times, n=parts)[-1]) for times in sessions]
    bounds = session_bounds(logs, confidence)
    return None if bounds is None else math.exp(bounds.high)
