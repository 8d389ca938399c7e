"""The tensor of a clip -> the inputs of a model, which may be several."""

import itertools

import numpy as np
import numpy.typing as npt

from harness.errors import InputError
from harness.spec import Feed, InputProtocol, ModelSpec

Tensor = npt.NDArray[np.float32]


def inputs_from_tensor(spec: ModelSpec, tensor: Tensor) -> Feed:
    """Return the inputs of one sample by name: its tensor, or some frames of it for each of several."""
    if len(spec.inputs) == 1:
        return {spec.inputs[0].name: tensor.reshape(spec.inputs[0].shape)}
    return {
        one.name: _frames_of(tensor, spec.protocol, taken).reshape(one.shape)
        for one, taken in zip(spec.inputs, spec.frames, strict=True)
    }


def require_inputs(spec: ModelSpec) -> None:
    """Fail if the inputs of a model cannot be told apart, or nothing says what they take.

    Raises:
        InputError: two have one name, or frames are missing or not in a clip.
    """
    names, frames = [one.name for one in spec.inputs], range(spec.protocol.frame_count)
    text, taken = f"{spec.name} takes {', '.join(names)}", itertools.chain(*spec.frames)
    if len(set(names)) < len(names):
        raise InputError(f"{text}: two inputs have one name; rename one of them in the file")
    if len(names) > 1 and (len(spec.frames) != len(names) or not set(taken) <= set(frames)):
        raise InputError(
            f"{text}: say in `frames` of its SPEC which frames of a clip each of them takes, from 0 to "
            f"{frames[-1]}"
        )


def _frames_of(tensor: Tensor, protocol: InputProtocol, taken: tuple[int, ...]) -> Tensor:
    """Return some frames of every clip and crop."""
    *_, height, width = protocol.sample_shape
    if protocol.layout == "TCHW":
        clips = tensor.reshape(-1, protocol.frame_count, 3, height, width)
        return clips[:, list(taken)]
    return tensor.reshape(-1, 3, protocol.frame_count, height, width)[:, :, list(taken)]
