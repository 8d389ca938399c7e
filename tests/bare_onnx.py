"""A model that exists only as an ONNX file: two inputs, the slow and the fast pathway of a clip."""

import dataclasses

import numpy as np

from harness.host.provenance import sha256_from_file
from harness.registry import model_spec
from harness.spec import ModelSpec, TensorSpec

CLASSES, CHANNELS, SIDE = 8, 6, 16
FRAMES = ((0, 4), tuple(range(8)))


def slow_fast_spec(checkpoint="slow_fast-00000000.onnx") -> ModelSpec:
    protocol = dataclasses.replace(
        model_spec("nonlocal_tiny").protocol, layout="MCTHW", short_side=18, crop_size=SIDE
    )
    slow, fast = (TensorSpec(name, (1, 3, len(taken), SIDE, SIDE)) for name, taken in named())
    return ModelSpec(
        name="slow_fast",
        config="",
        overrides={},
        checkpoint=checkpoint,
        dataset="motion8",
        class_count=CLASSES,
        input=(slow, fast),
        output=TensorSpec("class", (1, CLASSES)),
        softmax_in_graph=True,
        protocol=protocol,
        frames=FRAMES,
    )


def named():
    return zip(("slow", "fast"), FRAMES, strict=True)


def slow_fast_proto(batch="N", opset=11):
    """Return the model, by default for any batch size."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(3)
    constants, nodes, made = [], [], []
    for name, _ in named():
        kernel = random.normal(size=(CHANNELS, 3, 1, 3, 3), scale=0.2).astype(np.float32)
        constants.append(numpy_helper.from_array(kernel, f"{name}_w"))
        steps = (("Conv", f"{name}_w"), ("Relu",), ("GlobalAveragePool",), ("Flatten",))
        x = name
        for op, *more in steps:
            pads = {"pads": [0, 1, 1, 0, 1, 1]} if op == "Conv" else {}
            nodes.append(
                helper.make_node(op, [x, *more], [f"{name}_{op}"], f"/{name}/{op}", **pads)
            )
            x = f"{name}_{op}"
        made.append(x)
    head = random.normal(size=(2 * CHANNELS, CLASSES)).astype(np.float32)
    constants.append(numpy_helper.from_array(head, "head"))
    nodes += [
        helper.make_node("Concat", made, ["joined"], "/Concat", axis=1),
        helper.make_node("MatMul", ["joined", "head"], ["scores"], "/head/MatMul"),
        helper.make_node("Softmax", ["scores"], ["class"], "/Softmax", axis=1),
    ]
    shapes = {name: [batch, 3, len(taken), SIDE, SIDE] for name, taken in named()}
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given]
        for given in (shapes.items(), [("class", [batch, CLASSES])])
    )
    graph = helper.make_graph(nodes, "slow_fast", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def mean_proto(shape=("N", 8, 3, 64, 64), opset=11, outputs=("class",), last="Softmax"):
    """Return a model that scores the mean colours of the clips of nonlocal_tiny."""
    from onnx import TensorProto, helper, numpy_helper

    head = np.random.default_rng(5).normal(size=(3, CLASSES)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["video"], ["means"], axes=[1, 3, 4], keepdims=0),
        helper.make_node("MatMul", ["means", "head"], ["scores"]),
        helper.make_node(last, ["scores"], ["class"]),
    ]
    video = helper.make_tensor_value_info("video", TensorProto.FLOAT, shape)
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    constants = [numpy_helper.from_array(head, "head")]
    graph = helper.make_graph(nodes, "means", [video], given, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def stored(folder, proto, name="slow_fast"):
    """Write a model under a name that has the first digits of its sha256, and return the path."""
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path.rename(folder / f"{name}-{sha256_from_file(path)[:8]}.onnx")
