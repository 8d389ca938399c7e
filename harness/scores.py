"""Scores of a model: logits, or log-probabilities where its graph ends in a softmax."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

FLOAT32_SMALLEST_NORMAL = float(np.finfo(np.float32).smallest_normal)
FLOAT16_SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
# Rows that differ by no more than float32 rounds are the same row.
SAME_ROW_RELATIVE = 4.0 * float(np.finfo(np.float32).eps)


def log_probabilities(
    probabilities: "Array", smallest: float = FLOAT32_SMALLEST_NORMAL
) -> "npt.NDArray[np.float64]":
    """Return the logarithm of probabilities, clamped from below at ``log(smallest)``.

    A softmax in the graph underflows to zero where its logit is far below the best; one runtime
    flushes such values, another keeps them. Below the smallest normal float32 (log = -87.3) neither
    is information, so the actual and the expected side are both clamped there. For a softmax that
    a device computes in fp16, clamp both sides at ``FLOAT16_SMALLEST_NORMAL`` (log = -9.7).
    A negative probability is none: it becomes NaN, as NaN stays, and fails by that name.
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
    allowed = SAME_ROW_RELATIVE * float(np.abs(table).max())
    is_flat = bool((np.ptp(table, axis=1) <= allowed).all())
    return is_flat or (len(table) > 1 and bool((np.ptp(table, axis=0) <= allowed).all()))


def nonfinite_count(scores: "Array") -> int:
    """Return how many values are NaN or Inf."""
    return int(scores.size - np.count_nonzero(np.isfinite(scores)))
