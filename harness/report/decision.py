"""Every reason against shipping, as sentences; checks that did not run come first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

from harness.contract.thresholds import Thresholds
from harness.decide.blockers import UNBOUND, BlockerKind
from harness.decide.rejudge import verdict_again
from harness.errors import InputError
from harness.host.environment import UNKNOWN
from harness.record.record import Record
from harness.report.merge import Merged
from harness.report.values import (
    CellLine,
    CheckLine,
    Outcome,
    Reason,
    ReasonKind,
    RunLine,
    WaiverLine,
)
from harness.spec import Status

_SHORT = 12
_OPEN: Mapping[Outcome, ReasonKind] = {
    "not run": "not run",
    "fail": "fail",
    "error": "error",
    "invalid": "invalid",
    "inconclusive": "inconclusive",
}

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
    lines = [line for cell in cells for line in cell.checks]
    found = [
        *_of_outcomes(lines),
        *(reason for run in merged.runs for reason in _of_run(run, thresholds)),
        *_of_commits(merged.commits),
        *_of_repeated(merged.repeated),
        *_of_unfounded(merged.records.values(), thresholds),
        *_of_blockers(lines),
        *(
            Reason(kind="waiver", text=one.problem, ids=(f"{one.cell}:{one.check}",))
            for one in waivers
            if one.problem
        ),
    ]
    order = get_args(ReasonKind)
    return tuple(sorted(_grouped(found), key=lambda reason: order.index(reason.kind)))


def _grouped(found: Sequence[Reason]) -> Iterator[Reason]:
    groups: dict[tuple[ReasonKind, str], dict[str, None]] = {}
    for reason in found:
        groups.setdefault((reason.kind, reason.text), {}).update(dict.fromkeys(reason.ids))
    for (kind, text), ids in groups.items():
        yield Reason(kind=kind, text=text, ids=tuple(ids))


def _of_outcomes(lines: Sequence[CheckLine]) -> Iterator[Reason]:
    """Whatever is red or open counts, required or not; what did not run counts if required."""
    if not any(line.is_required and line.outcome == "pass" for line in lines):
        yield Reason(kind="not run", text="no required check has passed, so nothing was shown")
    for line in lines:
        kind = _OPEN.get(line.outcome)
        if kind is None or (kind == "not run" and not line.is_required):
            continue
        yield Reason(kind=kind, text=line.reason, ids=(line.id,))


def _of_run(run: RunLine, thresholds: Thresholds) -> Iterator[Reason]:
    for kind, text in (*_stopped(run), *_of_suite(run), *_of_contract(run, thresholds)):
        yield Reason(kind=kind, text=text, ids=(run.run_id,))


def _stopped(run: RunLine) -> Iterator[tuple[ReasonKind, str]]:
    if not run.is_over:
        yield "stopped run", "a run was stopped, or broke, before its end"
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


def _of_contract(run: RunLine, thresholds: Thresholds) -> Iterator[tuple[ReasonKind, str]]:
    if run.environment.get("contract.dirty") != "no":
        yield "thresholds", "a run was judged by thresholds that are in no commit"
    if run.thresholds != thresholds.digest:
        ours, theirs = thresholds.digest[:_SHORT], run.thresholds[:_SHORT]
        text = f"a run was judged by other thresholds ({theirs}) than those of the release ({ours})"
        yield "thresholds", text


def _of_commits(commits: Sequence[str]) -> Iterator[Reason]:
    if len(commits) > 1:
        names = ", ".join(commit[:_SHORT] for commit in commits)
        yield Reason(kind="suite commit", text=f"the runs are of different suite commits: {names}")


def _of_repeated(repeated: Mapping[str, tuple[str, ...]]) -> Iterator[Reason]:
    for name, runs in repeated.items():
        text = (
            f"run {len(runs)} times, in {', '.join(runs)}, the worst is shown: re-running a "
            "check until it passes does not count"
        )
        yield Reason(kind="repeated", text=text, ids=(name,))


def _of_unfounded(records: Iterable[Record], thresholds: Thresholds) -> Iterator[Reason]:
    for record in records:
        if record.verdict.status is Status.PASS:
            text = _objection(record, thresholds)
            if text:
                yield Reason(kind="unfounded", text=text, ids=(record.id,))


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


def _of_blockers(lines: Sequence[CheckLine]) -> Iterator[Reason]:
    for line in lines:
        for blocker in line.blockers:
            yield Reason(kind=_BLOCKED[blocker.kind], text=blocker.text, ids=(line.id,))
