"""A record's measurement, computed anew from the raw files that the run kept: no device needed.

What no raw file holds is taken from the record: the facts of an exported file, the ids and kinds of
the parity inputs, and the first divergent node, which is a note.
"""

import dataclasses
import functools
import io
import itertools
import json
import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from harness.clips import ClipSet
from harness.errors import HarnessError, RecordError, first_line, refusal
from harness.host.reading import arrays_from_npz
from harness.host.suite_code import UNKNOWN
from harness.measure.accuracy import AccuracyMeasurement, Answers, joined, measured_beside
from harness.measure.export import ExportMeasurement
from harness.measure.measurement import Measurement
from harness.measure.parity import ChainScores, ParityMeasurement, parity_measurement
from harness.measure.repeats import repeats_from_arrays
from harness.measure.soak import SoakMeasurement, soak_measurement
from harness.measure.soak_lines import soak_lines
from harness.measure.startup import StartTiming, StartupMeasurement, startup_measurement
from harness.measure.throughput import SessionTiming, ThroughputMeasurement, throughput_measurement
from harness.record.npz import labels_from_npz, predictions_from_npz
from harness.record.record import Record, RunDirectory

T = TypeVar("T")
M = TypeVar("M", bound=Measurement)
Reader = Callable[[io.BytesIO], T]
# Sums of float64 may round otherwise on another machine; what an edit changes is far larger.
RELATIVE = 1e-9
ABSOLUTE = 1e-12
# Hashing and NumPy leave Python's lock, the rest does not: more threads wait for one another.
THREADS = 2
SHARED = ("labels", "reference")
# The raw files that a measurement is computed from; the others, such as frames, are for the page.
COMPUTED: Mapping[str, Collection[str]] = {
    "export": (),
    "parity": ("scores",),
    "accuracy": ("predictions", *SHARED),
    "throughput": ("latencies",),
    "startup": ("starts",),
    "soak": ("soak",),
}
_LOCK = threading.Lock()


def founded_records(run: RunDirectory) -> list[Record]:
    """Read the records of a run whose measurements all follow from its raw files.

    Raises:
        RecordError: the run cannot be read, or a measurement does not follow; each is named.
    """
    # Each raw file is read once, where its measurement is computed.
    records = run.bound_records()
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda record: measurement_problems(record, run), records)
        problems = list(itertools.chain.from_iterable(found))
    if problems:
        problems.append(made_by(run.facts().environment.get("suite.commit", UNKNOWN)))
        raise RecordError(refusal(f"{run.root} does not hold", problems))
    return records


def made_by(commit: str) -> str:
    """Say what else may be the reason why something does not follow."""
    return f"made by suite {commit}; one of another commit may judge otherwise"


def measurement_from_raw(record: Record, run: RunDirectory) -> Measurement:
    """Compute what ``record`` measured from its raw files in ``run``.

    Raises:
        RecordError: the record measured nothing, or a raw file is not named, missing, changed or
            unusable.
    """
    match record.measurement:
        case ExportMeasurement() as measured:
            return measured
        case ParityMeasurement() as measured:
            return _parity(record, run, measured)
        case AccuracyMeasurement() as measured:
            return _accuracy(record, run, measured)
        case ThroughputMeasurement() as measured:
            again = throughput_measurement(session_timings(record, run), record.batch)
            # Earlier suites pooled the queries of all sessions for percentiles, which decide nothing.
            is_alike = measured.percentiles_by_session
            return again if is_alike else again.with_percentiles_of(measured)
        case StartupMeasurement():
            return startup_measurement(start_timings(record, run), record.batch)
        case SoakMeasurement():
            return soak_measurement(soak_lines(run.read(record, "soak")), record.batch)
        case None:
            raise RecordError(f"{record.id}: nothing was measured, so nothing can be recomputed")


def session_timings(record: Record, run: RunDirectory) -> list[SessionTiming]:
    """Read the raw times behind a throughput record.

    Raises:
        RecordError: they are not named, missing, changed or damaged.
    """
    return _lines(SessionTiming, record, run, "latencies")


def start_timings(record: Record, run: RunDirectory) -> list[StartTiming]:
    """Read the raw figures behind a startup record.

    Raises:
        RecordError: they are not named, missing, changed or damaged.
    """
    return _lines(StartTiming, record, run, "starts")


def measurement_problems(record: Record, run: RunDirectory) -> list[str]:
    """Say where the measurement of a record does not follow from its raw files."""
    used = () if record.measurement is None else COMPUTED[record.check]
    try:
        for what in record.raw.keys() - used:
            run.read(record, what)
        if record.measurement is None:
            return []
        again = measurement_from_raw(record, run)
    except (HarnessError, ValueError) as error:
        return [str(error) if record.id in str(error) else f"{record.id}: {error}"]
    if again == record.measurement:
        return []
    ours, theirs = (one.model_dump(mode="json") for one in (again, record.measurement))
    return [
        f"{record.id}: the record does not follow from its raw files: {difference}"
        for difference in differences(ours, theirs, "measurement")
    ]


def _parity(record: Record, run: RunDirectory, measured: ParityMeasurement) -> ParityMeasurement:
    scores = _arrays(_scores, record, run, "scores")
    rows, inputs = len(scores.exact), len(measured.input_ids)
    if not inputs or rows % inputs:
        raise RecordError(
            f"{record.id}: {rows} rows of raw scores do not belong to the {inputs} inputs of the "
            "record"
        )
    again = parity_measurement(
        *(scores, measured.input_ids, measured.input_counts, measured.clip_count),
        measured.reference,
    )
    update: dict[str, object] = {"first_divergent_node": measured.first_divergent_node}
    if "repeats" in record.raw:
        update["repeats"] = repeats_from_arrays(_arrays(arrays_from_npz, record, run, "repeats"))
    return again.model_copy(update=update)


def _accuracy(
    record: Record, run: RunDirectory, measured: AccuracyMeasurement
) -> AccuracyMeasurement:
    every_clip = measured.every_clip
    lowest = None if every_clip is None else every_clip.lowest_score
    # A cache calls its function for each thread that asks before the first answer.
    with _LOCK:
        clip_set, expected = _beside(_Shared(record, run, *map(record.raw.get, SHARED)))
    preds = _arrays(predictions_from_npz, record, run, "predictions")
    again = measured_beside(expected, preds, clip_set, -np.inf if lowest is None else lowest)
    # Runs of earlier suites did not compare every clip.
    return again if every_clip else again.model_copy(update={"every_clip": None})


@dataclasses.dataclass(frozen=True)
class _Shared:
    """What every batch size and device of a model is held against: equal where the files are."""

    record: Record = dataclasses.field(compare=False)
    run: RunDirectory
    labels: str | None
    reference: str | None


@functools.lru_cache(maxsize=4)
def _beside(shared: _Shared) -> tuple[ClipSet, Answers]:
    record, run = shared.record, shared.run
    clip_set = _arrays(labels_from_npz, record, run, "labels")
    return clip_set, joined(_arrays(predictions_from_npz, record, run, "reference"), clip_set)


def _lines(kind: type[M], record: Record, run: RunDirectory, what: str) -> list[M]:
    lines = run.read(record, what).splitlines()
    return [kind.from_json(line, f"{record.id}: raw {what}") for line in lines]


def _scores(source: io.BytesIO) -> ChainScores:
    return ChainScores(**arrays_from_npz(source))


def _arrays(reader: Reader[T], record: Record, run: RunDirectory, what: str) -> T:
    content = run.read(record, what)
    try:
        return reader(io.BytesIO(content))
    except (ValueError, TypeError, KeyError) as error:
        raise RecordError(f"{record.id}: raw {what} cannot be used: {first_line(error)}") from error


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
