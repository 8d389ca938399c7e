"""Scores of a model: logits, or log-probabilities where its graph ends in a softmax."""

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.spec import Averaging

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array = npt.NDArray[Any]

FLOAT32_SMALLEST_NORMAL = float(np.finfo(np.float32).smallest_normal)
FLOAT16_SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
# Rows that differ by no more than float32 rounds are the same row.
SAME_ROW_RELATIVE = 4.0 * float(np.finfo(np.float32).eps)
NO_CLASS = -1
# So many clips of 400 classes fit into a processor's cache.
CHUNK_CLIPS = 256


def smallest_normal(precision: str) -> float:
    """Return the probability below which a device of a precision, fp32 or fp16, tells nothing."""
    return FLOAT16_SMALLEST_NORMAL if precision == "fp16" else FLOAT32_SMALLEST_NORMAL


def lowest_score(softmax_in_graph: bool, smallest: float) -> float:
    """Return the lowest score that a device can tell from lower ones; -inf for logits."""
    return float(np.log(smallest)) if softmax_in_graph else -np.inf


def log_probabilities(
    probabilities: "Array", smallest: float = FLOAT32_SMALLEST_NORMAL
) -> "npt.NDArray[np.float64]":
    """Return the logarithm of probabilities, clamped from below at ``log(smallest)``.

    A softmax in the graph underflows to zero where its logit is far below the best; one runtime
    flushes such values, another keeps them. Below the smallest normal float32 (log = -87.3) they
    carry no information either way, so both the actual and the expected side are clamped there.
    Where a device computes the softmax in fp16, both are clamped at ``FLOAT16_SMALLEST_NORMAL``
    (log = -9.7). A negative value is not a probability: it becomes NaN, and the check fails.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    logarithms: npt.NDArray[np.float64] = np.log(np.maximum(values, smallest))
    return np.where(values < 0.0, np.nan, logarithms)


def scores_from_output(
    output: "Array", softmax_in_graph: bool, smallest: float = FLOAT32_SMALLEST_NORMAL
) -> "Array":
    """Return what is compared and scored: logits as they are, probabilities as their logarithm.

    The shape is kept; float64 stays float64, anything else becomes float32.
    """
    dtype = np.float64 if output.dtype == np.float64 else np.float32
    if not softmax_in_graph:
        return output.astype(dtype)
    return log_probabilities(output, smallest).astype(dtype)


def is_constant(scores: "Array") -> bool:
    """Whether the scores say nothing: every row is flat, or all rows are the same row."""
    if scores.size == 0 or nonfinite_count(scores):
        return False
    table = scores.reshape(len(scores), -1)
    allowed = SAME_ROW_RELATIVE * max(float(table.max()), -float(table.min()))
    # Of most tables, the first rows show that they say something.
    is_flat, is_same = (
        all(bool((np.ptp(part, axis=axis) <= allowed).all()) for part in (table[:2], table))
        for axis in (1, 0)
    )
    return is_flat or (is_same and len(table) > 1)


def nonfinite_count(scores: "Array") -> int:
    """Return how many values are NaN or Inf."""
    return int(scores.size - np.count_nonzero(np.isfinite(scores)))


def crop_mean(scores: "Array", averaging: Averaging = "prob") -> "npt.NDArray[np.float64]":
    """Return the logarithm of the mean class probability over the views, [clip, class].

    With one view, each clip is off by a constant of its own, which the order of its classes does not
    show. A clip with a score that is NaN or Inf is NaN.

    Softmax of each view, then the mean: mmaction2's ``average_clips='prob'``. The softmax of
    log-probabilities is the probabilities, so both kinds of scores take this way. In the logarithm,
    classes far below the best keep their order, which probabilities lose to underflow. With
    ``score`` it is the mean of the scores, which log-probabilities order alike.
    """
    is_finite = np.isfinite(scores).all(axis=(1, 2))
    usable = scores.astype(np.float64)
    usable[~is_finite] = 0.0
    # The scores of one view are its logarithms but for a constant, and keep every bit so.
    if scores.shape[1] == 1:
        means = usable[:, 0]
    elif averaging == "score":
        means = usable.mean(axis=1)
    else:
        logs = usable - _log_sum_exp(usable, axis=2)
        means = _log_sum_exp(logs, axis=1)[:, 0, :] - np.log(scores.shape[1])
    means[~is_finite] = np.nan
    return means


def label_ranks(
    scores: "npt.NDArray[np.float64]", labels: "Sequence[int] | npt.NDArray[np.int64]"
) -> "npt.NDArray[np.int64]":
    """Return how many classes score at least as much as the label: 1 is right, ties count against.

    A row of NaN has no answer: 0.
    """
    own = scores[np.arange(len(scores)), np.asarray(labels, dtype=np.int64)]
    ranks: npt.NDArray[np.int64] = np.count_nonzero(scores >= own[:, None], axis=1)
    return ranks


def best_classes(means: "npt.NDArray[np.float64]") -> "npt.NDArray[np.int64]":
    """Return the best class of each row; -1 where it is tied or the row has NaN."""
    best = means.argmax(axis=1)
    return np.where(label_ranks(means, best) == 1, best, NO_CLASS)


def _log_sum_exp(values: "npt.NDArray[np.float64]", axis: int) -> "npt.NDArray[np.float64]":
    top = values.max(axis=axis, keepdims=True)
    below = values - top
    total: npt.NDArray[np.float64] = np.exp(below, out=below).sum(axis=axis, keepdims=True)
    return np.asarray(top + np.log(total))
