"""Whether the verdicts of a run follow from what it measured, under the thresholds kept with it."""

from collections.abc import Iterator, Sequence

from harness.contract.thresholds import Thresholds, stored_thresholds
from harness.decide.blockers import UNBOUND
from harness.decide.rejudge import verdict_again
from harness.errors import HarnessError, RecordError
from harness.host.suite_code import UNKNOWN
from harness.record.recompute import differences, made_by
from harness.record.record import Record, RunDirectory, RunFacts
from harness.spec import Status

# What a check may come to without having measured anything.
UNMEASURED = frozenset({Status.NOT_RUN, Status.ERROR, Status.INVALID})

UNFOUNDED = "the verdict does not follow from what was measured"


def kept_thresholds(run: RunDirectory) -> Thresholds:
    """Read the contract that a run was judged by, from the run itself.

    Raises:
        RecordError: it is not the one that ``run.json`` names.
        ThresholdsError: it is missing or malformed.
    """
    thresholds = stored_thresholds(run.root / "thresholds.toml")
    named = run.facts().thresholds_digest
    if thresholds.digest != named:
        raise RecordError(f"{thresholds.path} is not the contract that run.json names ({named})")
    return thresholds


def evidence_problems(
    run: RunDirectory, records: Sequence[Record], thresholds: Thresholds
) -> list[str]:
    """Say everything in the records of a run that keeps it from being signed.

    Args:
        run: whose records are bound to it, or the first problem says so.
        records: of the run, each measurement recomputed from its raw files.
        thresholds: that are kept with it.
    """
    facts = run.facts()
    found = [problem for record in records for problem in _problems(record, facts, thresholds)]
    if any(UNFOUNDED in problem for problem in found):
        commit = facts.environment.get("suite.commit", UNKNOWN)
        found.append(f"{run.root}: {made_by(commit)}")
    unbound = [] if facts.nonce else [f"{run.root}: {UNBOUND}"]
    return [*unbound, *found, *_mixed_subjects(records)]


def _problems(record: Record, facts: RunFacts, thresholds: Thresholds) -> Iterator[str]:
    yield from _context_problems(record, facts, thresholds)
    if record.measurement is None:
        if record.verdict.status not in UNMEASURED:
            yield f"{record.id}: its verdict is {record.verdict.status}, but nothing was measured"
        return
    try:
        verdict = verdict_again(record, thresholds)
    except (HarnessError, ValueError) as error:
        yield str(error) if record.id in str(error) else f"{record.id}: {error}"
        return
    ours, theirs = (one.model_dump(mode="json") for one in (verdict, record.verdict))
    for difference in differences(ours, theirs, "verdict"):
        yield f"{record.id}: {UNFOUNDED}: {difference}"


def _context_problems(record: Record, facts: RunFacts, thresholds: Thresholds) -> Iterator[str]:
    """Name what a record says of its run and cannot be so."""
    if record.tier != facts.tier:
        yield f"{record.id}: it is of tier {record.tier}, the run of {facts.tier}"
    judged_by = record.subjects.get("thresholds", thresholds.digest)
    if judged_by != thresholds.digest:
        yield f"{record.id}: it was judged by other thresholds ({judged_by}) than the run"


def _mixed_subjects(records: Sequence[Record]) -> Iterator[str]:
    """Name artifacts that two checks of one cell do not have in common."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for record in records:
        for kind, digest in record.subjects.items():
            known, name = first.setdefault((record.cell.id, kind), (digest, record.id))
            if known != digest:
                yield f"{record.id}: its {kind} is not that of {name}: {digest}, {known}"
