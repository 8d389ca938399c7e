"""The verdict on speed: bounds over sessions against the floor, and too fast is red too."""

from harness.judge.limits import ThroughputReference
from harness.judge.verdict import (
    Finding,
    Verdict,
    at_least,
    below,
    fail,
    inconclusive,
    invalid,
    listed,
    passed,
    undecided,
)
from harness.measure.statistics import Interval, look_confidence, session_bounds
from harness.measure.throughput import SpeedSeries, ThroughputMeasurement


def judge_throughput(
    measurement: ThroughputMeasurement, reference: ThroughputReference, sessions_min: int = 2
) -> Verdict:
    """Judge the speed by the definition that the reference names.

    The lower bound over sessions has to reach the floor; a floor between the bounds decides
    nothing. Sessions are added until they decide, so each look after ``sessions_min`` takes wider
    bounds, and all of them together err in at most 5 % of runs. One session has no bounds: its own
    value decides where ``sessions_min`` is 1.

    Where the floor may be of a card with several chips, one chip passes that reaches all of it and
    fails below its share; between them nobody knows, and no verdict is made up.
    """
    if measurement.invalid_reasons:
        return invalid(f"the timing does not count: {listed(measurement.invalid_reasons)}")
    series = _series(measurement, reference)
    if series is None:
        beside = " beside PyTorch" if reference.against == "pytorch" else ""
        return invalid(f"{reference.definition} was not timed{beside}, which the floor is about")
    if len(series.per_session) != measurement.session_count:
        return invalid(f"{len(series.per_session)} values for {measurement.session_count} sessions")
    plausible = below(
        "mean speed", series.mean, reference.ceiling, reference.unit, "faster is cached or no work"
    )
    floor = _floor_finding(series, reference, sessions_min)
    if measurement.clips_compared:
        note = f"{floor.note}, answers as in the accuracy run on {measurement.clips_compared} clips"
        floor = floor.model_copy(update={"note": note})
    findings = (floor, plausible)
    if not plausible.is_met:
        return fail(f"implausibly fast: {plausible.text}; check what was computed", findings)
    return _verdict(floor, findings, series, reference, sessions_min)


def speed_bounds(series: SpeedSeries, sessions_min: int) -> Interval | None:
    """Return the bounds that a speed is judged by, wider after each look; None of one session."""
    count = len(series.per_session)
    confidence = look_confidence(max(1, count - max(2, sessions_min) + 1))
    return session_bounds(series.per_session, confidence)


def _series(
    measurement: ThroughputMeasurement, reference: ThroughputReference
) -> SpeedSeries | None:
    speed = measurement.speed(reference.definition)
    if speed is None:
        return None
    return speed.x_pytorch if reference.against == "pytorch" else speed.per_s


def _floor_finding(
    series: SpeedSeries, reference: ThroughputReference, sessions_min: int
) -> Finding:
    """Compare the lower bound with the floor; None as an answer where the bounds straddle it."""
    count, bounds = len(series.per_session), speed_bounds(series, sessions_min)
    low, high = (series.mean, series.mean) if bounds is None else (bounds.low, bounds.high)
    note = f"mean {series.mean:.4g}, {count} session(s)"
    if bounds is not None:
        note += f", {100 * bounds.confidence:.3g} % bounds {low:.4g} and {high:.4g}"
    name = f"{reference.definition} speed" + ("" if bounds is None else " (lower bound)")
    finding = at_least(name, low, reference.floor, reference.unit, note)
    is_too_slow = high < reference.floor_of_a_share
    is_decided = count >= sessions_min and (low >= reference.floor or is_too_slow)
    finding = finding.model_copy(update={"bounds": bounds})
    return finding if is_decided else undecided(finding)


def _verdict(
    floor: Finding,
    findings: tuple[Finding, ...],
    series: SpeedSeries,
    reference: ThroughputReference,
    sessions_min: int,
) -> Verdict:
    count = len(series.per_session)
    if floor.is_met is None and count < sessions_min:
        return inconclusive(f"{count} of {sessions_min} sessions timed: {floor.note}", findings)
    if floor.is_met is None and reference.chips > 1:
        return inconclusive(
            f"one chip lies between the floor of {reference.floor:.4g} {reference.unit} and its share "
            f"of it, {reference.floor_of_a_share:.4g}, as the golden may be of a card with "
            f"{reference.chips} chips: {floor.note}; put a golden of one chip into the contract",
            findings,
        )
    if floor.is_met is None:
        return inconclusive(
            f"the floor of {reference.floor:.4g} {reference.unit} lies between the bounds: "
            f"{floor.note}; add sessions on a quiet machine",
            findings,
        )
    sentence = f"{floor.text} ({floor.note})"
    return passed(sentence, findings) if floor.is_met else fail(f"too slow: {sentence}", findings)
