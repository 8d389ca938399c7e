"""What lies below a line of the report: the measurement and the raw files behind it."""

import dataclasses
import io
from collections import Counter
from collections.abc import Iterable, Sequence

from harness.language import _
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.export import ExportMeasurement
from harness.measure.parity import ParityMeasurement
from harness.measure.soak import SoakMeasurement
from harness.measure.soak_lines import SoakLine, soak_lines
from harness.measure.startup import StartupMeasurement
from harness.measure.strips import Strips
from harness.measure.throughput import SessionTiming, ThroughputMeasurement
from harness.record.npz import labels_from_npz
from harness.record.recompute import session_timings
from harness.record.record import Record, RunDirectory
from harness.record.stints import Stint, stints_of


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Of one cell; what was not measured is None, or empty."""

    export: ExportMeasurement | None = None
    parity: ParityMeasurement | None = None
    accuracy: AccuracyMeasurement | None = None
    throughput: ThroughputMeasurement | None = None
    sessions: tuple[SessionTiming, ...] = ()
    strips: Strips | None = None
    class_names: tuple[str, ...] = ()
    startup: StartupMeasurement | None = None
    soak: SoakMeasurement | None = None
    soak_lines: tuple[SoakLine, ...] = ()
    stints: tuple[Stint, ...] = ()


@dataclasses.dataclass(frozen=True)
class Mover:
    """A class whose count of right clips differs between device and PyTorch."""

    label: int
    clips: int
    reference_right: int
    device_right: int

    @property
    def change(self) -> int:
        """Clips that the device gains, negative where it loses."""
        return self.device_right - self.reference_right


def evidence_from_records(
    records: Iterable[Record], runs: Sequence[RunDirectory]
) -> dict[str, Evidence]:
    """Return the evidence by cell.

    Raises:
        RecordError: a measurement or a raw file is not what its check leaves.
    """
    by_id = {run.facts().run_id: run for run in runs}
    found: dict[str, Evidence] = {}
    for record in records:
        known, run = found.get(record.cell.id, Evidence()), by_id[record.run_id]
        known = dataclasses.replace(known, stints=known.stints + stints_of(record, run))
        found[record.cell.id] = _with(known, record, run)
    return found


def _with(known: Evidence, record: Record, run: RunDirectory) -> Evidence:
    match record.measurement:
        case ExportMeasurement() as export:
            return dataclasses.replace(known, export=export)
        case ParityMeasurement() as parity:
            return dataclasses.replace(known, parity=parity)
        case AccuracyMeasurement() as accuracy:
            strips, names = _strips(record, run), _class_names(record, run)
            return dataclasses.replace(known, accuracy=accuracy, strips=strips, class_names=names)
        case ThroughputMeasurement() as throughput:
            sessions = tuple(session_timings(record, run))
            return dataclasses.replace(known, throughput=throughput, sessions=sessions)
        case StartupMeasurement() as startup:
            return dataclasses.replace(known, startup=startup)
        case SoakMeasurement() as soak:
            lines = tuple(soak_lines(run.read(record, "soak")))
            return dataclasses.replace(known, soak=soak, soak_lines=lines)
        case _:
            return known


def _strips(record: Record, run: RunDirectory) -> Strips | None:
    if "strips" not in record.raw:
        return None
    return Strips.from_json(run.read(record, "strips"), f"{record.id}: raw strips")


def _class_names(record: Record, run: RunDirectory) -> tuple[str, ...]:
    if "labels" not in record.raw:
        return ()
    return labels_from_npz(io.BytesIO(run.read(record, "labels"))).class_names


def movers(measured: AccuracyMeasurement) -> tuple[Mover, ...]:
    """Return the classes that gain or lose right clips against PyTorch, the worst first."""
    if measured.paired is None:
        return ()
    right: Counter[int] = Counter()
    clips: Counter[int] = Counter()
    for label, best, count in measured.confusion:
        clips[label] += count
        right[label] += count if label == best else 0
    change: Counter[int] = Counter()
    for flip in measured.paired.flips:
        change[flip.label] += flip.device_class == flip.label
        change[flip.label] -= flip.reference_class == flip.label
    found = [
        Mover(label, clips[label], right[label] - delta, right[label])
        for label, delta in change.items()
        if delta
    ]
    return tuple(sorted(found, key=lambda mover: (mover.change, mover.label)))


def confused(measured: AccuracyMeasurement, most: int = 12) -> tuple[tuple[int, int, int], ...]:
    """Return the largest entries off the diagonal: label, best class, clips."""
    wrong = [entry for entry in measured.confusion if entry[0] != entry[1]]
    return tuple(sorted(wrong, key=lambda entry: (-entry[2], entry[0], entry[1]))[:most])


def class_name(number: int, found: Evidence) -> str:
    """Return the name of a class, with its number; the number alone where no run kept the name."""
    if number < 0:
        return _("no answer or a tie")
    names = {str(place): name for place, name in enumerate(found.class_names)}
    names |= {} if found.strips is None else found.strips.class_names
    if str(number) in names:
        return f"{names[str(number)]} ({number})"
    return _("class {n}").format(n=number)
