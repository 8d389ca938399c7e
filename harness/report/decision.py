"""Every reason against shipping, as sentences; checks that did not run come first."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import get_args

from harness.contract.thresholds import Thresholds
from harness.decide.blockers import UNBOUND, BlockerKind
from harness.decide.problems import left_out, problems
from harness.decide.rejudge import verdict_again
from harness.decide.todo import (
    OPEN,
    Reason,
    ReasonKind,
    Task,
    grouped,
    reason_of,
    reasons_from_problems,
)
from harness.decide.waivers import review
from harness.errors import InputError
from harness.host.suite_code import UNKNOWN
from harness.record.record import Record
from harness.report.merge import Merged
from harness.report.values import CellLine, RunLine, WaiverLine
from harness.spec import Status

_SHORT = 12
_BLOCKED: Mapping[BlockerKind, ReasonKind] = {
    BlockerKind.SEEDED: "seeded",
    BlockerKind.EMULATED: "emulated",
    BlockerKind.PARTIAL: "partial",
}


def reasons_against(
    merged: Merged,
    cells: Sequence[CellLine],
    waivers: Sequence[WaiverLine],
    thresholds: Thresholds,
) -> tuple[Reason, ...]:
    """List the reasons against shipping; those that read the same stand together."""
    found = [
        *_of_outcomes(cells, merged),
        *(reason for run in merged.runs for reason in _of_run(run, thresholds)),
        *_of_commits(merged.commits),
        *_of_repeated(merged.repeated),
        *_of_unfounded(merged, cells, thresholds),
        *_of_blockers(cells, merged),
        *(
            reason_of("waiver", one.problem, (f"{one.cell}:{one.check}",))
            for one in waivers
            if one.problem
        ),
    ]
    return _in_order(found)


def reasons_of_runs(merged: Merged, thresholds: Thresholds, today: date) -> tuple[Reason, ...]:
    """List why runs are not green by what they were asked for, and what they left out."""
    records = tuple(merged.records.values())
    reviewed = review(records, thresholds.file.waivers, today, merged.must_pass)
    faults = {name: fault for run in merged.runs for name, fault in run.faults.items()}
    found = problems(records, merged.must_pass, faults, reviewed.waived)
    spared = left_out(records, merged.must_pass)
    reasons = [
        *reasons_from_problems([*found, *reviewed.problems], records, spared),
        *(one for run in merged.runs for one in _of_other_contract(run, thresholds)),
        *_of_repeated(merged.repeated),
        *_of_unfounded(merged, (), thresholds),
    ]
    return _in_order(reasons)


def _in_order(found: Sequence[Reason]) -> tuple[Reason, ...]:
    order = get_args(ReasonKind)
    return tuple(sorted(grouped(found), key=lambda reason: order.index(reason.kind)))


def _of_outcomes(cells: Sequence[CellLine], merged: Merged) -> Iterator[Reason]:
    """Whatever is red or open counts, required or not; what did not run counts if required."""
    lines = [line for cell in cells for line in cell.checks]
    if not any(line.is_required and line.outcome == "pass" for line in lines):
        yield reason_of("not run", "no required check has passed, so nothing was shown")
    present = {one.device for one in merged.records.values() if one.is_device_present}
    for cell in cells:
        for line in cell.checks:
            kind = OPEN.get(line.outcome)
            if kind is None or (kind == "not run" and not line.is_required):
                continue
            record = merged.records.get(line.id)
            required = line.is_required
            found = reason_of(kind, line.reason, (line.id,), record, is_required=required)
            if record is None and cell.device not in present:
                # No run was on a host that has it.
                found = found.model_copy(update={"task": Task.DEVICE, "about": cell.device})
            yield found


def _of_run(run: RunLine, thresholds: Thresholds) -> Iterator[Reason]:
    for kind, text in (*_stopped(run), *_of_suite(run)):
        yield reason_of(kind, text, (run.run_id,))
    if run.environment.get("contract.dirty") != "no":
        text = "a run was judged by thresholds that are in no commit"
        yield reason_of("thresholds", text, (run.run_id,))
    yield from _of_other_contract(run, thresholds)


def _stopped(run: RunLine) -> Iterator[tuple[ReasonKind, str]]:
    if not run.is_over:
        yield "stopped run", "a run was stopped or broke before it finished"
    for name, fault in run.faults.items():
        if run.is_over or name != "(run)":
            yield "broken run", f"outside of its records a run broke: {name}: {fault}"
    if not run.is_bound:
        yield "unbound", UNBOUND


def _of_suite(run: RunLine) -> Iterator[tuple[ReasonKind, str]]:
    if run.commit == UNKNOWN or run.is_dirty is None:
        yield "suite commit", "the commit of the suite that made a run is not known"
    if run.is_dirty:
        yield "suite commit", "a run was made by a suite with changes that are in no commit"
    changed = run.environment_after.get("suite.commit", run.commit) != run.commit
    if changed or (run.environment_after.get("suite.dirty", "no") == "yes" and not run.is_dirty):
        yield "suite commit", "the suite was changed while a run went on"


def _of_other_contract(run: RunLine, thresholds: Thresholds) -> Iterator[Reason]:
    if run.thresholds != thresholds.digest:
        ours, theirs = thresholds.digest[:_SHORT], run.thresholds[:_SHORT]
        text = f"a run was judged by other thresholds ({theirs}) than those of the release ({ours})"
        yield reason_of("thresholds", text, (run.run_id,))


def _of_commits(commits: Sequence[str]) -> Iterator[Reason]:
    if len(commits) > 1:
        names = ", ".join(commit[:_SHORT] for commit in commits)
        yield reason_of("suite commit", f"the runs are of different suite commits: {names}")


def _of_repeated(repeated: Mapping[str, tuple[str, ...]]) -> Iterator[Reason]:
    for name, runs in repeated.items():
        text = (
            f"run {len(runs)} times, in {', '.join(runs)}, the worst is shown: re-running a "
            "check until it passes does not count"
        )
        yield reason_of("repeated", text, (name,))


def _of_unfounded(
    merged: Merged, cells: Sequence[CellLine], thresholds: Thresholds
) -> Iterator[Reason]:
    optional = {line.id for cell in cells for line in cell.checks if not line.is_required}
    for record in merged.records.values():
        if record.verdict.status is Status.PASS:
            text = _objection(record, thresholds)
            if text:
                required = record.id not in optional
                yield reason_of("unfounded", text, (record.id,), record, is_required=required)


def _objection(record: Record, thresholds: Thresholds) -> str:
    """Say why the thresholds of the release do not make a pass of what was measured, or nothing."""
    if record.cell not in thresholds.cells():
        return "the thresholds of the release have no limits for a check that passed"
    try:
        verdict = verdict_again(record, thresholds)
    except InputError as error:
        return str(error)
    if verdict.status is Status.PASS:
        return ""
    return f"recorded as a pass, but what was measured comes to {verdict.status}: {verdict.reason}"


def _of_blockers(cells: Sequence[CellLine], merged: Merged) -> Iterator[Reason]:
    for line in (line for cell in cells for line in cell.checks):
        record, required = merged.records.get(line.id), line.is_required
        for one in line.blockers:
            yield reason_of(_BLOCKED[one.kind], one.text, (line.id,), record, is_required=required)
