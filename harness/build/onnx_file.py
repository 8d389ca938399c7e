"""A model that exists only as an ONNX file: the file of a batch size, and what the file itself computes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.build.exact_graph import ExactGraph
from harness.build.onnx_export import (
    fill_sizes,
    inputs_of,
    onnx_facts,
    onnx_problems,
    tensor_spec_from_value_info,
)
from harness.errors import CheckpointError, ExportError, first_line
from harness.host.reading import bytes_from_file
from harness.runtimes.ort.session import running, unoptimised_session
from harness.spec import Feed, ModelSpec, TensorSpec

if TYPE_CHECKING:
    import onnx

# Protocol buffers end there.
FILE_BYTES = 2 << 30
TELL_BATCH = "export it again with a symbolic first dimension, or judge it at its own batch size"


def proto_from_file(path: Path) -> "onnx.ModelProto":
    """Read an ONNX file that holds a whole model of static or symbolic sizes.

    Raises:
        CheckpointError: it cannot be read, keeps weights in other files, or has two inputs of one name.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(bytes_from_file(path, FILE_BYTES))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise CheckpointError(
            f"{path} is not an ONNX file, or a damaged one ({first_line(error)}); fetch it again"
        ) from error
    if not proto.graph.node or not proto.graph.output:
        raise CheckpointError(f"{path} is not an ONNX file: it has no operators or no output")
    _refuse_other_files(path, proto)
    names = [value.name for value in inputs_of(proto)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CheckpointError(
            f"{path} has two inputs named {', '.join(twice)}, so nothing says which is fed; rename "
            "one in the model and export it again"
        )
    return proto


def opset_of(proto: "onnx.ModelProto") -> int:
    """Return the opset of the standard operators."""
    return next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 0)


def write_for_batch(spec: ModelSpec, batch: int, path: Path, target: Path) -> dict[str, Any]:
    """Write the file for one batch size, or its gears, with static sizes and at the declared opset.

    Raises:
        CheckpointError: the file cannot be read.
        ExportError: it cannot be made what is declared.
    """
    import onnx

    proto = proto_from_file(path)
    opset = opset_of(proto)
    try:
        _fix_sizes(proto, spec, batch)
        proto = _at_opset(proto, spec)
        # The search for a wrong operator says by name where it is.
        for number, node in enumerate(proto.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        onnx.save(proto, target)
    except ExportError as error:
        raise ExportError(f"{path.name} at batch {batch}: {error}") from error
    problems = onnx_problems(target, *spec.tensors_of_file(batch), spec.opset)
    if problems:
        raise ExportError(
            f"{path.name} at batch {batch} is not as {spec.name} declares it: {'; '.join(problems)}"
        )
    return {**onnx_facts(target), "opset_of_file": opset}


class OpenFile:
    """An ONNX file as it is, in ONNX Runtime without optimisation.

    A file of a fixed batch size runs a batch in parts, the last filled with copies of its last row.
    """

    def __init__(self, spec: ModelSpec, path: Path, threads: int | None = None) -> None:
        """Load the file.

        Raises:
            CheckpointError: it cannot be read.
            RunError: ONNX Runtime cannot load it.
        """
        self._spec, self._path = spec, path
        first = tensor_spec_from_value_info(inputs_of(proto_from_file(path))[0])
        rows = first.shape[0] if first.shape else -1
        self._batch = None if rows < 1 else max(1, rows // spec.inputs[0].shape[0])
        self._session = unoptimised_session(path, threads)

    def run(self, feed: Feed) -> Feed:
        """Run a batch in float32."""
        name = self._spec.output.name
        with running(self._path):
            return self._in_parts(feed, lambda part: self._session.run([name], dict(part))[0])

    def run_exactly(self, feed: Feed) -> Feed:
        """Run a batch in float64."""
        name = self._spec.output.name
        return self._in_parts(feed, lambda part: ExactGraph(self._path, part).value(name))

    def digest(self) -> str:
        """Return nothing: no scores ship with the suite for a file."""
        return ""

    def _in_parts(self, feed: Feed, run: Callable[[Feed], Any]) -> Feed:
        output, counts = self._spec.output, [one.shape[0] for one in self._spec.inputs]
        total = len(feed[self._spec.inputs[0].name]) // counts[0]
        batch = self._batch or total
        made = []
        for start in range(0, total, batch):
            samples = np.minimum(np.arange(start, start + batch), total - 1)
            part = {
                one.name: _samples(feed[one.name], count, samples)
                for one, count in zip(self._spec.inputs, counts, strict=True)
            }
            made.append(run(part))
        return {output.name: np.concatenate(made)[: total * output.shape[0]]}


def _samples(values: Any, rows: int, samples: Any) -> Any:
    """Return some samples of a batch, each of so many rows."""
    return values.reshape(-1, rows, *values.shape[1:])[samples].reshape(-1, *values.shape[1:])


def _refuse_other_files(path: Path, proto: "onnx.ModelProto") -> None:
    from onnx import external_data_helper

    places = [
        entry.value
        # Constants and the insides of operators as well.
        for tensor in external_data_helper._get_all_tensors(proto)
        for entry in tensor.external_data
        if entry.key == "location"
    ]
    if not places:
        return
    folder, place = path.parent.resolve(), places[0]
    where = "" if (folder / place).resolve().is_relative_to(folder) else ", outside its folder"
    raise CheckpointError(
        f"{path} keeps {len(places)} weights in another file, {place}{where}, so its own sha256 does "
        "not say what it computes; save it as one file: onnx.save(onnx.load(OLD), NEW)"
    )


def _fix_sizes(proto: "onnx.ModelProto", spec: ModelSpec, batch: int) -> None:
    """Give every symbolic size of the inputs the size that is declared, and infer the rest."""
    import onnx

    given = inputs_of(proto)
    found, wanted = [value.name for value in given], [one.name for one in spec.inputs]
    if found != wanted:
        raise ExportError(f"it takes {', '.join(found)}, {spec.name} declares {', '.join(wanted)}")
    sizes: dict[str, int] = {}
    inputs, output = spec.tensors_of_file(batch)
    for value, one in zip(given, inputs, strict=True):
        _fix_input(value, one, sizes)
    _fix_names(proto, sizes)
    del proto.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"its sizes cannot be inferred: {first_line(error)}") from error
    proto.graph.CopyFrom(inferred.graph)
    for value in proto.graph.output:
        if value.name == output.name:
            fill_sizes(value, output)


def _fix_input(value: "onnx.ValueInfoProto", one: TensorSpec, sizes: dict[str, int]) -> None:
    found = tensor_spec_from_value_info(value)
    if found.dtype != one.dtype:
        raise ExportError(f"its input {one.name} is {found.dtype}; this suite feeds {one.dtype}")
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(one.shape):
        raise ExportError(f"its input {one.name} has {len(dims)} dimensions, not {len(one.shape)}")
    for place, (dim, size) in enumerate(zip(dims, one.shape, strict=True)):
        if dim.HasField("dim_value"):
            if dim.dim_value != size:
                advice = f"; {TELL_BATCH}" if place == 0 else ""
                raise ExportError(
                    f"its input {one.name} is fixed to {list(found.shape)}, not "
                    f"{list(one.shape)}{advice}"
                )
        elif sizes.setdefault(dim.dim_param, size) != size and dim.dim_param:
            raise ExportError(
                f"its symbolic dimension {dim.dim_param} is {sizes[dim.dim_param]} in one place and "
                f"{size} in another"
            )
        if size > 0:
            dim.dim_value = size


def _fix_names(proto: "onnx.ModelProto", sizes: Mapping[str, int]) -> None:
    """Give symbolic sizes of the outputs that have the name of an input's the same size."""
    for value in proto.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and sizes.get(dim.dim_param, -1) > 0:
                dim.dim_value = sizes[dim.dim_param]


def _at_opset(proto: "onnx.ModelProto", spec: ModelSpec) -> "onnx.ModelProto":
    """Raise an older opset to the declared one; what a newer one means, an older one cannot always say."""
    import onnx

    found = opset_of(proto)
    if found == spec.opset:
        return proto
    advice = (
        f"export it again at opset {spec.opset}, which every atc reads, or declare opset={found} if the "
        "compilers of its devices read that"
    )
    if found > spec.opset:
        raise ExportError(f"it has opset {found}, {spec.name} declares {spec.opset}: {advice}")
    try:
        return onnx.version_converter.convert_version(proto, spec.opset)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"its opset {found} cannot be raised to {spec.opset} ({first_line(error)}): {advice}"
        ) from error
