"""A planted wrong operator: EMULATOR_WRONG is its name, or NAME=KIND.

scale     (default) the output is 0.3 times what it should be
nan       the output is NaN
overflow  the output is too large on the way, so that float16 loses it; float32 does not
"""

import os
import sys

from emulated.compiled import compiled, consumers

KINDS = ("scale", "nan", "overflow")


def planted(data, precision):
    """Return an ONNX file with the fault, and the tensor that the operator now gives."""
    asked = os.environ.get("EMULATOR_WRONG", "")
    if not asked:
        return data, {}
    name, _, kind = asked.partition("=")
    import onnx

    model = onnx.load_model_from_string(data)
    ops = compiled(model, precision)
    op = next((op for op in ops if op.name == name), None)
    if op is None or kind not in ("", *KINDS):
        known = ", ".join(op.name for op in ops[:20])
        sys.exit(f"emulator: EMULATOR_WRONG={asked} names no operator; there are: {known}, ...")
    if kind == "overflow" and op.dtype != "float16":
        return data, {}
    tensor = spoil(model.graph, ops, op, kind or "scale")
    return model.SerializeToString(), {name: tensor}


def spoil(graph, ops, op, kind):
    import onnx

    tensor = op.tensors[0]
    is_last = any(tensor == value.name for value in graph.output)
    made = f"{tensor}__{kind}"
    if op.is_made_by_compiler and not is_last:
        users = {n.name for one in consumers(ops, op.name) for n in one.nodes}
        nodes = [n for n in graph.node if n.name in users]
        added = wrong_nodes(graph, tensor, made, kind)
        replace_inputs(nodes, tensor, made)
    else:
        maker = next(n for n in graph.node if tensor in n.output)
        maker.output[list(maker.output).index(tensor)] = made
        added, made = wrong_nodes(graph, made, tensor, kind), tensor
    ordered = in_order([*graph.node, *added], graph)
    del graph.node[:]
    graph.node.extend(ordered)
    assert isinstance(graph, onnx.GraphProto)
    return made


def replace_inputs(nodes, old, new):
    for node in nodes:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def wrong_nodes(graph, source, target, kind):
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def constant(value):
        name = f"{target}__factor_{value}"
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    if kind != "overflow":
        factor = constant(0.3 if kind == "scale" else np.nan)
        return [helper.make_node("Mul", [source, factor], [target], f"{target}__wrong")]
    large, half, back = f"{target}__large", f"{target}__half", f"{target}__back"
    factor = constant(1e6)
    return [
        helper.make_node("Mul", [source, factor], [large], large),
        helper.make_node("Cast", [large], [half], half, to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [back], back, to=TensorProto.FLOAT),
        helper.make_node("Div", [back, factor], [target], f"{target}__wrong"),
    ]


def in_order(nodes, graph):
    known = {v.name for v in graph.input} | {t.name for t in graph.initializer} | {""}
    ordered, waiting = [], list(nodes)
    while waiting:
        ready = [n for n in waiting if set(n.input) <= known]
        ordered += ready
        known |= {name for n in ready for name in n.output}
        waiting = [n for n in waiting if n not in ready]
    return ordered
