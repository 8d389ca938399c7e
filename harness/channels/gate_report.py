"""The report of the nightly gate for a terminal, a job summary and a CI server."""

from collections.abc import Iterator

from harness.channels.junit import Case, Suite
from harness.channels.markdown import table_lines
from harness.language import _
from harness.locale.recorded import translated
from harness.nightly.comparison import Kind, Notice
from harness.nightly.gate import GateReport
from harness.report.formats import cell_text


def gate_lines(report: GateReport) -> list[str]:
    """Return the report for a terminal: the decision, each reason, what changed that night."""
    lines = [_headline(report)]
    for notice in report.notices:
        outcome, kind = _(notice.status).upper(), _(notice.kind)
        lines += [f"{outcome} ({kind}): {notice.id}", f"    {translated(notice.reason)}"]
        lines += [f"    {change}" for change in _changes(notice)]
        if notice.kind in (Kind.LOSS, Kind.SUSPECT) and not notice.changes:
            lines.append(f"    {_('nothing that is recorded changed about then')}")
    return lines + [_("note: {note}").format(note=translated(note)) for note in report.notes]


def gate_summary(report: GateReport) -> Iterator[str]:
    """Yield the lines of the job summary."""
    yield from (f"## {cell_text(_headline(report))}", "")
    if report.notices:
        header = (_("outcome"), _("What"), _("Check"), _("reason"))
        yield from table_lines(header, map(_row, report.notices))
    yield from (f"- {cell_text(translated(note), length=None)}" for note in report.notes)


def _row(notice: Notice) -> list[str]:
    why = [translated(notice.reason), *_changes(notice)]
    return [_(notice.status), _(notice.kind), notice.id, _("; ").join(why)]


def _changes(notice: Notice) -> list[str]:
    return [f"{_('changed:')} {change}" for change in notice.changes]


def gate_suites(report: GateReport) -> list[Suite]:
    """Return one suite: a failed case for each reason, one passed case if there is none."""
    cases = [
        Case(f"gate.{one.kind}", one.id, one.kind, translated(one.reason), "\n".join(one.changes))
        for one in report.notices
    ]
    return [Suite("harness gate", cases or [Case("gate", report.run_id)])]


def _headline(report: GateReport) -> str:
    run = _("run {run}").format(run=report.run_id) if report.run_id else _("no run tonight")
    text = _(
        "gate {status}: {run}, {series} series, {compared} of them in the baseline, {n} problem(s)"
    )
    counts = {"series": report.series_count, "compared": report.compared_count}
    return text.format(status=_(report.status.name), run=run, n=len(report.notices), **counts)
