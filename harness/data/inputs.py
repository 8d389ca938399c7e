"""The tensor of a clip -> the inputs of a model, which may be several."""

import numpy as np
import numpy.typing as npt

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


def _frames_of(tensor: Tensor, protocol: InputProtocol, taken: tuple[int, ...]) -> Tensor:
    """Return some frames of every clip and crop."""
    *_, height, width = protocol.sample_shape
    if protocol.layout == "TCHW":
        clips = tensor.reshape(-1, protocol.frame_count, 3, height, width)
        return clips[:, list(taken)]
    return tensor.reshape(-1, 3, protocol.frame_count, height, width)[:, :, list(taken)]
