"""Two ONNX files -> the measurement that the export check judges."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.build.multiply_adds import onnx_multiply_adds
from harness.build.onnx_export import (
    checker_problems,
    declared_problems,
    op_counts,
    tensor_spec_from_value_info,
)
from harness.device import Device
from harness.errors import ExportError, first_line
from harness.measure.export import ExportMeasurement, MultiplyAdds, TensorFacts
from harness.spec import Artifact, ModelSpec

if TYPE_CHECKING:
    import onnx


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What one look at a file shows."""

    problems: list[str]
    opset: int
    op_counts: Mapping[str, int]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    multiply_adds: int | None


def measure_export(
    exported: Artifact, simplified: Artifact, spec: ModelSpec, batch: int, device: Device
) -> ExportMeasurement:
    """Check both files: valid, as declared, and with operators that the device supports.

    Raises:
        ExportError: a file cannot be read.
    """
    first, last = (_seen(file.path, spec, batch) for file in (exported, simplified))
    problems = [
        f"{what}: {problem}"
        for what, seen in (("exported", first), ("simplified", last))
        for problem in seen.problems
    ]
    problems += [
        f"simplified: operator {name} ({count} nodes) is not in the allow list of {device.spec.name}"
        for name, count in last.op_counts.items()
        if not device.takes(name)
    ]
    torch = exported.provenance["facts"].get("multiply_adds")
    return ExportMeasurement(
        problems=tuple(problems),
        ops_checked=sum(last.op_counts.values()),
        opset=last.opset,
        op_counts=last.op_counts,
        inputs=last.inputs,
        outputs=last.outputs,
        onnx_bytes=exported.path.stat().st_size,
        simplified_bytes=simplified.path.stat().st_size,
        multiply_adds=MultiplyAdds(
            torch=torch, exported=first.multiply_adds, simplified=last.multiply_adds
        ),
    )


def _seen(path: Path, spec: ModelSpec, batch: int) -> _Seen:
    broken, proto = checker_problems(path), _loaded(path)
    return _Seen(
        problems=broken or declared_problems(proto, *spec.tensors_of_file(batch), spec.opset),
        opset=max(entry.version for entry in proto.opset_import),
        op_counts=op_counts(proto),
        inputs=tuple(map(_tensor_facts, proto.graph.input)),
        outputs=tuple(map(_tensor_facts, proto.graph.output)),
        # Last, as the file loses the values of its weights.
        multiply_adds=onnx_multiply_adds(proto, spec.traced_inputs(batch)),
    )


def _loaded(path: Path) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path)
    except DecodeError as error:
        raise ExportError(
            f"the model {path} is not a whole ONNX file ({first_line(error)}): it is cut off or damaged; "
            "delete it and run again, which builds it again"
        ) from error


def _tensor_facts(value: "onnx.ValueInfoProto") -> TensorFacts:
    spec = tensor_spec_from_value_info(value)
    return TensorFacts(name=spec.name, shape=spec.shape, dtype=spec.dtype)
