"""Where two ONNX files of one model part: the first node whose output diverges."""

import collections
import dataclasses
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RunError
from harness.runtimes.ort.session import ort_session
from harness.spec import Feed

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnxruntime

    Array = npt.NDArray[Any]

MAX_CHUNK_BYTES = 256 * 2**20
# What ONNX Runtime cannot infer is taken for; only the size of a chunk rests on it.
UNKNOWN_DIM = 1024


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of an ONNX graph."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Tap:
    """A tensor of the target: what computes it, and the keys of the tensors that it may equal.

    Where that is a guess, another shape only means that the guess was wrong.
    """

    label: str
    tensor: str
    expected: tuple[str, ...]
    is_guess: bool = False


def first_divergent_node(
    source: Path, target: Path, feed: Feed, relative_l2_max: float
) -> str | None:
    """Name the first node of ``target`` whose output differs from the same tensor of ``source``.

    The files hold the same model, ``target`` being simplified or optimised; its order of nodes
    counts. Tensors that only one of them computes are left out. A tensor that only has a different
    shape does not diverge: simplifiers move reshapes. None means that nothing diverges.

    Raises:
        RunError: ONNX Runtime could not run one of the files.
    """
    wanted, nodes = nodes_from_onnx(source), nodes_from_onnx(target)
    names = [name for node in nodes for name in node.outputs]
    computed = {name for node in wanted for name in node.outputs}
    absorbed = _absorbed_tensors(wanted, set(names))
    taps = [
        Tap(f"{node.name} ({node.op_type})", name, (name, *absorbed.get(name, ())))
        for node in nodes
        for name in node.outputs
        if name in computed
    ]
    with tempfile.TemporaryDirectory() as folder:
        expected = OpenGraph(source, Path(folder) / "source.onnx")
        actual = OpenGraph(target, Path(folder) / "target.onnx")
        found = first_gap(
            taps, actual, feed, lambda keys: expected.run(keys, feed), relative_l2_max
        )
    return found and f"{found} ({len(taps)} of {len(names)} can be compared)"


class OpenGraph:
    """A copy of an ONNX file that gives any of its tensors.

    Serialized protobuf messages merge when they are concatenated, so the wanted outputs are a short
    tail on the copy and the weights never pass through Python.
    """

    def __init__(self, path: Path, copy: Path) -> None:
        self._path, self._copy = path, copy
        shutil.copyfile(path, copy)
        self._byte_count = copy.stat().st_size
        self._own: frozenset[str] = frozenset()
        self._own = frozenset(value.name for value in self._session(()).get_outputs())

    def nbytes(self, names: Sequence[str]) -> dict[str, int]:
        """Estimate sizes from the shapes that ONNX Runtime infers, at 4 bytes an element."""
        return {
            value.name: 4 * math.prod(d if isinstance(d, int) else UNKNOWN_DIM for d in value.shape)
            for value in self._session(names).get_outputs()
        }

    def run(self, names: Sequence[str], feed: Feed) -> Feed:
        """Run one batch and return the named tensors."""
        from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

        unique = list(dict.fromkeys(names))
        session = self._session(unique)
        try:
            return dict(zip(unique, session.run(unique, dict(feed)), strict=True))
        except (ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.RuntimeException) as error:
            raise RunError(f"ONNX Runtime could not run {self._path}: {error}") from error

    def _session(self, names: Sequence[str]) -> "onnxruntime.InferenceSession":
        import onnx
        from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

        outputs = [onnx.ValueInfoProto(name=name) for name in names if name not in self._own]
        tail = onnx.ModelProto(graph=onnx.GraphProto(output=outputs))
        with self._copy.open("r+b") as file:
            file.truncate(self._byte_count)
            file.seek(self._byte_count)
            file.write(tail.SerializeToString())
        try:
            return ort_session(self._copy, level="none")
        except (ort_errors.Fail, ort_errors.InvalidGraph, ort_errors.InvalidProtobuf) as error:
            raise RunError(f"ONNX Runtime cannot load {self._path}: {error}") from error


def nodes_from_onnx(path: Path) -> list[Node]:
    """Read the nodes that compute something, and forget the weights."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path).graph
    except DecodeError as error:
        raise RunError(f"{path} is not an ONNX file: {error}; export it again") from error
    return [
        Node(node.name, node.op_type, tuple(node.input), tuple(filter(None, node.output)))
        for node in graph.node
        if node.op_type != "Constant"
    ]


def _absorbed_tensors(source: Sequence[Node], kept: set[str]) -> dict[str, tuple[str, ...]]:
    """Map a tensor to the one that its only consumer makes of it, where the target lacks that.

    A simplifier that folds a batch normalisation into the convolution before it keeps the name of
    the convolution's output for what the normalisation used to compute.
    """
    consumers: dict[str, list[Node]] = collections.defaultdict(list)
    for node in source:
        for name in set(node.inputs):
            consumers[name].append(node)
    return {
        name: nodes[0].outputs
        for name, nodes in consumers.items()
        if name in kept and len(nodes) == 1 and not kept.intersection(nodes[0].outputs)
    }


def first_gap(
    taps: Sequence[Tap],
    graph: OpenGraph,
    feed: Feed,
    expected_from_keys: Callable[[Sequence[str]], Feed],
    relative_l2_max: float,
) -> str | None:
    """Compare the tensors in order, some at a time, and describe the first that differs."""
    agreed = 0
    for chunk in _chunks(taps, graph.nbytes([tap.tensor for tap in taps])):
        expected = expected_from_keys([key for tap in chunk for key in tap.expected])
        actual = graph.run([tap.tensor for tap in chunk], feed)
        for tap in chunk:
            value, wanted = actual[tap.tensor], [expected[key] for key in tap.expected]
            if tap.is_guess and value.shape != wanted[0].shape:
                continue
            relative_l2, reason = min(_gap(value, other) for other in wanted)
            if not relative_l2 <= relative_l2_max:
                before = f"all {agreed} tensors before it agree" if agreed else "it is the first"
                return f"{tap.label}, output {tap.tensor}, {reason}; {before}"
            agreed += 1
    return None


def _chunks(taps: Iterable[Tap], nbytes: dict[str, int]) -> Iterator[list[Tap]]:
    chunk: list[Tap] = []
    total = 0
    for tap in taps:
        size = nbytes[tap.tensor] * len(tap.expected)
        if chunk and total + size > MAX_CHUNK_BYTES:
            yield chunk
            chunk, total = [], 0
        chunk.append(tap)
        total += size
    if chunk:
        yield chunk


def _gap(actual: "Array", expected: "Array") -> tuple[float, str]:
    """Return how far two tensors are apart, relative and in words."""
    if actual.size != expected.size:
        return math.inf, f"shape {list(actual.shape)} instead of {list(expected.shape)}"
    first, second = (np.asarray(values, dtype=np.float64).ravel() for values in (actual, expected))
    is_odd = ~(np.isfinite(first) & np.isfinite(second))
    if not np.array_equal(first[is_odd], second[is_odd], equal_nan=True):
        odd, odd_expected = (np.count_nonzero(~np.isfinite(values)) for values in (first, second))
        return math.inf, f"{odd} values of NaN or Inf instead of {odd_expected}"
    error = float(np.linalg.norm((first - second)[~is_odd]))
    norm = float(np.linalg.norm(second[~is_odd]))
    relative_l2 = error / norm if norm > 0.0 else math.inf if error > 0.0 else 0.0
    return relative_l2, f"relative L2 {relative_l2:.1e}"
