"""What the driver makes of the shards of an accuracy check, in a process of its own.

All scores of a cell, the device's and PyTorch's, are in memory only there.
"""

import io
from collections.abc import Sequence

from harness.clips import ClipSet, Predictions
from harness.data.strips import strips_from_flips
from harness.farm.kept import KeptParts
from harness.farm.orders import Merged, Shard, Survey, What
from harness.measure.accuracy import accuracy_measurement
from harness.predict.shards import merged
from harness.record.npz import accuracy_files, labels_from_npz
from harness.record.record import RunDirectory


def merge(run: RunDirectory, kept: KeptParts, survey: Survey, shards: Sequence[Shard]) -> Merged:
    """Merge the shards of the device and of PyTorch, keep both in the run, and compare them.

    Raises:
        ClipError: clips are missing, foreign or duplicated.
        RecordError: a file cannot be written.
    """
    clip_set = labels_from_npz(io.BytesIO(survey.labels))
    preds = _merged(kept, shards, "predictions", clip_set)
    reference = _merged(kept, shards, "reference", clip_set)
    measurement = accuracy_measurement(preds, clip_set, reference, survey.lowest_score)
    files = accuracy_files(preds, reference, clip_set)
    raw = {name: run.keep(*file) for name, file in files.items()}
    flips = () if measurement.paired is None else measurement.paired.flips
    return Merged(measurement, raw, strips_from_flips(flips, clip_set, (preds, reference)))


def _merged(kept: KeptParts, shards: Sequence[Shard], what: What, clip_set: ClipSet) -> Predictions:
    parts = (kept.predictions(shard) for shard in shards if shard.what == what)
    return merged([part for part in parts if part is not None], clip_set)
