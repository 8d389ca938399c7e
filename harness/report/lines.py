"""A record as a line of the report: its outcome, its margins with their intervals, its blockers."""

from collections.abc import Iterator

from harness.accuracy import AccuracyMeasurement
from harness.judge import Finding
from harness.limits import Limits
from harness.measurement import Measurement
from harness.records import Record
from harness.report.values import CheckLine, MarginLine, Outcome
from harness.spec import Check, Status
from harness.statistics import Interval, tango_bounds
from harness.summary import margin_text
from harness.throughput import ThroughputMeasurement


def line_from_record(
    record: Record, limits: Limits | None, *, is_required: bool, is_waived: bool
) -> CheckLine:
    """Return the line of a check that left a record."""
    measured = record.measured()
    outcome: Outcome = "waived" if is_waived else record.verdict.status.value
    return CheckLine(
        id=record.id,
        check=record.check,
        run_id=record.run_id,
        is_required=is_required,
        outcome=outcome,
        reason=record.verdict.reason,
        margin=margin_text(record),
        findings=tuple(_margin_line(one, measured, limits) for one in record.verdict.findings),
        blockers=tuple(blockers(record)),
        stage=record.stage,
        subjects=record.subjects,
        raw=record.raw,
        device_facts=record.device_facts,
        started=record.started,
        seconds=record.seconds,
    )


def line_of_nothing(id_: str, check: Check, is_required: bool) -> CheckLine:
    """Return the line of a check without any record."""
    return CheckLine(
        id=id_,
        check=check,
        is_required=is_required,
        outcome="not run",
        reason="no run that was given has a record of it",
    )


def blockers(record: Record) -> Iterator[str]:
    """Say why a check can not be signed off whatever its outcome: what the reader has to know."""
    if record.weights == "seeded":
        yield "seeded weights"
    if record.is_emulated:
        yield "an emulator answered in the device's place"
    measured = record.measured()
    if isinstance(measured, AccuracyMeasurement) and not measured.is_whole:
        yield f"a subset of {measured.clip_count} clips, not the whole set"
    known = {"seeded weights", "an emulator answered in the device's place"}
    outcome = f"the outcome is {record.verdict.status}"
    yield from (text for text in record.signoff_blockers if text not in {*known, outcome})


def _margin_line(
    finding: Finding, measured: Measurement | None, limits: Limits | None
) -> MarginLine:
    interval = None if measured is None else interval_of(finding, measured, limits)
    return MarginLine(**finding.model_dump(), interval=interval)


def interval_of(finding: Finding, measured: Measurement, limits: Limits | None) -> Interval | None:
    """Return the interval of a finding in the finding's own unit; None where there is none."""
    match measured:
        case AccuracyMeasurement():
            return _accuracy_interval(finding, measured)
        case ThroughputMeasurement() if limits is not None:
            reference = limits.throughput
            speed = measured.speed(reference.definition)
            if speed is None:
                return None
            series = speed.x_pytorch if reference.against == "pytorch" else speed.per_s
            return None if series is None else series.bounds
        case _:
            return None


def _accuracy_interval(finding: Finding, measured: AccuracyMeasurement) -> Interval | None:
    counts = {"top-1": measured.top1, "top-5": measured.top5}
    if finding.name in counts and finding.unit == "clips":
        count = counts[finding.name]
        return _scaled(count.interval, count.n)
    paired = measured.paired
    if paired is None or finding.unit != "points":
        return None
    return _scaled(tango_bounds(paired.b, paired.c, paired.n, paired.bounds.confidence), 100.0)


def _scaled(interval: Interval, factor: float) -> Interval:
    return interval.model_copy(
        update={"low": factor * interval.low, "high": factor * interval.high}
    )


def is_run(record: Record) -> bool:
    """Whether anything was tried."""
    return record.verdict.status is not Status.NOT_RUN
