"""Whether the records of a run follow from its raw files, under the thresholds kept with it."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence

import pydantic

from harness.contract.thresholds import Thresholds, stored_thresholds
from harness.decide.rejudge import verdict_on
from harness.errors import HarnessError, RecordError
from harness.host.environment import UNKNOWN
from harness.measure.measurement import Measurement
from harness.record.recompute import measurement_from_raw
from harness.record.record import Record, RunDirectory, RunFacts
from harness.spec import Status

# Sums of float64 may round otherwise on another machine; what an edit changes is far larger.
RELATIVE = 1e-9
ABSOLUTE = 1e-12
# What a check may come to without having measured anything.
UNMEASURED = frozenset({Status.NOT_RUN, Status.ERROR, Status.INVALID})
DOES_NOT_FOLLOW = "the record does not follow from its raw files"


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


def evidence_problems(run: RunDirectory) -> list[str]:
    """Say everything in the records of a run that its raw files do not bear out."""
    try:
        thresholds, facts, records = kept_thresholds(run), run.facts(), run.records()
    except HarnessError as error:
        return [str(error)]
    found = [problem for record in records for problem in _problems(record, run, facts, thresholds)]
    if any(DOES_NOT_FOLLOW in problem for problem in found):
        commit = facts.environment.get("suite.commit", UNKNOWN)
        found.append(
            f"{run.root}: made by suite {commit}; one of another commit may judge otherwise"
        )
    return [*found, *_mixed_subjects(records)]


def _problems(
    record: Record, run: RunDirectory, facts: RunFacts, thresholds: Thresholds
) -> Iterator[str]:
    yield from _context_problems(record, facts, thresholds)
    if record.measurement is None:
        if record.verdict.status not in UNMEASURED:
            yield f"{record.id}: it is said to {record.verdict.status}, but nothing was measured"
        return
    try:
        measurement = measurement_from_raw(record, run)
        verdict = verdict_on(record, measurement, thresholds)
    except (HarnessError, ValueError) as error:
        yield str(error) if record.id in str(error) else f"{record.id}: {error}"
        return
    for place, ours in (("measurement", measurement), ("verdict", verdict)):
        theirs = record.measurement if place == "measurement" else plain(record.verdict)
        for difference in differences(plain(ours), theirs, place):
            yield f"{record.id}: {DOES_NOT_FOLLOW}: {difference}"


def _context_problems(record: Record, facts: RunFacts, thresholds: Thresholds) -> Iterator[str]:
    """Name what a record says of its run and cannot be so."""
    if record.tier != facts.tier:
        yield f"{record.id}: it is of tier {record.tier}, the run of {facts.tier}"
    judged_by = record.subjects.get("thresholds", thresholds.digest)
    if judged_by != thresholds.digest:
        yield f"{record.id}: it was judged by other thresholds ({judged_by}) than the run"
    if record.verdict.status is Status.PASS and not record.is_device_present:
        yield f"{record.id}: a pass on a device that was not there"
    for blocker in _missing_blockers(record):
        yield f"{record.id}: it leaves out what keeps it from being signed off: {blocker}"


def _missing_blockers(record: Record) -> list[str]:
    expected = []
    if record.verdict.status is not Status.PASS:
        expected.append(f"the outcome is {record.verdict.status}")
    if record.weights == "seeded":
        expected.append("seeded weights")
    if record.is_emulated:
        expected.append("an emulator answered in the device's place")
    return [blocker for blocker in expected if blocker not in record.signoff_blockers]


def _mixed_subjects(records: Sequence[Record]) -> Iterator[str]:
    """Name artifacts that two checks of one cell were not made of in common."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for record in records:
        for kind, digest in record.subjects.items():
            known, name = first.setdefault((record.cell.id, kind), (digest, record.id))
            if known != digest:
                yield f"{record.id}: its {kind} is not that of {name}: {digest}, {known}"


def plain(value: Measurement) -> pydantic.JsonValue:
    """Return a value as JSON has it."""
    found: pydantic.JsonValue = json.loads(value.model_dump_json())
    return found


def differences(ours: object, theirs: object, where: str) -> Iterator[str]:
    """Name where two JSON values differ by more than rounding."""
    match ours, theirs:
        case Mapping(), Mapping():
            for key in sorted({*ours, *theirs}):
                yield from differences(ours.get(key), theirs.get(key), f"{where}.{key}")
        case list() | tuple(), list() | tuple() if len(ours) == len(theirs):
            for place, pair in enumerate(zip(ours, theirs, strict=True)):
                yield from differences(*pair, f"{where}[{place}]")
        case float(), float() if math.isclose(ours, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            return
        case _ if ours != theirs or type(ours) is not type(theirs):
            yield f"{where} is {_short(theirs)}, comes to {_short(ours)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]} …"
