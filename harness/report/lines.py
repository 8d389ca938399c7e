"""A record as a line of the report: its outcome, its margins with their intervals, its blockers."""

import dataclasses
from collections.abc import Iterator

from harness.decide.blockers import Blocker, BlockerKind, blockers_of, tier_blocker
from harness.decide.summary import margin_text
from harness.judge.limits import Limits
from harness.judge.throughput import speed_bounds
from harness.judge.verdict import Finding
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.measurement import Measurement
from harness.measure.statistics import Interval, tango_bounds
from harness.measure.throughput import ThroughputMeasurement
from harness.record.record import Record
from harness.report.values import CheckLine, MarginLine, Outcome
from harness.spec import Cell, Check


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is asked of a check.

    Attributes:
        cell, check: that it is.
        limits: of the cell; None where the contract has none.
        is_required: whether it must have passed.
        tier: in which it must have run; None where any will do.
    """

    cell: Cell
    check: Check
    limits: Limits | None
    is_required: bool
    tier: str | None = None


def line_from_record(record: Record, asked: Asked, *, is_waived: bool) -> CheckLine:
    """Return the line of a check that left a record."""
    measured = record.measurement
    outcome: Outcome = "waived" if is_waived else record.verdict.status.value
    return CheckLine(
        id=record.id,
        check=record.check,
        run_id=record.run_id,
        is_required=asked.is_required,
        outcome=outcome,
        reason=record.verdict.reason,
        margin=margin_text(record),
        findings=tuple(
            _margin_line(one, measured, asked, record.sessions_min)
            for one in record.verdict.findings
        ),
        blockers=tuple(_blockers(record, asked.tier)),
        stage=record.stage,
        subjects=record.subjects,
        raw=record.raw,
        device_facts=record.device_facts,
        started=record.started,
        seconds=record.seconds,
    )


def line_of_nothing(asked: Asked) -> CheckLine:
    """Return the line of a check without any record."""
    return CheckLine(
        id=f"{asked.cell.id}:{asked.check}",
        check=asked.check,
        is_required=asked.is_required,
        outcome="not run",
        reason="no run that was given has a record of it",
    )


def _blockers(record: Record, tier: str | None) -> Iterator[Blocker]:
    """Name what keeps a check from being signed off, beside its outcome."""
    yield from (one for one in blockers_of(record) if one.kind is not BlockerKind.OUTCOME)
    partial = None if tier is None else tier_blocker(record, tier)
    if partial is not None:
        yield partial


def _margin_line(
    finding: Finding, measured: Measurement | None, asked: Asked, sessions_min: int
) -> MarginLine:
    interval = None
    if asked.limits is not None:
        interval = _interval(finding, measured, asked.limits, sessions_min)
    return MarginLine(
        **finding.model_dump(), interval=interval, estimate=_estimate(finding, measured)
    )


def _estimate(finding: Finding, measured: Measurement | None) -> float | None:
    """Return the loss of accuracy in points, where its upper bound is what was compared."""
    if not isinstance(measured, AccuracyMeasurement) or finding.unit != "points":
        return None
    paired = measured.paired
    return None if paired is None else 100.0 * paired.loss


def _interval(
    finding: Finding, measured: Measurement | None, limits: Limits, sessions_min: int
) -> Interval | None:
    """Return the interval that a finding is judged by, in its own unit; None where there is none."""
    match measured:
        case AccuracyMeasurement():
            return _accuracy_interval(finding, measured, limits.accuracy.paired.confidence)
        case ThroughputMeasurement():
            reference = limits.throughput
            speed = measured.speed(reference.definition)
            # Waiting and threads have limits of their own; the interval is that of the speed.
            if speed is None or finding.unit != reference.unit:
                return None
            series = speed.series(reference.against)
            return None if series is None else speed_bounds(series, reference, sessions_min)
        case _:
            return None


def _accuracy_interval(
    finding: Finding, measured: AccuracyMeasurement, confidence: float
) -> Interval | None:
    counts = {"top-1": measured.top1, "top-5": measured.top5}
    if finding.name in counts and finding.unit == "clips":
        count = counts[finding.name]
        return _scaled(count.interval, count.n)
    paired = measured.paired
    if paired is None or finding.unit != "points":
        return None
    return _scaled(tango_bounds(paired.b, paired.c, paired.n, confidence), 100.0)


def _scaled(interval: Interval, factor: float) -> Interval:
    return interval.model_copy(
        update={"low": factor * interval.low, "high": factor * interval.high}
    )
