"""ModelSpec -> OnnxModel: the legacy exporter at opset 11, which every ATC version reads."""

import collections
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.build.multiply_adds import torch_multiply_adds
from harness.build.torch_model import torch_model_from_spec
from harness.errors import ExportError, first_line
from harness.spec import ModelSpec, TensorSpec

if TYPE_CHECKING:
    import onnx
    import torch


def write_onnx(
    spec: ModelSpec, batch: int, checkpoint: Path | None, target: Path
) -> dict[str, Any]:
    """Export a model for one batch size, or its gears, and return facts for its provenance.

    The graph is traced without its weights, which are then attached by their PyTorch names: that
    halves the exporter's peak memory and keeps the names that the search for a diverging node uses.

    Raises:
        CheckpointError: the weights do not fit the model.
        ExportError: the exporter failed, or its file is not as declared.
    """
    model = torch_model_from_spec(spec, checkpoint)
    _trace(model, spec, batch, target)
    _declare(target, spec, batch)
    _attach_weights(target, model)
    multiply_adds = torch_multiply_adds(model, spec.traced_inputs(batch))
    del model
    problems = onnx_problems(target, *spec.tensors_of_file(batch), spec.opset)
    if problems:
        raise ExportError(
            f"{spec.name} at batch {batch} was exported wrongly: {'; '.join(problems)}"
        )
    return {**onnx_facts(target), "multiply_adds": multiply_adds}


def onnx_facts(path: Path) -> dict[str, Any]:
    """Count the contents of an ONNX file, for its provenance and for the operator allow list."""
    import onnx

    proto = onnx.load(path)
    weight_bytes = sum(
        math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in proto.graph.initializer
    )
    return {"ops": op_counts(proto), "weight_bytes": weight_bytes}


def op_counts(proto: "onnx.ModelProto") -> dict[str, int]:
    """Count the operators of a graph and its subgraphs; other domains prefix their name."""
    counts: collections.Counter[str] = collections.Counter()

    def count(graph: "onnx.GraphProto") -> None:
        for node in graph.node:
            counts[f"{node.domain}::{node.op_type}" if node.domain else node.op_type] += 1
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    count(attribute.g)

    count(proto.graph)
    return dict(sorted(counts.items()))


def onnx_problems(
    path: Path, expected: Sequence[TensorSpec], expected_output: TensorSpec, opset: int
) -> list[str]:
    """Return what is not as declared in an ONNX file; empty if it is sound."""
    import onnx

    return checker_problems(path) or declared_problems(
        onnx.load(path), expected, expected_output, opset
    )


def checker_problems(path: Path) -> list[str]:
    """Return what ``onnx.checker`` finds; it reads the file itself, and frees it before it is loaded here."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, DecodeError) as error:
        return [f"onnx.checker: {first_line(error)}"]
    return []


def declared_problems(
    proto: "onnx.ModelProto",
    expected: Sequence[TensorSpec],
    expected_output: TensorSpec,
    opset: int,
) -> list[str]:
    """Return in which of its opset, inputs and output a file is not as declared."""
    problems = []
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    if opsets.get("") != opset:
        problems.append(f"opset is {opsets.get('')} instead of {opset}")
    problems += _tensor_problems("input", inputs_of(proto), expected)
    problems += _tensor_problems("output", list(proto.graph.output), [expected_output])
    return problems


def _tensor_problems(
    role: str, values: "list[onnx.ValueInfoProto]", expected: Sequence[TensorSpec]
) -> list[str]:
    found, wanted = [value.name for value in values], [one.name for one in expected]
    if found != wanted:
        return [f"{role}s are {found} instead of {wanted}"]
    both = zip(map(tensor_spec_from_value_info, values), expected, strict=True)
    return [
        f"{role} {want.name} is {have.dtype} {list(have.shape)} instead of {want.dtype} "
        f"{list(want.shape)}"
        for have, want in both
        if have != want
    ]


def tensor_spec_from_value_info(value: "onnx.ValueInfoProto") -> TensorSpec:
    """Read name, shape and dtype; a dynamic dimension is -1."""
    import onnx

    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)
    if not value.type.HasField("tensor_type"):
        return TensorSpec(value.name, shape, "no tensor")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return TensorSpec(value.name, shape, dtype)


def _trace(model: "torch.nn.Module", spec: ModelSpec, batch: int, target: Path) -> None:
    import torch

    zeros = tuple(torch.zeros(one.shape) for one in spec.traced_inputs(batch))
    inputs, output = spec.tensors_of_file(batch)
    opened = {one.name: {0: "batch"} for one in (*inputs, output) if spec.gears}
    exporter: Any = torch.onnx
    exporter.register_custom_op_symbolic("aten::unflatten", _unflatten_symbolic, spec.opset)
    with warnings.catch_warnings(), torch.no_grad():
        # The legacy exporter warns of its own retirement and of each traced Python constant. The
        # parity check shows whether the trace is faithful.
        warnings.simplefilter("ignore")
        try:
            exporter.export(
                model,
                zeros,
                str(target),
                input_names=[one.name for one in spec.inputs],
                output_names=[spec.output.name],
                opset_version=spec.opset,
                dynamic_axes=opened,
                do_constant_folding=False,
                export_params=False,
                dynamo=False,
            )
        except (RuntimeError, exporter.errors.OnnxExporterError) as error:
            raise ExportError(
                f"torch.onnx.export refused {spec.name} at batch {batch}, opset {spec.opset}: "
                f"{first_line(error)}"
            ) from error


def _declare(target: Path, spec: ModelSpec, batch: int) -> None:
    """Give the output the shape of the declaration, where an open batch has hidden it from the exporter."""
    import onnx

    if not spec.gears:
        return
    proto = onnx.load(target)
    fill_sizes(proto.graph.output[0], spec.tensors_of_file(batch)[1])
    onnx.save(proto, target)


def fill_sizes(value: "onnx.ValueInfoProto", declared: TensorSpec) -> None:
    """Write what is declared where no size is known; whether it is so, each run shows."""
    dims = value.type.tensor_type.shape.dim
    if len(dims) == len(declared.shape):
        for dim, size in zip(dims, declared.shape, strict=True):
            if size > 0 and not dim.HasField("dim_value"):
                dim.dim_value = size


def inputs_of(proto: "onnx.ModelProto") -> "list[onnx.ValueInfoProto]":
    """Return the inputs that are fed; old files list their weights among the inputs."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in weights]


def _unflatten_symbolic(graph: Any, tensor: Any, dim: Any, sizes: Any) -> Any:
    """Write ``aten::unflatten``, which nn.MultiheadAttention calls, as a Reshape to static sizes.

    torch has a symbolic for it only from opset 13 on.
    """
    import torch
    from torch.onnx import symbolic_helper

    helper: Any = symbolic_helper
    shape = list(tensor.type().sizes() or ())
    if not shape:
        raise ExportError(
            "nn.MultiheadAttention cannot be exported with an open batch, so the model has no gears: "
            "leave out the rows that name them"
        )
    axis = helper._get_const(dim, "i", "dim") % len(shape)
    shape[axis : axis + 1] = helper._parse_arg(sizes, "is")
    constant = graph.op("Constant", value_t=torch.tensor(shape, dtype=torch.int64))
    return graph.op("Reshape", tensor, constant)


def _attach_weights(target: Path, model: "torch.nn.Module") -> None:
    """Turn the graph inputs that are weights into initializers, one at a time.

    Serialized protobuf messages merge when they are concatenated, so each weight is appended to the
    file as a model of its own: the whole is never in memory twice.
    """
    import onnx
    from onnx import numpy_helper

    weights = model.state_dict()
    proto = onnx.load(target)
    declared = list(proto.graph.input)
    del proto.graph.input[:]
    proto.graph.input.extend(value for value in declared if value.name not in weights)
    with target.open("wb") as file:
        file.write(proto.SerializeToString())
        for name in [value.name for value in declared if value.name in weights]:
            tensor = numpy_helper.from_array(weights[name].numpy(), name)
            part = onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor]))
            file.write(part.SerializeToString())
