"""Ways to change an ONNX file: nodes, attributes, constants, weights and the header."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.selftest.faults import NotPlanted

if TYPE_CHECKING:
    import onnx

Weights = npt.NDArray[np.float32]
ChangeFile = Callable[[Path], object]
ChangeGraph = Callable[["onnx.ModelProto"], object]


def _graph(change: ChangeGraph) -> ChangeFile:
    """Return what changes the graph of an ONNX file."""

    def changed(path: Path) -> None:
        import onnx

        model = onnx.load(path)
        change(model)
        onnx.save(model, path)

    return changed


def nodes_of(model: "onnx.ModelProto", op: str) -> "list[onnx.NodeProto]":
    """Return the nodes of an operator, in the order of the file."""
    return [node for node in model.graph.node if node.op_type == op]


def dropped(op: str, number: int) -> ChangeFile:
    """Take out a node; what reads its output reads its input."""

    def change(model: "onnx.ModelProto") -> None:
        gone = nodes_of(model, op)[number]
        model.graph.node.remove(gone)
        for node in model.graph.node:
            for place, name in enumerate(node.input):
                if name == gone.output[0]:
                    node.input[place] = gone.input[0]

    return _graph(change)


def another(op: str, number: int, name: str) -> ChangeFile:
    """Change the operator of a node."""
    return _graph(lambda model: setattr(nodes_of(model, op)[number], "op_type", name))


def inputs_swapped(op: str, number: int) -> ChangeFile:
    """Swap the two inputs of a node."""

    def change(model: "onnx.ModelProto") -> None:
        node = nodes_of(model, op)[number]
        node.input[0], node.input[1] = node.input[1], node.input[0]

    return _graph(change)


def attribute(op: str, number: int, name: str, value: object) -> ChangeFile:
    """Set an attribute of a node."""

    def change(model: "onnx.ModelProto") -> None:
        import onnx

        node = nodes_of(model, op)[number]
        kept = [one for one in node.attribute if one.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    return _graph(change)


def weights(pattern: str, change: Callable[[Weights], npt.ArrayLike]) -> ChangeFile:
    """Change every weight whose name ends in ``pattern``; it is an error if there is none."""

    def changed(model: "onnx.ModelProto") -> None:
        found = [one for one in model.graph.initializer if one.name.endswith(pattern)]
        if not found:
            raise NotPlanted(f"no weight is called {pattern}")
        for one in found:
            _change_weight(one, change)

    return _graph(changed)


def largest(change: Callable[[Weights], npt.ArrayLike]) -> ChangeFile:
    """Change the largest weight of four dimensions, whatever its name."""

    def changed(model: "onnx.ModelProto") -> None:
        four = [one for one in model.graph.initializer if len(one.dims) == 4]
        _change_weight(max(four, key=lambda one: math.prod(one.dims)), change)

    return _graph(changed)


def _change_weight(one: "onnx.TensorProto", change: Callable[[Weights], npt.ArrayLike]) -> None:
    from onnx import numpy_helper

    values = np.asarray(change(numpy_helper.to_array(one).copy()), np.float32)
    one.CopyFrom(numpy_helper.from_array(values, one.name))


def scalar(op: str, factor: float) -> ChangeFile:
    """Scale the constant that is the second input of the first such node."""

    def changed(model: "onnx.ModelProto") -> None:
        from onnx import helper, numpy_helper

        node = nodes_of(model, op)[0]
        name = f"{node.input[1]}_scaled"
        constant = np.array(factor, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(constant, name + "_by"))
        more = helper.make_node("Mul", [node.input[1], name + "_by"], [name], name=name)
        node.input[1] = name
        model.graph.node.insert(list(model.graph.node).index(node), more)

    return _graph(changed)


def idle_twin(op: str, number: int) -> ChangeFile:
    """Compute a node on its negated input as well, and add none of the result: more work, the same answers."""

    def change(model: "onnx.ModelProto") -> None:
        from onnx import helper, numpy_helper

        node = nodes_of(model, op)[number]
        (first, *others), made = node.input, node.output[0]
        # Of another input, as what is computed twice is simplified away.
        negated, twin, zero, none, kept = (f"{made}_{number}" for number in range(5))
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), zero))
        more = helper.make_node(op, [negated, *others], [twin])
        more.attribute.extend(node.attribute)
        node.output[0] = kept
        place = list(model.graph.node).index(node) + 1
        for one in (
            helper.make_node("Add", [kept, none], [made]),
            helper.make_node("Mul", [twin, zero], [none]),
            more,
            helper.make_node("Neg", [first], [negated]),
        ):
            model.graph.node.insert(place, one)

    return _graph(change)


def opset(version: int) -> ChangeFile:
    """Write another opset into the header."""
    return _graph(lambda model: setattr(model.opset_import[0], "version", version))


def renamed(role: str) -> ChangeFile:
    """Rename the first ``input`` or ``output``."""

    def change(model: "onnx.ModelProto") -> None:
        value = getattr(model.graph, role)[0]
        for node in model.graph.node:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == value.name:
                        names[place] = "renamed"
        value.name = "renamed"

    return _graph(change)


def dimension(role: str, place: int, size: int | str) -> ChangeFile:
    """Write another size, or a name, into the shape of the first ``input`` or ``output``."""

    def change(model: "onnx.ModelProto") -> None:
        dim = getattr(model.graph, role)[0].type.tensor_type.shape.dim[place]
        dim.Clear()
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size

    return _graph(change)


@_graph
def noise_operator(model: "onnx.ModelProto") -> None:
    """Add noise that the runtime draws to the last output."""
    from onnx import helper

    last = model.graph.node[-1]
    name = last.output[0]
    last.output[0] = "before_noise"
    random = helper.make_node("RandomNormalLike", ["before_noise"], ["noise"], scale=1e-6)
    model.graph.node.extend([random, helper.make_node("Add", ["before_noise", "noise"], [name])])


def cut(path: Path) -> None:
    """Cut off the end of a file."""
    path.write_bytes(path.read_bytes()[:-200])


def first_channel(factor: float) -> Callable[[Any], Any]:
    """Return what scales the first channel of a weight, an array or a tensor."""

    def change(values: Any) -> Any:
        values[0] *= factor
        return values

    return change
