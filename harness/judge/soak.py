"""Soak: what long work changes against each limit of the contract; unwatched or stopped, it never passes."""

from collections.abc import Iterator

from harness.judge.limits import SoakLimits
from harness.judge.verdict import (
    Finding,
    Verdict,
    at_least,
    at_most,
    inconclusive,
    invalid,
    listed,
    unjudged,
    verdict_of,
)
from harness.measure.soak import SoakMeasurement
from harness.spec import Status

# Of the samples that the device's tools must answer: what they did not tell, nobody saw.
ANSWERED = 0.9


def judge_soak(measurement: SoakMeasurement, limits: SoakLimits | None) -> Verdict:
    """Judge a soak by every limit that the contract sets, and by the health that its samples tell.

    One that was stopped may fail, and is inconclusive otherwise.
    """
    if measurement.invalid_reasons:
        return invalid(f"the soak does not count: {listed(measurement.invalid_reasons)}")
    findings = (*_limited(measurement, limits), *_watched(measurement))
    if measurement.silent > (1.0 - ANSWERED) * measurement.sample_count:
        text = f"{measurement.silent} of {measurement.sample_count} times: {measurement.silence}"
        return invalid(f"the device's tools did not answer {text}", findings)
    minutes, planned = (s / 60.0 for s in (measurement.lasted_s, measurement.planned_s))
    verdict = verdict_of(findings, f"worked for {minutes:.1f} min") if findings else None
    if verdict is not None and verdict.status is Status.FAIL:
        return verdict
    if measurement.is_stopped:
        text = f"stopped after {minutes:.1f} of {planned:g} min; what was measured is kept"
        return inconclusive(text, findings)
    if limits is None or verdict is None:
        return inconclusive(unjudged("soak"), findings)
    return verdict


def _limited(measurement: SoakMeasurement, limits: SoakLimits | None) -> Iterator[Finding]:
    if limits is None:
        return
    minutes = f"last {measurement.window_s / 60.0:.3g} min over the first"
    if limits.retention_min is not None:
        yield at_least(
            "retention of speed", measurement.retention, limits.retention_min, "", minutes
        )
    heat, power = measurement.temperature_c, measurement.power
    for name, value, limit, unit in (
        (
            "highest temperature",
            None if heat is None else heat.high,
            limits.temperature_max_c,
            "°C",
        ),
        ("growth of host memory", measurement.host_growth_mb, limits.host_growth_max_mb, "MB"),
        (
            "growth of device memory",
            measurement.device_growth_mb,
            limits.device_growth_max_mb,
            "MB",
        ),
        ("energy of a clip", None if power is None else power.clip_j, limits.energy_max_j, "J"),
    ):
        if limit is not None:
            yield at_most(name, value, limit, unit)


def _watched(measurement: SoakMeasurement) -> Iterator[Finding]:
    if measurement.unhealthy is not None:
        note = listed(measurement.unhealthy, ", ")
        yield at_most("samples not in good health", len(measurement.unhealthy), 0, note=note)
