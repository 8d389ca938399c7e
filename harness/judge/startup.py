"""Startup: the interval over starts against each limit of a time, the largest peak against its own."""

from collections.abc import Iterator

from harness.judge.limits import StartupLimits
from harness.judge.verdict import (
    Finding,
    Verdict,
    at_most,
    inconclusive,
    invalid,
    listed,
    undecided,
    unjudged,
    verdict_of,
)
from harness.measure.speed import SpeedSeries
from harness.measure.startup import StartupMeasurement
from harness.measure.statistics import look_confidence, session_bounds

_NAMES = {
    "cold_load_max_ms": "cold load time",
    "cold_first_max_ms": "cold first inference",
    "warm_load_max_ms": "warm load time",
    "warm_first_max_ms": "warm first inference",
}
_PEAKS = {"host_peak_max_mb": "peak host memory", "device_peak_max_mb": "peak device memory"}


def judge_startup(
    measurement: StartupMeasurement, limits: StartupLimits | None, sessions_min: int = 2
) -> Verdict:
    """Judge what a start takes by every limit that the contract sets; without one, nothing is.

    The upper bound over starts has to be within a limit of a time; a limit between the bounds decides
    nothing, and neither does a single start. Starts are added until they decide, so each look after
    ``sessions_min`` takes wider bounds.
    """
    if measurement.invalid_reasons:
        return invalid(f"the starts do not count: {listed(measurement.invalid_reasons)}")
    if limits is None:
        return inconclusive(unjudged("startup"))
    findings = (*_times(measurement, limits, sessions_min), *_peaks(measurement, limits))
    return verdict_of(findings, f"{measurement.session_count} starts")


def _times(
    measurement: StartupMeasurement, limits: StartupLimits, sessions_min: int
) -> Iterator[Finding]:
    for key, name in _NAMES.items():
        limit: float | None = getattr(limits, key)
        series: SpeedSeries | None = getattr(measurement, key.replace("_max", ""))
        if limit is not None:
            yield _time(name, series, limit, sessions_min)


def _time(name: str, series: SpeedSeries | None, limit: float, sessions_min: int) -> Finding:
    """Compare the mean with the limit; undecided where the bounds straddle it, or there are none."""
    if series is None:
        return at_most(name, None, limit, "ms")
    count, least = len(series.per_session), max(2, sessions_min)
    confidence = look_confidence(max(1, count - least + 1))
    bounds = session_bounds(series.per_session, confidence)
    if bounds is None:
        return undecided(at_most(name, series.mean, limit, "ms", f"{count} start of {least}"))
    low, high = bounds.low, bounds.high
    note = f"between {low:.4g} and {high:.4g} at {100 * confidence:.3g} %, {count} starts"
    finding = at_most(name, series.mean, limit, "ms", note).model_copy(update={"bounds": bounds})
    is_decided = count >= least and (high <= limit or low > limit)
    return finding if is_decided else undecided(finding)


def _peaks(measurement: StartupMeasurement, limits: StartupLimits) -> Iterator[Finding]:
    for key, name in _PEAKS.items():
        limit: float | None = getattr(limits, key)
        if limit is not None:
            yield at_most(name, getattr(measurement, key.replace("_max", "")), limit, "MB")
