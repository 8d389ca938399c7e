"""Where a built model diverges from the ONNX file that it was built from: the first wrong operator."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.build.exact_graph import ExactGraph, InexactError
from harness.inside import InnerValue, Inside, Operator
from harness.runtimes.ort.open_graph import onnx_inside, open_graph
from harness.spec import Feed

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

MAX_CHUNK_BYTES = 256 * 2**20


class Values(Protocol):
    """Where tensors come from."""

    def nbytes(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Return their sizes by key, at least roughly."""
        ...

    def values(self, keys: Sequence[str]) -> Feed:
        """Return them by key."""
        ...


@dataclasses.dataclass(frozen=True)
class Tap:
    """A tensor of the target: what computes it, and the keys of the tensors that it may equal.

    If the keys are a guess, a different shape only means that the guess was wrong. A defect says why the
    tensor is lost.
    """

    label: str
    tensor: str
    expected: tuple[str, ...]
    is_guess: bool = False
    defect: str = ""


@dataclasses.dataclass(frozen=True)
class Gap:
    """A tensor that diverges: from which one, how far, and how many before it agree."""

    tap: Tap
    reason: str
    agreed: int
    expected: str = ""
    actual: "Array | None" = None

    @property
    def before(self) -> str:
        """What comes before it, in words."""
        return f"all {self.agreed} tensors before it agree" if self.agreed else "it is the first"


@dataclasses.dataclass(frozen=True)
class Allowed:
    """How far a tensor may be off: in relative L2, or as a multiple of how far float32 is from float64.

    Without a factor nothing is computed in float64.
    """

    relative_l2: float
    fp64_factor: float = 0.0


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first operator of a built model whose output is wrong; ``text`` says how.

    ``suspect`` is the operator to blame: this one, or one that an input comes from.
    """

    operator: Operator
    text: str
    suspect: str


def first_divergent_node(
    source: Path, target: Path, feed: Feed, relative_l2_max: float
) -> str | None:
    """Name the first node of ``target`` whose output differs from the same tensor of ``source``.

    The files hold the same model, ``target`` being simplified or optimised.

    Raises:
        RunError: ONNX Runtime could not run one of the files.
    """
    with onnx_inside(source, target, feed) as inside:
        found = first_divergent_operator(source, inside, feed, Allowed(relative_l2_max))
    return found.text if found else None


def first_divergent_operator(
    source: Path, inside: Inside, feed: Feed, allowed: Allowed
) -> Divergence | None:
    """Return the first operator whose output differs from the same tensor of an ONNX file.

    A lost value, NaN where the file has none, and a different size count as differences. What the file
    does not compute is left out. A tensor that only has a different shape does not diverge:
    simplifiers move reshapes. None means that nothing diverges.

    Raises:
        RunError: one side could not be run.
    """
    with open_graph(source, feed) as graph:
        return _Search(inside, graph, ExactGraph(source, feed), allowed).first()


@dataclasses.dataclass(frozen=True)
class _Search:
    inside: Inside
    source: Values
    exact: ExactGraph
    allowed: Allowed

    def first(self) -> Divergence | None:
        outputs = [(op, value) for op in self.inside.operators for value in op.outputs]
        compared = {
            value.key: (op, value) for op, value in outputs if value.tensors or value.defect
        }
        excused: list[str] = []
        for gap in self._gaps([_tap(op.label, value) for op, value in compared.values()]):
            op, value = compared[gap.tap.tensor]
            is_excused, anchor = self._anchor(gap)
            if is_excused:
                excused.append(op.name)
                continue
            tensor = value.tensors[0] if value.tensors else value.key
            parts = [f"{op.label}, output {tensor}, {gap.reason}{anchor}"]
            suspect, origin = self._origin(op)
            parts += [origin, gap.before]
            if excused:
                parts.append(f"float32 is as far off in {', '.join(excused)}")
            count = f"{len(compared)} of {len(outputs)} can be compared"
            notes = ", ".join(filter(None, (count, self.inside.note)))
            return Divergence(op, f"{'; '.join(parts)} ({notes})", suspect)
        return None

    def _gaps(self, taps: Sequence[Tap]) -> Iterator[Gap]:
        return gaps(taps, self.inside, self.source.values, self.allowed.relative_l2)

    def _anchor(self, gap: Gap) -> tuple[bool, str]:
        """Whether float32 itself is about as far from float64, and a note on it."""
        if not self.allowed.fp64_factor or gap.actual is None:
            return False, ""
        try:
            exact = self.exact.value(gap.expected)
        except InexactError as error:
            return False, f" (not compared with float64: {error})"
        single = _gap(self.source.values([gap.expected])[gap.expected], exact)[0]
        note = f" (float32 itself is {single:.1e} from float64)"
        return _gap(gap.actual, exact)[0] <= self.allowed.fp64_factor * single, note

    def _origin(self, op: Operator) -> tuple[str, str]:
        """Return which operator spoilt an output: this one, or one that its inputs come from."""
        seen = [value for value in op.inputs if value.tensors or value.defect]
        bad = next(self._gaps([_tap(value.maker, value) for value in seen]), None)
        if bad is not None:
            maker = bad.tap.label
            return maker, f"inherited: its input from {maker} is off already, {bad.reason}"
        unseen = ", ".join(dict.fromkeys(v.maker for v in op.inputs if v not in seen))
        if unseen:
            return op.name, f"made here or in {unseen}, which cannot be compared"
        return op.name, "made here: its inputs are good"


def _tap(label: str, value: InnerValue) -> Tap:
    return Tap(label, value.key, value.tensors, value.is_guess, value.defect)


def gaps(
    taps: Sequence[Tap],
    target: Values,
    expected_from_keys: Callable[[Sequence[str]], Feed],
    relative_l2_max: float,
) -> Iterator[Gap]:
    """Compare tensors in order, a chunk at a time, and yield those that differ."""
    agreed = 0
    for chunk in _chunks(taps, target.nbytes([tap.tensor for tap in taps if not tap.defect])):
        whole = [tap for tap in chunk if not tap.defect]
        expected = expected_from_keys([key for tap in whole for key in tap.expected])
        actual = target.values([tap.tensor for tap in whole])
        for tap in chunk:
            if tap.defect:
                yield Gap(tap, tap.defect, agreed)
                continue
            value, wanted = actual[tap.tensor], {key: expected[key] for key in tap.expected}
            if tap.is_guess and value.shape != wanted[tap.expected[0]].shape:
                continue
            (relative_l2, reason), key = min(
                (_gap(value, other), key) for key, other in wanted.items()
            )
            if relative_l2 <= relative_l2_max:
                agreed += 1
            else:
                yield Gap(tap, reason, agreed, key, value)


def _chunks(taps: Iterable[Tap], nbytes: Mapping[str, int]) -> Iterator[list[Tap]]:
    chunk: list[Tap] = []
    total = 0
    for tap in taps:
        size = nbytes.get(tap.tensor, 0) * len(tap.expected)
        if chunk and total + size > MAX_CHUNK_BYTES:
            yield chunk
            chunk, total = [], 0
        chunk.append(tap)
        total += size
    if chunk:
        yield chunk


def _gap(actual: "Array", expected: "Array") -> tuple[float, str]:
    """Return how far apart two tensors are, relative and in words; NaN agrees only with NaN."""
    if actual.size != expected.size:
        return math.inf, f"shape {list(actual.shape)} instead of {list(expected.shape)}"
    first, second = (np.asarray(values, dtype=np.float64).ravel() for values in (actual, expected))
    is_odd = ~(np.isfinite(first) & np.isfinite(second))
    if not np.array_equal(first[is_odd], second[is_odd], equal_nan=True):
        odd, odd_expected = (np.count_nonzero(~np.isfinite(values)) for values in (first, second))
        return math.inf, f"{odd} NaN or Inf values instead of {odd_expected}"
    error = (first - second)[~is_odd]
    size, norm = float(np.linalg.norm(error)), float(np.linalg.norm(second[~is_odd]))
    relative_l2 = size / norm if norm > 0.0 else math.inf if size > 0.0 else 0.0
    largest = float(np.abs(error).max(initial=0.0))
    return relative_l2, f"relative L2 {relative_l2:.1e}, largest error {largest:.1e}"
