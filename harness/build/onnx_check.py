"""Two ONNX files -> the measurement that the export check judges."""

from pathlib import Path
from typing import TYPE_CHECKING

from harness.build.multiply_adds import onnx_multiply_adds
from harness.build.onnx_export import onnx_problems, op_counts, tensor_spec_from_value_info
from harness.device import Device
from harness.errors import ExportError, first_line
from harness.measure.export import ExportMeasurement, TensorFacts
from harness.spec import Artifact, ModelSpec

if TYPE_CHECKING:
    import onnx


def measure_export(
    exported: Artifact, simplified: Artifact, spec: ModelSpec, batch: int, device: Device
) -> ExportMeasurement:
    """Check both files: valid, as declared, and with operators that the device supports.

    Raises:
        ExportError: the simplified file cannot be read.
    """
    problems = [
        f"{what}: {problem}"
        for what, file in (("exported", exported), ("simplified", simplified))
        for problem in onnx_problems(file.path, *spec.tensors_of_file(batch), spec.opset)
    ]
    proto = _loaded(simplified.path)
    counts = op_counts(proto)
    problems += [
        f"simplified: operator {name} ({count} nodes) is not in the allow list of {device.spec.name}"
        for name, count in counts.items()
        if not device.takes(name)
    ]
    return ExportMeasurement(
        problems=tuple(problems),
        ops_checked=sum(counts.values()),
        opset=max(entry.version for entry in proto.opset_import),
        op_counts=counts,
        inputs=tuple(map(_tensor_facts, proto.graph.input)),
        outputs=tuple(map(_tensor_facts, proto.graph.output)),
        onnx_bytes=exported.path.stat().st_size,
        simplified_bytes=simplified.path.stat().st_size,
        torch_multiply_adds=exported.provenance["facts"].get("multiply_adds"),
        # Last, as the file loses its values.
        multiply_adds=onnx_multiply_adds(proto, spec.traced_inputs(batch)),
    )


def _loaded(path: Path) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path)
    except DecodeError as error:
        raise ExportError(
            f"the simplified model {path} is not a whole ONNX file ({first_line(error)}): it is cut off "
            "or damaged; delete it and run again, which builds it again"
        ) from error


def _tensor_facts(value: "onnx.ValueInfoProto") -> TensorFacts:
    spec = tensor_spec_from_value_info(value)
    return TensorFacts(name=spec.name, shape=spec.shape, dtype=spec.dtype)
