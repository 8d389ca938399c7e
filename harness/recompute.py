"""A record's measurement, computed anew from the raw files that the run kept: no device needed.

What no raw file holds is carried over from the record: the facts of an exported file, the ids and
kinds of the parity inputs, and the first divergent node, which is a note.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.accuracy import AccuracyMeasurement, accuracy_measurement
from harness.errors import RecordError
from harness.export_facts import ExportMeasurement
from harness.measurement import Measurement
from harness.parity import ChainScores, ParityMeasurement, parity_measurement
from harness.records import Record, RunDirectory
from harness.spec import Check, Clip, ClipSet, Predictions
from harness.throughput import SessionTiming, ThroughputMeasurement, throughput_measurement

if TYPE_CHECKING:
    import numpy.typing as npt

# What of each check's measurement no raw file holds, so that it stands as the record has it.
CARRIED_OVER: Mapping[Check, str] = {
    "export": "the facts of the ONNX file: verifying them takes the file itself",
    "parity": "ids and kinds of the inputs, first divergent node",
    "accuracy": "",
    "throughput": "",
}


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
            return _accuracy(record, run)
        case ThroughputMeasurement():
            return throughput_measurement(_timings(record, run), record.batch)
        case _:
            raise RecordError(f"{record.id}: nothing was measured, so nothing can be recomputed")


def _parity(record: Record, run: RunDirectory, measured: ParityMeasurement) -> ParityMeasurement:
    arrays = _arrays(record, run, "scores")
    try:
        scores = ChainScores(**arrays)
    except TypeError as error:
        raise _unusable(record, "scores", f"it holds {', '.join(arrays) or 'nothing'}") from error
    crops = registry.model_spec(record.model).crop_count
    rows, inputs = len(scores.exact), len(measured.input_ids)
    if rows != inputs * crops:
        raise _unusable(
            record, "scores", f"{rows} rows for {inputs} inputs of {crops} crop(s) in the record"
        )
    return parity_measurement(
        scores, measured.input_ids, measured.input_counts, measured.first_divergent_node
    )


def _accuracy(record: Record, run: RunDirectory) -> AccuracyMeasurement:
    clip_set = _labelled_clips(record, run)
    preds, reference = (_predictions(record, run, what) for what in ("predictions", "reference"))
    return accuracy_measurement(preds, clip_set, reference)


def _predictions(record: Record, run: RunDirectory, what: str) -> Predictions:
    arrays = _arrays(record, run, what)
    try:
        ids, reasons = arrays["unreadable_ids"].tolist(), arrays["unreadable_reasons"].tolist()
        return Predictions(
            tuple(arrays["clip_ids"].tolist()),
            arrays["scores"],
            dict(zip(ids, reasons, strict=True)),
        )
    except (KeyError, ValueError) as error:
        raise _unusable(record, what, str(error)) from error


def _labelled_clips(record: Record, run: RunDirectory) -> ClipSet:
    raise NotImplementedError


def _timings(record: Record, run: RunDirectory) -> Sequence[SessionTiming]:
    content = _raw(record, run, "latencies")
    where = f"{record.id}: raw latencies"
    return [SessionTiming.from_json(line, where) for line in content.splitlines()]


def _arrays(record: Record, run: RunDirectory, what: str) -> dict[str, "npt.NDArray[Any]"]:
    import numpy as np

    try:
        with np.load(io.BytesIO(_raw(record, run, what)), allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise _unusable(record, what, str(error)) from error


def _raw(record: Record, run: RunDirectory, what: str) -> bytes:
    if what not in record.raw:
        raise RecordError(
            f"{record.id} names no raw {what}, so its verdict cannot be recomputed: run the check "
            "again with this suite"
        )
    found = sorted((run.root / "raw").glob(f"{record.raw[what]}.*"))
    if not found:
        raise RecordError(f"{record.id}: raw {what} ({record.raw[what]}) is missing in {run.root}")
    content = found[0].read_bytes()
    if hashlib.sha256(content).hexdigest() != record.raw[what]:
        raise RecordError(f"{found[0]} changed since the run; {record.id} rests on it")
    return content


def _unusable(record: Record, what: str, why: str) -> RecordError:
    return RecordError(f"{record.id}: raw {what} cannot be used: {why}")
