"""The table at the end of a run: cells by checks with their margins, then what is not green."""

import itertools
from collections.abc import Collection, Iterable, Sequence

from harness.contract.tables import Waiver
from harness.contract.thresholds import Thresholds
from harness.decide.problems import Problem, left_out
from harness.decide.speeds import speed_lines
from harness.decide.todo import Reason, reasons_from_problems, todos
from harness.decide.waivers import Decision, corrected_toml, waived_lines
from harness.decide.wording import run_headline, shown_by, todo_lines
from harness.judge.verdict import Finding
from harness.language import _, columns, later, later_n, n_, padded
from harness.locale.recorded import translated
from harness.record.record import Record, RunFacts
from harness.spec import Check, Status, shown_checks

WIDTH = 20
# A floor that a speed exceeds so many times is a sanity bound: how far above it is says nothing.
SANITY = 10.0
ADVICE = later(
    "run these checks again while the machine has less to do, or add sessions with --sessions or "
    "--budget-minutes"
)
EMULATED = later("EMULATED: no device was there; this can never be signed off")
PASTE = later(
    "To accept this as known, fill in issue, owner and expires, and put these in place of the\n"
    "[[waivers]] tables of the thresholds file:"
)
_TOO_BUSY = later_n(
    "host too busy to time: {n} check; the rest passed",
    "host too busy to time: {n} checks; the rest passed",
)


def summary_lines(
    records: Sequence[Record], decision: Decision, thresholds: Thresholds, facts: RunFacts
) -> list[str]:
    """Return all that a run says at its end, and ``harness judge`` of a stored one."""
    lines = [_(EMULATED)] if is_emulated(records) else []
    lines += decision_lines(records, decision, thresholds.file.waivers, facts)
    if compared := speed_lines(records, thresholds.references()):
        lines += ["", *compared]
    return [*lines, "", *verdict_lines(records, decision, facts)]


def decision_lines(
    records: Sequence[Record], decision: Decision, waivers: Sequence[Waiver], facts: RunFacts
) -> list[str]:
    """Return the table, what is not green, what is waived or spared, and the waivers that fit."""
    spared = left_out(records, facts.must_pass)
    lines = [*busy_lines(records, decision, spared), *table_lines(records, decision.waived)]
    if decision.problems:
        lines += ["", *problem_lines(decision.problems)]
    if decision.waived:
        lines += ["", _("Known failures, waived but not passed:"), *waived_lines(decision.waived)]
    if spared:
        lines += ["", _("Not required in this run:"), *problem_lines(spared)]
    corrected = corrected_toml(records, waivers, decision)
    if corrected is not None:
        lines += ["", *_(PASTE).splitlines(), "", *corrected.splitlines()]
    return lines


def verdict_lines(records: Sequence[Record], decision: Decision, facts: RunFacts) -> list[str]:
    """Say in one sentence what a run shows, then what a person must do, with the commands."""
    found = todos(reasons_of_run(records, decision, facts))
    shown = shown_by(records, facts.must_pass, decision.waived)
    return [run_headline(found, shown), *todo_lines(found, facts.tier)]


def reasons_of_run(
    records: Sequence[Record], decision: Decision, facts: RunFacts
) -> tuple[Reason, ...]:
    """Return why a run is not green, and what it was not asked for and did not run."""
    spared = left_out(records, facts.must_pass)
    return reasons_from_problems(decision.problems, records, spared)


def busy_lines(
    records: Sequence[Record], decision: Decision, spared: Sequence[Problem] = ()
) -> list[str]:
    """Say first if all that is wrong with a run is that the host was too busy to time on it."""
    busy = {record.id for record in records if _is_too_noisy(record)}
    if not decision.problems or not {problem.id for problem in decision.problems} <= busy:
        return []
    counts = {"n": len(decision.problems), "waived": len(decision.waived), "spared": len(spared)}
    text = n_(*_TOO_BUSY, counts["n"])
    if decision.waived or spared:
        text += _(", but {waived} waived and {spared} not required that did not run")
    return [text.format(**counts), f"    {_(ADVICE)}", ""]


def _is_too_noisy(record: Record) -> bool:
    """Whether the speeds of the sessions differ so much that the floor lies in their interval."""
    if record.check != "throughput" or record.verdict.status is not Status.INCONCLUSIVE:
        return False
    if not record.verdict.findings:
        return False
    floor = record.verdict.findings[0]
    return floor.bounds is not None and floor.bounds.low < floor.limit <= floor.bounds.high


def table_lines(records: Sequence[Record], waived: Collection[str] = ()) -> list[str]:
    """Return a row a cell and a column a check; cells with something not run come first.

    A check whose id is in ``waived`` shows as waived, with its margin.
    """
    rows: dict[str, dict[str, Record]] = {}
    for record in records:
        rows.setdefault(record.cell.id, {})[record.check] = record
    checks = shown_checks(record.check for record in records)
    gaps = {record.cell.id for record in records if record.verdict.status is Status.NOT_RUN}
    ordered = sorted(rows.items(), key=lambda row: row[0] not in gaps)
    table = [
        [_("cell"), *map(_, checks)],
        *([name, *(_text(cell.get(one), waived) for one in checks)] for name, cell in ordered),
    ]
    widths = [max(map(columns, column)) + 2 for column in zip(*table, strict=True)]
    least = [0, *itertools.repeat(WIDTH, len(checks))]
    return ["".join(map(padded, row, map(max, widths, least))).rstrip() for row in table]


def check_line(record: Record, waived: Collection[str] = ()) -> str:
    """Return the line that a check gets when it ends: its outcome, margin and duration."""
    outcome = _text(record, waived)
    check = padded(_(record.check), 11)
    return f"{record.cell.id:<27} {check} {outcome} {record.seconds:6.1f} s"


def problem_lines(found: Sequence[Problem]) -> list[str]:
    """Return what is not green and why; checks with one reason in common stand together."""
    groups: dict[tuple[Status, str], list[str]] = {}
    for problem in found:
        groups.setdefault((problem.status, problem.reason), []).append(problem.id)
    return [
        line
        for (status, reason), names in groups.items()
        for line in (f"{_(status).upper()}: {_listed(names)}", f"    {translated(reason)}")
    ]


def _listed(names: Sequence[str]) -> str:
    """List checks with each cell written once, such as ``a-cpu-bs1:export,parity``."""
    cells: dict[str, list[str]] = {}
    for name in names:
        cell, _, check = name.partition(":")
        cells.setdefault(cell, []).append(check)
    return "  ".join(f"{cell}:{','.join(checks)}".rstrip(":") for cell, checks in cells.items())


def margin_text(record: Record) -> str:
    """Say in a few characters how far a check is from its nearest limit."""
    if record.verdict.status is Status.NOT_RUN:
        return ""
    return margin_of(record.check, record.verdict.findings)


def margin_of(check: Check, findings: Sequence[Finding]) -> str:
    """Say the same of the comparisons of a check."""
    if not findings:
        return ""
    match check:
        case "accuracy":
            top1 = findings[0]
            limit = top1.limit if top1.contract_limit is None else top1.contract_limit
            if top1.measured is None:
                return ""
            return _("{n} clips").format(n=f"{top1.measured - limit:+.0f}")
        case "throughput":
            return _speed_text(findings[0])
        case "soak" if findings[0].comparison == ">=":
            return _speed_text(findings[0])
        case "parity" | "startup" | "soak":
            return _tightest(findings)
        case _:
            return ""


def is_emulated(records: Iterable[Record]) -> bool:
    """Whether an emulator answered for any device."""
    return any(record.is_emulated for record in records)


def _text(record: Record | None, waived: Collection[str]) -> str:
    if record is None:
        return "-"
    outcome = _("waived" if record.id in waived else record.verdict.status)
    return f"{outcome} {margin_text(record)}".strip()


def _speed_text(finding: Finding) -> str:
    """Say how far the estimate is above the floor, and its interval if there is one; or how fast it is."""
    if finding.measured is None or finding.limit == 0:
        return ""
    if finding.measured > SANITY * finding.limit:
        return f"{finding.measured:,.1f} {_(finding.unit)}"
    bounds = finding.bounds
    numbers = (finding.measured, *(() if bounds is None else (bounds.low, bounds.high)))
    over, *ends = (f"{100 * (number / finding.limit - 1):+.0f}" for number in numbers)
    if not ends:
        return f"{over} %"
    return _("{over} % ({low} to {high})").format(over=over, low=ends[0], high=ends[1])


def _tightest(findings: Sequence[Finding]) -> str:
    """Say how much of its limit the largest error uses up."""
    shares = [
        finding.measured / finding.limit
        for finding in findings
        if finding.comparison == "<=" and finding.measured is not None and finding.limit > 0
    ]
    share = f"{100 * max(shares, default=0.0):.0f}"
    return _("{share} % of limit").format(share=share) if shares else ""
