"""What keeps a check from ever being signed off, whatever its outcome; each kind with its sentence."""

from collections.abc import Iterator
from enum import StrEnum

from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.measurement import Measurement
from harness.record.record import Record
from harness.spec import Status

UNBOUND = (
    "its records were made before records were bound to their run: they can be judged, and never "
    "signed off"
)
SEEDED = "seeded weights"


class BlockerKind(StrEnum):
    """The kinds; a red or open outcome blocks too, and is shown as itself elsewhere."""

    OUTCOME = "outcome"
    SEEDED = "seeded"
    EMULATED = "emulated"
    PARTIAL = "partial"


class Blocker(Measurement):
    """One thing that keeps a check from being signed off, with its sentence for a person."""

    kind: BlockerKind
    text: str


def blockers_of(record: Record) -> Iterator[Blocker]:
    """Name what blocks a record: by what it holds, then by what it says beside that."""
    found = [*_derived(record)]
    known = {one.text for one in found}
    yield from found
    for text in record.signoff_blockers:
        if text not in known:
            yield Blocker(kind=BlockerKind.PARTIAL, text=text)


def with_blockers(record: Record) -> Record:
    """Return a record that says itself what blocks it."""
    texts = tuple(one.text for one in blockers_of(record))
    return record.model_copy(update={"signoff_blockers": texts})


def _derived(record: Record) -> Iterator[Blocker]:
    status, measured = record.verdict.status, record.measurement
    if status is not Status.PASS:
        yield Blocker(kind=BlockerKind.OUTCOME, text=f"the outcome is {status}")
    if record.weights == "seeded":
        yield Blocker(kind=BlockerKind.SEEDED, text=SEEDED)
    if isinstance(measured, AccuracyMeasurement) and not measured.is_whole:
        text = f"accuracy on a subset of {measured.clip_count} clips"
        yield Blocker(kind=BlockerKind.PARTIAL, text=text)
    if record.is_emulated:
        text = "an emulator answered in the device's place"
        yield Blocker(kind=BlockerKind.EMULATED, text=text)


def tier_blocker(record: Record, tier: str) -> Blocker | None:
    """Name what a run of another tier lacks for ``tier``; None where nothing was tried."""
    if record.tier == tier or record.verdict.status is Status.NOT_RUN:
        return None
    return Blocker(
        kind=BlockerKind.PARTIAL,
        text=f"run in the {record.tier} tier, on fewer inputs or for less time than the {tier} "
        "tier asks for",
    )
