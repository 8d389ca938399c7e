"""Every tensor of an ONNX file, and which of them another file of the same model computes too."""

import collections
import contextlib
import dataclasses
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import RunError
from harness.inside import InnerValue, Inside, Operator
from harness.runtimes.ort.session import running, unoptimised_session
from harness.spec import Feed

if TYPE_CHECKING:
    import onnxruntime

# Assumed where ONNX Runtime cannot infer a size; only the size of a chunk depends on it.
UNKNOWN_DIM = 1024


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of an ONNX graph."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


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
        unique = list(dict.fromkeys(names))
        session = self._session(unique)
        with running(self._path):
            return dict(zip(unique, session.run(unique, dict(feed)), strict=True))

    def _session(self, names: Sequence[str]) -> "onnxruntime.InferenceSession":
        import onnx

        outputs = [onnx.ValueInfoProto(name=name) for name in names if name not in self._own]
        tail = onnx.ModelProto(graph=onnx.GraphProto(output=outputs))
        with self._copy.open("r+b") as file:
            file.truncate(self._byte_count)
            file.seek(self._byte_count)
            file.write(tail.SerializeToString())
        return unoptimised_session(self._copy, named=self._path)


@dataclasses.dataclass(frozen=True)
class FedGraph:
    """The tensors of a graph for one feed, by name; the inputs are among them."""

    graph: OpenGraph
    feed: Feed

    def nbytes(self, keys: Sequence[str]) -> dict[str, int]:
        """Estimate sizes."""
        return self.graph.nbytes(keys)

    def values(self, keys: Sequence[str]) -> Feed:
        """Run the file and return tensors.

        Raises:
            RunError: ONNX Runtime cannot run it.
        """
        given = {key: self.feed[key] for key in keys if key in self.feed}
        computed = [key for key in keys if key not in given]
        return {**given, **(self.graph.run(computed, self.feed) if computed else {})}


@dataclasses.dataclass(frozen=True)
class OnnxInside(FedGraph, Inside):
    """An ONNX file that holds the model of another, simplified or optimised.

    Tensors with the same name are the same.
    """

    operators: tuple[Operator, ...]


@contextlib.contextmanager
def open_graph(path: Path, feed: Feed) -> Iterator[FedGraph]:
    """Open a file for the block.

    Raises:
        RunError: ONNX Runtime cannot load it.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield FedGraph(OpenGraph(path, Path(folder) / "graph.onnx"), feed)


@contextlib.contextmanager
def onnx_inside(source: Path, target: Path, feed: Feed) -> Iterator[OnnxInside]:
    """Open ``target``, whose tensors are to equal those of ``source``.

    Raises:
        RunError: ONNX Runtime cannot load it.
    """
    operators = _operators(nodes_from_onnx(source), nodes_from_onnx(target))
    with open_graph(target, feed) as graph:
        yield OnnxInside(graph.graph, feed, operators)


def _operators(source: Sequence[Node], target: Sequence[Node]) -> tuple[Operator, ...]:
    computed = {name for node in source for name in node.outputs}
    makers = {name: node.name for node in target for name in node.outputs}
    absorbed = _absorbed_tensors(source, set(makers))

    def value(name: str) -> InnerValue:
        same = (name, *absorbed.get(name, ())) if name in computed else ()
        return InnerValue(name, same, maker=makers.get(name, ""))

    return tuple(
        Operator(
            *(node.name, node.op_type, ()),
            inputs=tuple(value(name) for name in node.inputs if name in makers),
            outputs=tuple(map(value, node.outputs)),
        )
        for node in target
    )


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
