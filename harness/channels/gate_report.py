"""The report of the nightly gate for a terminal, a job summary and a CI server."""

from collections.abc import Iterator

from harness.channels.junit import Case, Suite
from harness.channels.markdown import table_lines
from harness.nightly.comparison import Kind, Notice
from harness.nightly.gate import GateReport
from harness.report.formats import cell_text


def gate_lines(report: GateReport) -> list[str]:
    """Return the report for a terminal: the decision, each reason, what changed that night."""
    lines = [_headline(report)]
    for notice in report.notices:
        lines += [f"{notice.status.upper()} ({notice.kind}): {notice.id}", f"    {notice.reason}"]
        lines += [f"    changed: {change}" for change in notice.changes]
        if notice.kind in (Kind.LOSS, Kind.SUSPECT) and not notice.changes:
            lines.append("    nothing that is recorded changed about then")
    return lines + [f"note: {note}" for note in report.notes]


def gate_summary(report: GateReport) -> Iterator[str]:
    """Yield the lines of the job summary."""
    yield from (f"## {cell_text(_headline(report))}", "")
    if report.notices:
        header = ("outcome", "what", "check", "why")
        yield from table_lines(header, map(_row, report.notices))
    yield from (f"- {cell_text(note, length=None)}" for note in report.notes)


def _row(notice: Notice) -> list[str]:
    why = [notice.reason, *(f"changed: {change}" for change in notice.changes)]
    return [notice.status, notice.kind, notice.id, "; ".join(why)]


def gate_suites(report: GateReport) -> list[Suite]:
    """Return one suite: a failed case for each reason, one passed case if there is none."""
    cases = [
        Case(f"gate.{one.kind}", one.id, one.kind, one.reason, "\n".join(one.changes))
        for one in report.notices
    ]
    return [Suite("harness gate", cases or [Case("gate", report.run_id)])]


def _headline(report: GateReport) -> str:
    run = f"run {report.run_id}" if report.run_id else "no run tonight"
    return (
        f"gate {report.status.name}: {run}, {report.series_count} series, "
        f"{report.compared_count} of them in the baseline, {len(report.notices)} problem(s)"
    )
