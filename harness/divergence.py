"""Where two stages of the chain part: the first node, or module, whose output diverges."""

import collections
import dataclasses
import itertools
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RunError
from harness.pytorch import run_torch, torch_model_from_spec
from harness.runtimes.ort import ort_session
from harness.spec import Feed, ModelSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnxruntime
    import torch

    Array = npt.NDArray[Any]

MAX_CHUNK_BYTES = 256 * 2**20
# What ONNX Runtime cannot infer is taken for; only the size of a chunk rests on it.
UNKNOWN_DIMENSION = 1024


@dataclasses.dataclass(frozen=True)
class _Node:
    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Tap:
    """A tensor of the target: what computes it, and the keys of the tensors that it may equal.

    Where that is a guess, another shape only means that the guess was wrong.
    """

    label: str
    tensor: str
    expected: tuple[str, ...]
    is_guess: bool = False


@dataclasses.dataclass(frozen=True)
class _ModuleCall:
    """One call of a PyTorch module, and what the exporter calls it."""

    label: str
    scope: str


def first_divergent_node(
    source: Path, target: Path, feed: Feed, relative_l2_max: float
) -> str | None:
    """Name the first node of ``target`` whose output differs from the same tensor of ``source``.

    The files hold the same model, ``target`` being simplified or optimised; its order of nodes
    counts. Tensors that only one of them computes are left out. A tensor that only has another
    shape is none that diverges: simplifiers move reshapes. None means that nothing diverges.

    Raises:
        RunError: ONNX Runtime could not run one of the files.
    """
    wanted, nodes = _nodes_from_onnx(source), _nodes_from_onnx(target)
    names = [name for node in nodes for name in node.outputs]
    computed = {name for node in wanted for name in node.outputs}
    absorbed = _absorbed_tensors(wanted, set(names))
    taps = [
        _Tap(f"{node.name} ({node.op_type})", name, (name, *absorbed.get(name, ())))
        for node in nodes
        for name in node.outputs
        if name in computed
    ]
    with tempfile.TemporaryDirectory() as folder:
        expected = _OpenGraph(source, Path(folder) / "source.onnx")
        actual = _OpenGraph(target, Path(folder) / "target.onnx")
        found = _first_gap(
            taps, actual, feed, lambda keys: expected.run(keys, feed), relative_l2_max
        )
    return found and f"{found} ({len(taps)} of {len(names)} can be compared)"


def first_divergent_module(
    spec: ModelSpec, checkpoint: Path | None, exported: Path, feed: Feed, relative_l2_max: float
) -> str | None:
    """Name the first PyTorch module whose output differs from the exported node that computes it.

    The exporter names a node by the modules it was called in, so the last node below a module's
    scope gives the module's output. An operation outside any child module (a residual sum) shows
    in the module that comes next.

    Modules that compute nothing (dropout) are left out. None means that nothing diverges.

    Raises:
        CheckpointError: the weights do not fit.
        RunError: ONNX Runtime could not run the file.
    """
    model = torch_model_from_spec(spec, checkpoint)
    calls, _ = _run_modules(model, spec, feed, ())
    taps = _module_taps(calls, _nodes_from_onnx(exported))

    def expected(keys: Sequence[str]) -> Feed:
        return _run_modules(model, spec, feed, keys)[1]

    with tempfile.TemporaryDirectory() as folder:
        actual = _OpenGraph(exported, Path(folder) / "exported.onnx")
        found = _first_gap(taps, actual, feed, expected, relative_l2_max)
    return found and f"{found} ({len(taps)} of {len(calls)} calls of modules have a node)"


class _OpenGraph:
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
        """Estimate sizes from the shapes that ONNX Runtime infers."""
        values = self._session(names).get_outputs()
        return {value.name: _nbytes(value.shape) for value in values}

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


def _nodes_from_onnx(path: Path) -> list[_Node]:
    """Read the nodes that compute something, and forget the weights."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path).graph
    except DecodeError as error:
        raise RunError(f"{path} is no ONNX file: {error}; export it again") from error
    return [
        _Node(node.name, node.op_type, tuple(node.input), tuple(filter(None, node.output)))
        for node in graph.node
        if node.op_type != "Constant"
    ]


def _absorbed_tensors(source: Sequence[_Node], kept: set[str]) -> dict[str, tuple[str, ...]]:
    """Map a tensor to the one that its only consumer makes of it, where the target lacks that.

    A simplifier that folds a batch normalisation into the convolution before it keeps the name of
    the convolution's output for what the normalisation used to compute.
    """
    consumers: dict[str, list[_Node]] = collections.defaultdict(list)
    for node in source:
        for name in set(node.inputs):
            consumers[name].append(node)
    return {
        name: nodes[0].outputs
        for name, nodes in consumers.items()
        if name in kept and len(nodes) == 1 and not kept.intersection(nodes[0].outputs)
    }


def _first_gap(
    taps: Sequence[_Tap],
    graph: _OpenGraph,
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


def _chunks(taps: Iterable[_Tap], nbytes: dict[str, int]) -> Iterator[list[_Tap]]:
    chunk: list[_Tap] = []
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


def _nbytes(shape: Sequence[int | str | None]) -> int:
    # Eight bytes an element: shapes and indices are int64, and few are large enough to matter.
    return 8 * math.prod(dim if isinstance(dim, int) else UNKNOWN_DIMENSION for dim in shape)


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


def _run_modules(
    model: "torch.nn.Module", spec: ModelSpec, feed: Feed, wanted: Sequence[str]
) -> tuple[list[_ModuleCall], dict[str, "Array"]]:
    """Run the model; return the calls in the order in which they end, and the wanted outputs."""
    import torch

    calls: list[_ModuleCall] = []
    outputs: dict[str, Array] = {}
    names = {module: name for name, module in model.named_modules()}
    entered: collections.Counter[str] = collections.Counter()
    scopes: list[str] = []

    def enter(module: "torch.nn.Module", _: Any) -> None:
        around = f"{scopes[-1]}/" if scopes else ""
        scope = around + _scope_from_module_name(names[module])
        entered[scope] += 1
        # The exporter numbers the calls of a module that is called again.
        scopes.append(scope if entered[scope] == 1 else f"{scope}_{entered[scope] - 1}")

    def leave(module: "torch.nn.Module", _: Any, output: Any) -> None:
        label = f"{names[module] or 'the model'} ({type(module).__name__})"
        call, key = _ModuleCall(label, scopes.pop()), str(len(calls))
        tensor = output[0] if isinstance(output, tuple) else output
        if not isinstance(tensor, torch.Tensor):
            return
        calls.append(call)
        if key in wanted:
            # A copy, since the activation that follows may work in place.
            outputs[key] = tensor.numpy().copy()

    handles = [module.register_forward_pre_hook(enter) for module in names]
    handles += [module.register_forward_hook(leave) for module in names]
    run_torch(model, spec, feed)
    for handle in handles:
        handle.remove()
    return calls, outputs


def _scope_from_module_name(name: str) -> str:
    """Return what the exporter calls a module: ``0.conv`` is ``conv``, ``layer1.0`` stays."""
    atoms = name.split(".")
    start = len(atoms) - 1
    while start > 0 and atoms[start].isnumeric():
        start -= 1
    return ".".join(atoms[start:])


def _module_taps(calls: Sequence[_ModuleCall], nodes: Sequence[_Node]) -> list[_Tap]:
    """Find the node that computes the output of each call of a module, where there is one."""
    last = {scope: node for node in nodes for scope in _scopes_from_node_name(node.name)}
    return [
        _Tap(f"{call.label}, node {node.name}", node.outputs[0], (str(index),), is_guess=True)
        for index, call in enumerate(calls)
        if (node := last.get(call.scope)) is not None
    ]


def _scopes_from_node_name(name: str) -> Iterator[str]:
    """Return the scope of a node and those around it: of ``/a/b/Relu`` ``/a/b``, ``/a`` and none."""
    return itertools.accumulate(name.split("/")[:-1], lambda scope, part: f"{scope}/{part}")
