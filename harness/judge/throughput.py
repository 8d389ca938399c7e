"""Throughput: the interval over sessions against the floor; a speed that is far too high is red too.

A host is judged by its processor time beside that of the unoptimised graph in the same runtime,
which other work on the machine hardly moves. That time shows neither a wait nor an idle processor,
so both are looked at beside it.
"""

import math
from collections.abc import Iterator

from harness.judge.limits import ThroughputReference
from harness.judge.verdict import (
    Finding,
    Verdict,
    at_least,
    at_most,
    below,
    fail,
    inconclusive,
    invalid,
    listed,
    passed,
    undecided,
)
from harness.measure.host_turns import HostLook
from harness.measure.speed import SpeedSeries
from harness.measure.statistics import Interval, look_confidence, session_bounds, spread_bounds
from harness.measure.throughput import ThroughputMeasurement

# On a host with both processors taken by others, queries of 5 ms and of 7 s wait 0.01 to 0.6 ms.
WAITING_MS = 1.0
WAITING_SHARE = 0.002
# What a hypervisor or a quota takes from a thread looks like waiting, and comes in lumps.
TAKEN_FACTOR = 2.0
# A session of a large model has two queries, so one disturbance may be all that it saw.
CONFIRMED_BY = 2
# Of the processors beside that of the calling thread, as much as must be at work. It sees that they
# lie idle, not how well they share the work: beside eight busy processes 0.4 of the other one of
# two was used, as the calling thread takes over what the others do not get to.
THREADS_SHARE = 0.1
# Where more processes than that stand in line for each processor, their caches move the ratio, too: at
# a load of nine to twelve on two processors the same build was 10 % slower beside its reference.
CROWDED_SHARE = 0.7
_ELSEWHERE = (
    "the golden was taken on another processor, {reference.processor}, so a tolerance of "
    "{reference.tolerance_elsewhere:g} holds: harness calibrate takes one here"
)


def judge_throughput(
    measurement: ThroughputMeasurement, reference: ThroughputReference, sessions_min: int = 2
) -> Verdict:
    """Judge the speed by the definition that the reference names.

    The lower bound over sessions has to reach the floor; a floor between the bounds decides
    nothing. Sessions are added until they decide, so each look after ``sessions_min`` takes wider
    bounds. One session of a device without a known spread has no bounds: its own value decides
    where ``sessions_min`` is 1.

    A host is held against the golden of its processor; where none was measured, the row's holds
    with the tolerance for that case.

    Where the floor may be that of a card with several chips, one chip passes if it reaches all of it
    and fails below its share; in between, the check is inconclusive.
    """
    if measurement.invalid_reasons:
        return invalid(f"the timing does not count: {listed(measurement.invalid_reasons)}")
    speed = measurement.speed(reference.definition)
    series = None if speed is None else speed.series(reference.against)
    if series is None:
        return invalid(_not_timed(reference))
    if len(series.per_session) != measurement.session_count:
        return invalid(f"{len(series.per_session)} values for {measurement.session_count} sessions")
    host = measurement.host
    processor = None if host is None else host.processor
    is_known = reference.has_golden_of(processor)
    elsewhere = () if is_known else (_ELSEWHERE.format(reference=reference),)
    reference = reference.on_processor(processor)
    plausible = below(
        "mean speed", series.mean, reference.ceiling, reference.unit, "faster is cached or no work"
    )
    floor = _floor_finding(series, reference, sessions_min)
    looks, unseen = _host_findings(host, reference)
    notes = [floor.note, *elsewhere, *unseen]
    if measurement.clips_compared:
        notes.append(f"answers as in the accuracy run on {measurement.clips_compared} clips")
    floor = floor.model_copy(update={"note": ", ".join(notes)})
    findings = (floor, plausible, *looks)
    if not plausible.is_met:
        return fail(f"implausibly fast: {plausible.text}; check what was computed", findings)
    broken = [look.text for look in looks if not look.is_met]
    if broken and len(series.per_session) < CONFIRMED_BY:
        return inconclusive(f"{listed(broken)}; another session has to confirm it", findings)
    if broken:
        return fail(listed(broken), findings)
    return _verdict(floor, findings, series, reference, sessions_min, host)


def speed_bounds(
    series: SpeedSeries, reference: ThroughputReference, sessions_min: int
) -> Interval | None:
    """Return the bounds that a speed is judged by, wider after each look.

    None of one session of a device without a known spread.
    """
    count = len(series.per_session)
    # The first look that has bounds: one session has them where the spread is known.
    first = max(2, sessions_min) if reference.spread is None else sessions_min
    confidence = look_confidence(max(1, count - first + 1))
    if reference.spread is None:
        return session_bounds(series.per_session, confidence)
    logs = [math.log(value) for value in series.per_session]
    bounds = spread_bounds(logs, reference.spread, confidence)
    if bounds is None:
        return None
    ends = {"low": math.exp(bounds.low), "high": math.exp(bounds.high)}
    return bounds.model_copy(update=ends)


def _not_timed(reference: ThroughputReference) -> str:
    if reference.against == "pytorch" or (
        reference.is_of_host and reference.definition != "processor"
    ):
        return (
            f"the floor is one of {reference.definition} speed in {reference.unit}, and a host is "
            "timed by processor time beside the unoptimised graph: set definition = 'processor' and "
            "against = 'unoptimised', and let harness calibrate measure the golden"
        )
    beside = " beside the unoptimised graph" if reference.is_of_host else ""
    return (
        f"{reference.definition} was not timed{beside}, which the floor is about; time it again "
        "with this suite"
    )


def _floor_finding(
    series: SpeedSeries, reference: ThroughputReference, sessions_min: int
) -> Finding:
    """Compare the estimate with the floor; None as an answer where the bounds straddle it."""
    count, bounds = len(series.per_session), speed_bounds(series, reference, sessions_min)
    low, high = (series.mean, series.mean) if bounds is None else (bounds.low, bounds.high)
    note = f"{count} session(s)"
    if bounds is not None:
        note = f"between {low:.4g} and {high:.4g} at {100 * bounds.confidence:.3g} %, {note}"
    name = f"{reference.definition} speed"
    finding = at_least(name, series.mean, reference.floor, reference.unit, note)
    is_too_slow = high < reference.floor_of_a_share
    is_decided = count >= sessions_min and (low >= reference.floor or is_too_slow)
    finding = finding.model_copy(update={"bounds": bounds})
    return finding if is_decided else undecided(finding)


def _host_findings(
    look: HostLook | None, reference: ThroughputReference
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return what processor time does not show, and which of it could not be looked at."""
    if not reference.is_of_host:
        return (), ()
    if look is None:
        return (), ("waiting and threads were not looked at",)
    found = [_waiting(look), *_threads(look, reference)]
    unseen = tuple(one for one in found if isinstance(one, str))
    return tuple(one for one in found if isinstance(one, Finding)), unseen


def _waiting(look: HostLook) -> Finding | str:
    if look.waiting_ms is None:
        return "waiting was not looked at, as the kernel does not tell"
    share = WAITING_SHARE + TAKEN_FACTOR * (look.taken_share or 0.0)
    limit_ms = WAITING_MS + share * look.query_ms
    return at_most("waiting in a query", look.waiting_ms, limit_ms, "ms")


def _threads(look: HostLook, reference: ThroughputReference) -> Iterator[Finding | str]:
    if look.usable < 2:
        yield "threads were not looked at, as there is one processor"
        return
    least = 1.0 + THREADS_SHARE * (look.usable - 1)
    if look.used is None:
        yield "threads were not looked at, as the loop was too short"
    else:
        yield at_least("processors at work", look.used, least, f"of {look.usable}")
    if reference.speedup_min is None:
        yield "wall time was not judged, as the contract has no speedup_min"
    elif look.speedup is None:
        yield "wall time was not judged, as the host was not quiet"
    else:
        note = f"by the wall clock, {look.quiet_sessions} quiet session(s)"
        name, limit = "speed with every thread", reference.speedup_min
        yield at_least(name, look.speedup, limit, "x one thread", note)


def _too_slow(floor: Finding, findings: tuple[Finding, ...], look: HostLook | None) -> Verdict:
    share = None if look is None else look.queued_share
    if share is None or share <= CROWDED_SHARE:
        return fail(f"too slow: {floor.noted}", findings)
    return inconclusive(
        f"{floor.noted}, but the host was too crowded to call that slow: a query stood in "
        f"line for a processor for {100 * share:.3g} % of its time, more than {100 * CROWDED_SHARE:.3g} %; "
        "repeat it with fewer processes beside it",
        (undecided(floor), *findings[1:]),
    )


def _verdict(
    floor: Finding,
    findings: tuple[Finding, ...],
    series: SpeedSeries,
    reference: ThroughputReference,
    sessions_min: int,
    host: HostLook | None,
) -> Verdict:
    count = len(series.per_session)
    if floor.is_met is False:
        return _too_slow(floor, findings, host)
    if floor.is_met is None and count < sessions_min:
        return inconclusive(
            f"{count} of {sessions_min} sessions timed: {series.mean:.4g} {reference.unit}, "
            f"{floor.note}",
            findings,
        )
    if floor.is_met is None and reference.chips > 1:
        return inconclusive(
            f"one chip lies between the floor of {reference.floor:.4g} {reference.unit} and its share "
            f"of it, {reference.floor_of_a_share:.4g}, as the golden may be of a card with "
            f"{reference.chips} chips: {series.mean:.4g}, {floor.note}; put a golden of one chip into "
            "the contract",
            findings,
        )
    if floor.is_met is None:
        return inconclusive(
            f"{series.mean:.4g} {reference.unit}, {floor.note}: the floor of {reference.floor:.4g} "
            "lies between; add sessions with --sessions or --budget-minutes",
            findings,
        )
    return passed(floor.noted, findings)
