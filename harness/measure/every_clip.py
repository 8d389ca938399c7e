"""How far the device's scores are from PyTorch's on every clip of an accuracy run, and on which most.

Counts of right answers hide a single wrong answer among thousands; its own scores do not.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.clips import Predictions
from harness.measure.measurement import Measurement
from harness.measure.parity import QUANTILE, centred
from harness.measure.scores import CHUNK_CLIPS

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NAMED_CLIPS = 16


class ClipDistance(Measurement):
    """How far the scores of one clip, all its crops together, are from PyTorch's.

    ``relative_l2`` is the norm of the difference over the norm of PyTorch's scores less their row
    mean; where those are all flat, the norm of the difference itself.
    """

    clip_id: str
    max_abs_error: float
    relative_l2: float


class EveryClip(Measurement):
    """The device beside PyTorch on all clips that both have answered.

    Attributes:
        compared: how many clips those are.
        p999_abs_error: 99.9th percentile of the absolute difference over all their scores.
        farthest: the clips with the largest relative L2, the largest first.
        largest_error: the clip with the largest absolute difference.
        lowest_score: that both sides were raised to, as the device cannot tell lower ones apart; None
            of logits.
    """

    compared: int
    p999_abs_error: float | None = None
    farthest: tuple[ClipDistance, ...] = ()
    largest_error: ClipDistance | None = None
    lowest_score: float | None = None


def compare_every_clip(
    actual: Predictions,
    expected: Predictions,
    rows: Sequence[tuple[int, int]],
    lowest_score: float,
) -> EveryClip:
    """Compare the scores of clips, a chunk at a time.

    Args:
        actual: what the device says.
        expected: what PyTorch says.
        rows: of each clip compared, its row in ``actual`` and in ``expected``.
        lowest_score: the lowest that the device can tell; both sides are raised to it.
    """
    if not rows or actual.scores.shape[1:] != expected.scores.shape[1:]:
        return EveryClip(compared=0)
    ours, theirs = np.asarray(rows, dtype=np.int64).T
    top = _Top(len(rows) * actual.scores[0].size)
    distances = [
        _distances(wanted, error, top)
        for wanted, error in _chunks(actual, expected, (ours, theirs), lowest_score)
    ]
    largest, relative = np.concatenate(distances, axis=1)

    def distance(place: int) -> ClipDistance:
        return ClipDistance(
            clip_id=actual.clip_ids[ours[place]],
            max_abs_error=float(largest[place]),
            relative_l2=float(relative[place]),
        )

    return EveryClip(
        compared=len(rows),
        p999_abs_error=top.smallest(),
        farthest=tuple(
            distance(place) for place in np.argsort(-relative, kind="stable")[:NAMED_CLIPS]
        ),
        largest_error=distance(int(largest.argmax())),
        lowest_score=float(lowest_score) if np.isfinite(lowest_score) else None,
    )


class _Top:
    """Collects the largest of ``count`` values, as many as lie at or above their 99.9th percentile."""

    def __init__(self, count: int) -> None:
        self._kept = count - int(np.ceil(QUANTILE * (count - 1)))
        self._values: npt.NDArray[np.float64] = np.empty(0)

    def add(self, values: "npt.NDArray[np.float64]") -> None:
        values = values.ravel()
        if len(self._values) == self._kept:
            values = values[values > self._values.min()]
        values = np.concatenate([self._values, values])
        cut = max(0, len(values) - self._kept)
        self._values = np.partition(values, cut)[cut:] if cut else values

    def smallest(self) -> float:
        return float(self._values.min())


def _chunks(
    actual: Predictions,
    expected: Predictions,
    rows: tuple["Array", "Array"],
    lowest_score: float,
) -> Iterator[tuple["Array", "Array"]]:
    """Yield PyTorch's scores [clip, crop, class] and the absolute difference from them."""
    for start in range(0, len(rows[0]), CHUNK_CLIPS):
        ours, theirs = (
            np.maximum(preds.scores[taken[start : start + CHUNK_CLIPS]], lowest_score, dtype=float)
            for preds, taken in zip((actual, expected), rows, strict=True)
        )
        yield theirs, np.abs(ours - theirs)


def _distances(expected: "Array", error: "Array", top: _Top) -> "Array":
    """Return the largest error and the relative L2 of each clip of a chunk, [2, clip]."""
    top.add(error)
    clips = len(error)
    table = centred(expected.reshape(-1, expected.shape[2])).reshape(clips, -1)
    norms, off = (np.linalg.norm(one, axis=1) for one in (table, error.reshape(clips, -1)))
    relative = np.divide(off, norms, out=off.copy(), where=norms > 0.0)
    return np.stack([error.max(axis=(1, 2)), relative])
