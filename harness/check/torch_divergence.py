"""Where the exported ONNX file diverges from PyTorch: the first module with a different output."""

import collections
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.build.torch_model import run_torch, torch_model_from_spec
from harness.check.onnx_divergence import Tap, gaps
from harness.runtimes.ort.open_graph import Node, nodes_from_onnx, open_graph
from harness.spec import Feed, ModelSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class _ModuleCall:
    """One call of a PyTorch module, and what the exporter calls the scope of its nodes."""

    label: str
    scope: str
    is_leaf: bool


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
    taps = _module_taps(calls, nodes_from_onnx(exported))

    def expected(keys: Sequence[str]) -> Feed:
        return _run_modules(model, spec, feed, keys)[1]

    with open_graph(exported, feed) as actual:
        gap = next(gaps(taps, actual, expected, relative_l2_max), None)
    if gap is None:
        return None
    count = f"{len(taps)} of {len(calls)} module calls have a node"
    return f"{gap.tap.label}, output {gap.tap.tensor}, {gap.reason}; {gap.before} ({count})"


def _run_modules(
    model: "torch.nn.Module", spec: ModelSpec, feed: Feed, wanted: Sequence[str]
) -> tuple[list[_ModuleCall], dict[str, "Array"]]:
    """Run the model; return the calls in the order in which they end, and the wanted outputs."""
    import torch

    calls: list[_ModuleCall] = []
    outputs: dict[str, Array] = {}
    names = {module: name for name, module in model.named_modules()}
    scopes: list[str] = []

    def enter(module: "torch.nn.Module", _: Any) -> None:
        around = f"{scopes[-1]}/" if scopes else ""
        scopes.append(around + _scope_from_module_name(names[module]))

    def leave(module: "torch.nn.Module", _: Any, output: Any) -> None:
        label = f"{names[module] or 'the model'} ({type(module).__name__})"
        call = _ModuleCall(label, scopes.pop(), not any(module.children()))
        key = str(len(calls))
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


def _module_taps(calls: Sequence[_ModuleCall], nodes: Sequence[Node]) -> list[Tap]:
    """Find the node that computes the output of each call of a module, where there is one."""
    last: dict[str, Node] = {}
    for node in nodes:
        # For /a/b/Relu: the whole model, /a and /a/b.
        parts = node.name.split("/")[:-1]
        last.update(dict.fromkeys(itertools.accumulate(parts, "{}/{}".format), node))
    totals = collections.Counter(call.scope for call in calls)
    ended: collections.Counter[str] = collections.Counter()
    taps = []
    for index, call in enumerate(calls):
        # The exporter numbers repeated calls in the innermost scope only: the names do not tell where
        # each call of a module with children ends.
        number = ended[call.scope]
        end = last.get(f"{call.scope}_{number}" if number else call.scope)
        ended[call.scope] += 1
        if end is not None and (call.is_leaf or totals[call.scope] == 1):
            label = f"{call.label}, node {end.name}"
            taps.append(Tap(label, end.outputs[0], (str(index),), is_guess=True))
    return taps
