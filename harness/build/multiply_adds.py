"""Multiply-adds of a model: as PyTorch runs it, and as its ONNX file has it.

They are what a model costs however busy the host is. Those of products and convolutions count, which
are nearly all; Einsum, which has others, no device here takes.
"""

import contextlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from harness.spec import TensorSpec

if TYPE_CHECKING:
    import onnx
    import torch

# By the names of tensors; 0 where a size is not known.
Sizes = Mapping[str, tuple[int, ...]]
UNKNOWN = (0,)

COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What gives other tensors their sizes has fewer elements.
VALUES_MAX = 1024
# From it on, sizes are inferred through the operators that compute them.
SIZES_OPSET = 17


def torch_multiply_adds(model: "torch.nn.Module", inputs: Sequence[TensorSpec]) -> int:
    """Count them in one run, in which nothing is computed unless the model looks at values."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        return _counted_by_torch(model, inputs, FakeTensorMode(allow_non_fake_inputs=True))
    except RuntimeError:
        return _counted_by_torch(model, inputs, contextlib.nullcontext())


def onnx_multiply_adds(proto: "onnx.ModelProto", inputs: Sequence[TensorSpec]) -> int | None:
    """Count them in a file that is fed with ``inputs``; None where a size is not known.

    The file loses the values of its weights.
    """
    import onnx

    _keep_sizes(proto, inputs)
    try:
        found = _of_graph(onnx.shape_inference.infer_shapes(proto).graph)
        if found is not None:
            return found
        newer = onnx.version_converter.convert_version(proto, SIZES_OPSET)
        return _of_graph(onnx.shape_inference.infer_shapes(newer, data_prop=True).graph)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError):
        return None


def _counted_by_torch(
    model: "torch.nn.Module",
    inputs: Sequence[TensorSpec],
    mode: contextlib.AbstractContextManager[Any],
) -> int:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    # In one operator, attention is counted on some processors only; in parts it is products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), mode, counter:
        model(*(torch.zeros(one.shape) for one in inputs))
    operations: int = counter.get_total_flops()
    return operations // 2


def _keep_sizes(proto: "onnx.ModelProto", inputs: Sequence[TensorSpec]) -> None:
    """Give the inputs the sizes that are fed, and drop large values and the sizes that the file tells."""
    fed = {one.name: one.shape for one in inputs}
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, fed.get(value.name, ()), strict=False):
            dim.dim_value = size
    del proto.graph.value_info[:]
    for tensor in proto.graph.initializer:
        if prod(tensor.dims) > VALUES_MAX:
            tensor.ClearField("raw_data")


def _of_graph(graph: "onnx.GraphProto") -> int | None:
    """Count them in a graph, but not in those inside of its operators; None where a size is missing."""
    values = (*graph.input, *graph.value_info, *graph.output)
    sizes = {one.name: _sizes(one) for one in values} | {
        one.name: tuple(one.dims) for one in graph.initializer
    }
    counts = [_of_node(node, sizes) for node in graph.node if node.op_type in COUNTED]
    return sum(counts) if all(counts) else None


def _sizes(value: "onnx.ValueInfoProto") -> tuple[int, ...]:
    tensor = value.type.tensor_type
    return tuple(dim.dim_value for dim in tensor.shape.dim) if tensor.HasField("shape") else UNKNOWN


def _of_node(node: "onnx.NodeProto", sizes: Sizes) -> int:
    """Count them in a node; 0 where a size that it takes is missing."""
    taken, weights, made = (sizes.get(name, UNKNOWN) for name in (*node.input[:2], node.output[0]))
    match node.op_type:
        case "Conv":
            return prod(made) * prod(weights) // max(1, weights[0])
        case "ConvTranspose":
            return prod(taken) * prod(weights) // max(1, weights[0])
        case "Gemm":
            return made[0] * prod(weights)
        case _:
            return prod(made) * max((taken[-1], *weights[-2:-1]))
