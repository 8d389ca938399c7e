"""A record's measurement, computed anew from the raw files that the run kept: no device needed.

What no raw file holds is carried over from the record: the facts of an exported file, the ids and
kinds of the parity inputs, and the first divergent node, which is a note.
"""

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from harness import registry
from harness.errors import RecordError, first_line
from harness.measure.accuracy import AccuracyMeasurement, accuracy_measurement
from harness.measure.export import ExportMeasurement
from harness.measure.measurement import Measurement
from harness.measure.parity import ChainScores, ParityMeasurement, parity_measurement
from harness.measure.scores import lowest_score, smallest_normal
from harness.measure.throughput import SessionTiming, ThroughputMeasurement, throughput_measurement
from harness.record.npz import labels_from_npz, predictions_from_npz
from harness.record.record import Record, RunDirectory

T = TypeVar("T")


def measurement_from_raw(record: Record, run: RunDirectory) -> Measurement:
    """Compute what ``record`` measured from its raw files in ``run``.

    Raises:
        RecordError: the record measured nothing, or a raw file is not named, missing, changed or
            unusable.
    """
    measured = record.measured()
    match measured:
        case ExportMeasurement():
            return measured
        case ParityMeasurement():
            return _parity(record, run, measured)
        case AccuracyMeasurement():
            return _accuracy(record, run, measured)
        case ThroughputMeasurement():
            return throughput_measurement(_timings(record, run), record.batch)
        case _:
            raise RecordError(f"{record.id}: nothing was measured, so nothing can be recomputed")


def _parity(record: Record, run: RunDirectory, measured: ParityMeasurement) -> ParityMeasurement:
    scores = _read(_scores, record, run, "scores")
    crops = registry.model_spec(record.model).crop_count
    rows, inputs = len(scores.exact), len(measured.input_ids)
    if rows != inputs * crops:
        raise RecordError(
            f"{record.id}: raw scores have {rows} rows, the {inputs} inputs of the record have "
            f"{inputs * crops}"
        )
    return parity_measurement(
        scores, measured.input_ids, measured.input_counts, measured.first_divergent_node
    )


def _accuracy(
    record: Record, run: RunDirectory, measured: AccuracyMeasurement
) -> AccuracyMeasurement:
    clip_set = _read(labels_from_npz, record, run, "labels")
    preds = _read(predictions_from_npz, record, run, "predictions")
    reference = _read(predictions_from_npz, record, run, "reference")
    spec, precision = (
        registry.model_spec(record.model),
        registry.device_spec(record.device).precision,
    )
    lowest = lowest_score(spec.softmax_in_graph, smallest_normal(precision))
    again = accuracy_measurement(preds, clip_set, reference, lowest)
    # Runs of earlier suites did not compare every clip.
    return again if measured.every_clip else again.model_copy(update={"every_clip": None})


def _timings(record: Record, run: RunDirectory) -> Sequence[SessionTiming]:
    lines = _raw_path(record, run, "latencies").read_bytes().splitlines()
    return [SessionTiming.from_json(line, f"{record.id}: raw latencies") for line in lines]


def _scores(path: Path) -> ChainScores:
    with np.load(path) as arrays:
        return ChainScores(**dict(arrays))


def _read(reader: Callable[[Path], T], record: Record, run: RunDirectory, what: str) -> T:
    path = _raw_path(record, run, what)
    try:
        # NumPy leaves a file open that is no archive; this does not.
        zipfile.ZipFile(path).close()
        return reader(path)
    # What NumPy, and the zip archive below it, say of a file that is not theirs.
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RecordError(f"{record.id}: raw {what} cannot be used: {first_line(error)}") from error


def _raw_path(record: Record, run: RunDirectory, what: str) -> Path:
    """Return the path of a raw file of a record, unchanged since the run."""
    digest = record.raw.get(what)
    if digest is None:
        raise RecordError(
            f"{record.id} names no raw {what}, so its verdict cannot be recomputed: run the check "
            "again with this suite"
        )
    found = sorted((run.root / "raw").glob(f"{digest}.*"))
    if not found:
        raise RecordError(f"{record.id}: raw {what} ({digest}) is missing in {run.root}")
    if hashlib.sha256(found[0].read_bytes()).hexdigest() != digest:
        raise RecordError(f"{found[0]} changed since the run; {record.id} rests on it")
    return found[0]
