"""An ONNX file and what it is to be fed -> the declaration of a model that exists only as this file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.build.onnx_export import inputs_of, tensor_spec_from_value_info
from harness.build.onnx_file import opset_of, proto_from_file
from harness.build.torch_model import check_checkpoint_digest
from harness.errors import InputError, first_line
from harness.runtimes.ort.session import ort_errors, ort_session
from harness.spec import InputProtocol, ModelSpec, TensorSpec
from harness.zoo.model import model_spec_from_file, protocol_differences

if TYPE_CHECKING:
    import onnx

OPSET = 11

Frames = Mapping[str, tuple[int, ...]]


def declared_from_file(
    path: Path, protocol: InputProtocol, frames: Frames, **fields: str
) -> ModelSpec:
    """Return the declaration of an ONNX file.

    Args:
        path: the file, whose name ends in the first digits of its sha256.
        protocol: how a clip becomes what the file takes.
        frames: of several inputs, by name, which frames of a clip each takes.
        fields: ``name``, ``dataset`` and ``config``, as ``model_spec_from_file`` takes them.

    Raises:
        CheckpointError: the file cannot be read, or is not what its name promises.
        InputError: it does not take what the protocol gives, or does not give scores.
    """
    check_checkpoint_digest(path)
    proto = proto_from_file(path)
    given = [tensor_spec_from_value_info(value) for value in inputs_of(proto)]
    taken = _taken(path, [one.name for one in given], protocol, frames)
    samples = [_sample_of(path, one, protocol, taken[one.name]) for one in given]
    batches = {batch for batch, _ in samples}
    if len(batches) > 1:
        raise InputError(
            f"the inputs of {path.name} have other batch sizes: {sorted(map(str, batches))}"
        )
    batch, inputs = batches.pop(), [one for _, one in samples]
    more: dict[str, Any] = {
        "frames": tuple(taken.values()) if len(taken) > 1 else (),
        "frozen_batch": batch,
        "opset": max(OPSET, opset_of(proto)),
        "softmax_in_graph": _last_operator(proto) == "Softmax",
    }
    return model_spec_from_file(
        path.name,
        inputs={one.name: one.shape for one in inputs},
        output=_scores_of(path, proto, inputs, batch or 1),
        protocol=protocol_differences(fields["config"], protocol),
        **fields,
        **more,
    )


def _taken(
    path: Path, names: Sequence[str], protocol: InputProtocol, frames: Frames
) -> dict[str, tuple[int, ...]]:
    if unknown := sorted(frames.keys() - set(names)):
        raise InputError(f"{path.name} has no input {unknown[0]}; it takes {', '.join(names)}")
    if len(names) == 1:
        return {names[0]: tuple(range(protocol.frame_count))}
    if missing := [name for name in names if name not in frames]:
        raise InputError(
            f"{path.name} takes {', '.join(names)}: say which frames of a clip each of them takes, of "
            f"{missing[0]} for example --frames {missing[0]}=0:{protocol.frame_count}"
        )
    return {name: frames[name] for name in names}


def _sample_of(
    path: Path, one: TensorSpec, protocol: InputProtocol, taken: Sequence[int]
) -> tuple[int | None, TensorSpec]:
    """Return the batch size of the file, None for any, and the input for one sample."""
    where = f"{path.name}: its input {one.name}"
    if one.dtype != "float32":
        raise InputError(f"{where} takes {one.dtype}; this suite feeds float32 frames")
    rows, *sizes = one.shape or (-1,)
    if min(sizes, default=-1) < 1:
        raise InputError(
            f"{where} has symbolic dimensions beyond the first, {list(one.shape)}; export it with fixed "
            "sizes, as only the batch may be open"
        )
    count = math.prod(protocol.sample_shape) * len(taken) // protocol.frame_count
    each, odd = divmod(count, math.prod(sizes))
    if odd or not each or (rows > 0 and rows % each):
        raise InputError(
            f"{where} is {list(one.shape)}, which {len(taken)} frames of the protocol's "
            f"{list(protocol.sample_shape)} do not fill; name another protocol"
        )
    return (rows // each if rows > 0 else None), TensorSpec(one.name, (each, *sizes))


def _last_operator(proto: "onnx.ModelProto") -> str:
    last = proto.graph.output[0].name
    return next((node.op_type for node in proto.graph.node if last in node.output), "")


def _scores_of(
    path: Path, proto: "onnx.ModelProto", inputs: Sequence[TensorSpec], batch: int
) -> tuple[str, tuple[int, ...]]:
    """Run zeros, as a file need not say what it gives."""
    names = [value.name for value in proto.graph.output]
    if len(names) > 1:
        raise InputError(f"{path.name} gives {', '.join(names)}; keep only the scores")
    zeros = {one.name: np.zeros(one.batched(batch).shape, np.float32) for one in inputs}
    try:
        made: Any = ort_session(path, level="none").run(names, zeros)[0]
    except ort_errors() as error:
        raise InputError(f"ONNX Runtime cannot run {path.name}: {first_line(error)}") from error
    if made.ndim != 2 or len(made) % batch:
        raise InputError(
            f"{path.name} gives {list(made.shape)} for {batch} clips, not rows of scores"
        )
    return names[0], (len(made) // batch, made.shape[1])
