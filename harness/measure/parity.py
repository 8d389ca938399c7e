"""How far each stage of the chain is from the one before it, as numbers without a judgement.

Compared are logits or log-probabilities, never probabilities: two unrelated softmax vectors agree
to 0.01. Everything is computed in float64.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import pydantic

from harness.measure.measurement import Measurement
from harness.measure.repeats import Repeats
from harness.measure.scores import SAME_ROW_RELATIVE, is_constant, nonfinite_count
from harness.spec import ONNX_FILE, PYTORCH, Reference

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

Inner = Literal["onnx_to_simplified", "simplified_to_device"]
EdgeName = Literal["torch_to_onnx", "file_to_onnx", Inner, "torch_to_device", "file_to_device"]
CHAIN: tuple[EdgeName, ...] = ("torch_to_onnx", *get_args(Inner), "torch_to_device")
FILE_CHAIN: tuple[EdgeName, ...] = ("file_to_onnx", *get_args(Inner), "file_to_device")
CHAINS: Mapping[Reference, tuple[EdgeName, ...]] = {PYTORCH: CHAIN, ONNX_FILE: FILE_CHAIN}
DEVICE_EDGES: tuple[EdgeName, ...] = ("simplified_to_device", "torch_to_device", "file_to_device")
TOP_COUNT = 5
QUANTILE = 0.999


class Flip(Measurement):
    """A row whose best class changed; ``margin`` is the expected best score less the second best."""

    row_id: str
    expected_class: int
    actual_class: int
    margin: float


class EdgeParity(Measurement):
    """One edge of the chain. A metric is None where it is undefined.

    Attributes:
        name: of the edge.
        row_count: inputs times crops.
        class_count: columns.
        shape_mismatch: the shapes, if they differ or are not two-dimensional; no metric is given then.
        nonfinite_count: NaN and Inf in the actual output.
        expected_nonfinite_count: the same in what it is compared with; it then shows nothing.
        is_constant: the actual output is the same row for every input, or the same in every class.
        is_expected_constant: the same of what it is compared with.
        max_abs_error: largest absolute difference.
        p999_abs_error: its 99.9th percentile over all elements.
        relative_l2: norm of the difference over the norm of the expected scores less their row mean.
        cosine: the lowest over the rows, of scores less their row mean; the common offset that
            log-probabilities have would hide any disagreement.
        top1_agreement: share of rows with the same best class.
        top5_overlap: mean share of the five best classes in common.
        rmse_actual_to_exact: distance of the actual output from the reference in float64.
        rmse_expected_to_exact: distance of the reference in float32 from it in float64.
        flips: rows whose best class changed.
    """

    name: EdgeName
    row_count: int
    class_count: int
    shape_mismatch: str | None = None
    nonfinite_count: int = 0
    expected_nonfinite_count: int = 0
    is_constant: bool = False
    is_expected_constant: bool = False
    max_abs_error: float | None = None
    p999_abs_error: float | None = None
    relative_l2: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    top5_overlap: float | None = None
    rmse_actual_to_exact: float | None = None
    rmse_expected_to_exact: float | None = None
    flips: tuple[Flip, ...] = ()


class InputCounts(Measurement):
    """How many inputs of each kind were compared."""

    clip: int = 0
    noise: int = 0
    constant: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.clip + self.noise + self.constant


class ParityMeasurement(Measurement):
    """The whole chain on the same inputs, edges in the order of ``CHAINS``.

    ``clip_count`` is the number of rows that each crop of an input has, one for each clip.
    ``repeats`` is how far the device is from itself; None in runs of suites that did not ask.
    ``reference`` begins the chain; ``anchor`` is the precision in which it is taken for exact.
    """

    kind: Literal["parity"] = "parity"
    input_ids: tuple[str, ...]
    input_counts: InputCounts
    edges: tuple[EdgeParity, ...]
    first_divergent_node: str | None = None
    clip_count: Annotated[int, pydantic.Field(ge=1)] = 1
    repeats: Repeats | None = None
    reference: Reference = "PyTorch"
    anchor: Literal["float64", "float32"] = "float64"


@dataclasses.dataclass(frozen=True)
class ChainScores:
    """Scores [inputs x crops, class] of each stage: logits or log-probabilities.

    ``torch`` is the reference in float32. ``exact`` is it in float64, or again ``torch`` where an
    ONNX file cannot be computed in float64.
    """

    exact: "Array"
    torch: "Array"
    onnx: "Array"
    simplified: "Array"
    device: "Array"


def row_ids_from_inputs(
    input_ids: Sequence[str], row_count: int, clip_count: int = 1
) -> tuple[str, ...]:
    """Name the rows of an output: the id of the input, with clip and crop where there are several.

    An input has ``row_count`` rows, a crop of it ``clip_count``; those of its first crop come first.
    """
    if row_count % clip_count:
        clip_count = 1
    clips = [f"#clip{clip}" if clip_count > 1 else "" for clip in range(clip_count)]
    crops = [f"#crop{crop}" for crop in range(row_count // clip_count)]
    if len(crops) == 1:
        crops = [""]
    return tuple(f"{name}{clip}{crop}" for name in input_ids for crop in crops for clip in clips)


def edge_parity(
    actual: "Array",
    expected: "Array",
    exact: "Array",
    name: EdgeName,
    *,
    reference: "Array | None" = None,
    row_ids: Sequence[str] = (),
) -> EdgeParity:
    """Compare two stages of the chain, scores [row, class], and the reference in float64, ``exact``.

    ``reference`` has its scores in float32, where ``expected`` is not these; rows without ``row_ids`` are
    named by their numbers.
    """
    reference = expected if reference is None else reference
    mismatch = _shape_mismatch(actual, expected, exact, reference)
    rows, classes = actual.shape if actual.ndim == 2 else (len(np.atleast_1d(actual)), 0)
    if mismatch is not None:
        return EdgeParity(name=name, row_count=rows, class_count=classes, shape_mismatch=mismatch)
    table, wanted, truth, anchor = (
        np.asarray(scores, dtype=np.float64) for scores in (actual, expected, exact, reference)
    )
    return EdgeParity(
        name=name,
        row_count=rows,
        class_count=classes,
        nonfinite_count=nonfinite_count(table),
        expected_nonfinite_count=sum(map(nonfinite_count, (wanted, truth, anchor))),
        is_constant=is_constant(table),
        is_expected_constant=is_constant(wanted),
        rmse_actual_to_exact=_rmse(table, truth),
        rmse_expected_to_exact=_rmse(anchor, truth),
        **_agreement(table, wanted, row_ids or [str(row) for row in range(rows)]),
    )


def parity_measurement(
    scores: ChainScores,
    input_ids: Sequence[str],
    input_counts: InputCounts,
    clip_count: int = 1,
    reference: Reference = "PyTorch",
) -> ParityMeasurement:
    """Compare every stage with the one before it, and the device with the reference end to end."""
    pairs = (
        (scores.onnx, scores.torch),
        (scores.simplified, scores.onnx),
        (scores.device, scores.simplified),
        (scores.device, scores.torch),
    )
    is_same = np.array_equal(scores.exact, scores.torch, equal_nan=True)
    per_input = max(1, len(scores.exact) // max(1, len(input_ids)))
    rows = row_ids_from_inputs(input_ids, per_input, clip_count)
    edges = tuple(
        edge_parity(actual, expected, scores.exact, name, reference=scores.torch, row_ids=rows)
        for name, (actual, expected) in zip(CHAINS[reference], pairs, strict=True)
    )
    return ParityMeasurement(
        input_ids=tuple(input_ids),
        input_counts=input_counts,
        edges=edges,
        clip_count=clip_count,
        reference=reference,
        anchor="float32" if reference == ONNX_FILE and is_same else "float64",
    )


def _shape_mismatch(actual: "Array", expected: "Array", *others: "Array") -> str | None:
    if actual.ndim == 2 and all(actual.shape == other.shape for other in (expected, *others)):
        return None if actual.size else f"no scores at all, shape {actual.shape}"
    reference = " and ".join(str(other.shape) for other in others)
    return f"actual {actual.shape}, expected {expected.shape}, reference {reference}"


def _rmse(first: "Array", second: "Array") -> float | None:
    if nonfinite_count(first) or nonfinite_count(second):
        return None
    return float(np.sqrt(np.mean(np.square(first - second))))


def _agreement(actual: "Array", expected: "Array", row_ids: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of two tables; no metric where either has NaN or Inf."""
    if nonfinite_count(actual) or nonfinite_count(expected):
        return {}
    error, level = np.abs(actual - expected), centred(expected)
    norm = float(np.linalg.norm(level))
    flips = _flips(actual, expected, row_ids)
    return {
        "max_abs_error": float(error.max()),
        "p999_abs_error": float(np.quantile(error, QUANTILE, method="higher")),
        "relative_l2": float(np.linalg.norm(error)) / norm if norm > 0.0 else None,
        "cosine": _lowest_cosine(centred(actual), level),
        "top1_agreement": 1.0 - len(flips) / len(actual),
        "top5_overlap": _top_overlap(actual, expected),
        "flips": flips,
    }


def centred(scores: "Array") -> "Array":
    """Return scores [row, class] less the mean of their row; a row flat but for rounding is zero."""
    highest, lowest = (find(axis=1, keepdims=True) for find in (scores.max, scores.min))
    is_flat = highest - lowest <= SAME_ROW_RELATIVE * np.maximum(highest, -lowest)
    rest: Array = scores - scores.mean(axis=1, keepdims=True)
    rest[is_flat[:, 0]] = 0.0
    return rest


def _lowest_cosine(actual: "Array", expected: "Array") -> float | None:
    """Return the lowest cosine of the centred rows that expect anything; a flat row then scores 0."""
    wanted = np.linalg.norm(expected, axis=1)
    norms, is_defined = np.linalg.norm(actual, axis=1) * wanted, wanted > 0.0
    if not is_defined.any():
        return None
    dots = (actual * expected).sum(axis=1)
    cosines = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0.0)
    return float(np.clip(cosines[is_defined].min(), -1.0, 1.0))


def _top_overlap(actual: "Array", expected: "Array") -> float:
    count = min(TOP_COUNT, actual.shape[1])
    first, second = (
        np.argsort(-scores, axis=1, kind="stable")[:, :count] for scores in (actual, expected)
    )
    return float((first[:, :, None] == second[:, None, :]).sum() / first.size)


def _flips(actual: "Array", expected: "Array", row_ids: Sequence[str]) -> tuple[Flip, ...]:
    ours, theirs = actual.argmax(axis=1), expected.argmax(axis=1)
    ordered = np.sort(expected, axis=1)
    margins = ordered[:, -1] - ordered[:, -2] if expected.shape[1] > 1 else np.zeros(len(expected))
    return tuple(
        Flip(
            row_id=row_ids[row],
            expected_class=int(theirs[row]),
            actual_class=int(ours[row]),
            margin=float(margins[row]),
        )
        for row in np.flatnonzero(ours != theirs)
    )
