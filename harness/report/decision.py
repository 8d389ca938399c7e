"""Everything that speaks against shipping, each said in words, what did not run first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

from harness.contract.thresholds import Thresholds
from harness.decide.rejudge import foreign_weights
from harness.host.environment import UNKNOWN
from harness.judge import Verdict
from harness.judge.measurement import rejudge
from harness.judge.verdict import invalid
from harness.measure.measurement import Measurement
from harness.record.record import Record
from harness.report.lines import blocker_kind
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
    ids = (run.run_id,)
    if not run.is_over:
        text = "a run was stopped, or broke, before its end"
        yield Reason(kind="stopped run", text=text, ids=ids)
    for name, fault in run.faults.items():
        if run.is_over or name != "(run)":
            text = f"outside of its records a run broke: {name}: {fault}"
            yield Reason(kind="broken run", text=text, ids=ids)
    if run.commit == UNKNOWN or run.is_dirty is None:
        text = "the commit of the suite that made a run is not known"
        yield Reason(kind="suite commit", text=text, ids=ids)
    if run.is_dirty:
        text = "a run was made by a suite with changes that are in no commit"
        yield Reason(kind="suite commit", text=text, ids=ids)
    changed = run.environment_after.get("suite.commit", run.commit) != run.commit
    if changed or (run.environment_after.get("suite.dirty", "no") == "yes" and not run.is_dirty):
        text = "the suite was changed while a run went on"
        yield Reason(kind="suite commit", text=text, ids=ids)
    if run.thresholds != thresholds.digest:
        text = (
            f"a run was judged by other thresholds ({run.thresholds[:_SHORT]}) than those of the "
            f"release ({thresholds.digest[:_SHORT]})"
        )
        yield Reason(kind="thresholds", text=text, ids=ids)


def _of_commits(commits: Sequence[str]) -> Iterator[Reason]:
    if len(commits) > 1:
        names = ", ".join(commit[:_SHORT] for commit in commits)
        yield Reason(kind="suite commit", text=f"the runs are of different suite commits: {names}")


def _of_repeated(repeated: Mapping[str, tuple[str, ...]]) -> Iterator[Reason]:
    for name, runs in repeated.items():
        text = (
            f"run {len(runs)} times, in {', '.join(runs)}, the worst is shown: a check that is "
            "tried again until it passes is none"
        )
        yield Reason(kind="repeated", text=text, ids=(name,))


def _of_unfounded(records: Iterable[Record], thresholds: Thresholds) -> Iterator[Reason]:
    known = thresholds.cells()
    for record in records:
        if record.verdict.status is not Status.PASS:
            continue
        measured = record.measured()
        if record.cell not in known or measured is None:
            text = "the thresholds of the release have no limits for a check that passed"
            yield Reason(kind="unfounded", text=text, ids=(record.id,))
            continue
        verdict = _verdict_again(record, measured, thresholds)
        if verdict.status is not Status.PASS:
            text = (
                f"recorded as a pass, but what was measured comes to {verdict.status}: "
                f"{verdict.reason}"
            )
            yield Reason(kind="unfounded", text=text, ids=(record.id,))


def _verdict_again(record: Record, measured: Measurement, thresholds: Thresholds) -> Verdict:
    """Judge by the least that the tier asks for, whatever the record says of it."""
    limits, tier = thresholds.limits(record.cell), thresholds.file.tiers.get(record.tier)
    problem = foreign_weights(record, limits.weights)
    if problem is not None:
        return invalid(problem)
    inputs_min, sessions_min = record.inputs_min, record.sessions_min
    if tier is not None:
        inputs_min = max(inputs_min, tier.inputs_for(record.cell))
        sessions_min = max(sessions_min, tier.timing_for(record.cell).sessions_min)
    return rejudge(measured, limits, inputs_min, sessions_min)


def _of_blockers(lines: Sequence[CheckLine]) -> Iterator[Reason]:
    for line in lines:
        for text in line.blockers:
            yield Reason(kind=blocker_kind(text), text=text, ids=(line.id,))
