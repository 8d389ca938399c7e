"""Predictions, labels and arrays as .npz files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.clips import Clip, ClipSet, Predictions
from harness.host.reading import arrays_from_npz


def npz_from_arrays(**arrays: npt.NDArray[Any]) -> bytes:
    """Return arrays as one file.

    It is not compressed: the low bits of scores are noise, of which a tenth would go, and judging a
    run again would take twice as long.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npz_from_predictions(preds: Predictions) -> bytes:
    """Return predictions as one file."""
    # As in files of earlier suites, nothing stands for the usual averaging.
    averaging = {} if preds.averaging == "prob" else {"averaging": np.array(preds.averaging)}
    return npz_from_arrays(
        **averaging,
        clip_ids=np.array(preds.clip_ids, dtype=str),
        scores=preds.scores,
        unreadable_ids=np.array(list(preds.unreadable), dtype=str),
        unreadable_reasons=np.array(list(preds.unreadable.values()), dtype=str),
    )


def npz_from_labels(clip_set: ClipSet) -> bytes:
    """Return what predictions are scored against: clip ids, labels, classes, and of which set."""
    return npz_from_arrays(
        name=np.array(clip_set.name),
        digest=np.array(clip_set.digest),
        is_whole=np.array(clip_set.is_whole),
        clip_ids=np.array([clip.id for clip in clip_set.clips], dtype=str),
        labels=np.array([clip.label for clip in clip_set.clips], dtype=np.int64),
        class_names=np.array(clip_set.class_names, dtype=str),
    )


def accuracy_files(
    preds: Predictions, reference: Predictions, clip_set: ClipSet
) -> dict[str, tuple[bytes, str]]:
    """Return the raw files that an accuracy measurement follows from, each with its suffix."""
    return {
        "predictions": (npz_from_predictions(preds), ".npz"),
        "reference": (npz_from_predictions(reference), ".npz"),
        "labels": (npz_from_labels(clip_set), ".npz"),
    }


def labels_from_npz(source: Path | io.BytesIO) -> ClipSet:
    """Read what ``npz_from_labels`` wrote; the clips have no files."""
    arrays, nowhere = arrays_from_npz(source), Path()
    pairs = zip(arrays["clip_ids"].tolist(), arrays["labels"].tolist(), strict=True)
    return ClipSet(
        name=str(arrays["name"]),
        clips=tuple(Clip(name, nowhere, label) for name, label in pairs),
        class_names=tuple(arrays["class_names"].tolist()),
        digest=str(arrays["digest"]),
        is_whole=bool(arrays["is_whole"]),
    )


def predictions_from_npz(source: Path | io.BytesIO) -> Predictions:
    """Read what ``npz_from_predictions`` wrote."""
    arrays = arrays_from_npz(source)
    names, reasons = (arrays[f"unreadable_{what}"].tolist() for what in ("ids", "reasons"))
    averaging: Any = str(arrays["averaging"]) if "averaging" in arrays else "prob"
    ids, unreadable = tuple(arrays["clip_ids"].tolist()), dict(zip(names, reasons, strict=True))
    return Predictions(ids, arrays["scores"], unreadable, averaging)
