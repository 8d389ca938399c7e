"""How far the device's scores are from PyTorch's on every clip of an accuracy run, and on which most.

Counts of right answers hide a single wrong answer among thousands; its own scores do not.
"""

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
    rows: "npt.NDArray[np.int64]",
    lowest_score: float,
) -> EveryClip:
    """Compare the device's scores of clips with PyTorch's, a chunk at a time.

    ``rows`` [2, clip] has the row of each clip in ``actual`` and in ``expected``. Both sides are raised to
    ``lowest_score``, the lowest that the device can tell.
    """
    count = rows.shape[1]
    if not count or actual.scores.shape[1:] != expected.scores.shape[1:]:
        return EveryClip(compared=0)
    top = _Top(count * actual.scores[0].size)
    parts = (rows[:, start : start + CHUNK_CLIPS] for start in range(0, count, CHUNK_CLIPS))
    distances = [
        _distances(actual.scores[ours], expected.scores[theirs], lowest_score, top)
        for ours, theirs in parts
    ]
    largest, relative = np.concatenate(distances, axis=1)

    def distance(place: int) -> ClipDistance:
        return ClipDistance(
            clip_id=actual.clip_ids[rows[0, place]],
            max_abs_error=float(largest[place]),
            relative_l2=float(relative[place]),
        )

    return EveryClip(
        compared=count,
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


def _distances(actual: "Array", expected: "Array", lowest_score: float, top: _Top) -> "Array":
    """Return the largest error and the relative L2 of each clip of a chunk, [2, clip].

    Scores are [clip, crop, class].
    """
    ours, theirs = (np.maximum(one, lowest_score, dtype=float) for one in (actual, expected))
    error = np.abs(ours - theirs).reshape(len(theirs), -1)
    top.add(error)
    table = centred(theirs.reshape(-1, theirs.shape[2])).reshape(error.shape)
    norms, off = (np.sqrt(np.einsum("ij,ij->i", one, one)) for one in (table, error))
    relative = np.divide(off, norms, out=off.copy(), where=norms > 0.0)
    return np.stack([error.max(axis=1), relative])
