"""A clip in, the model's input out; ``InputSteps`` are what it is on its way."""

import dataclasses
from collections.abc import Callable, Generator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from harness.clips import Clip, Row, Sample
from harness.data.rawframes import frames_of_protocol
from harness.data.sampling import frame_indices
from harness.data.skipping import Choose
from harness.data.transforms import (
    Crops,
    Frame,
    Tensor,
    crops_from_frames,
    jpeg_round_trip,
    tensor_from_crops,
)
from harness.data.video import decode_as_extracted, decode_frames
from harness.errors import ClipError, DecodeError
from harness.host.patience import patiently
from harness.spec import InputProtocol

Frames = npt.NDArray[np.uint8]
CropReader = Callable[[Clip, InputProtocol], Crops]


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A clip that could not be read, and why."""

    clip_id: str
    reason: str


@dataclasses.dataclass(frozen=True)
class InputSteps:
    """What a clip is on its way into a model.

    Attributes:
        indices: of the frames, counted from 0.
        frames: as decoded, uint8 [frame, height, width, RGB].
        crops: uint8 [crop, frame, height, width, RGB].
        tensor: float32, in the layout of the protocol.
    """

    indices: tuple[int, ...]
    frames: Frames
    crops: Crops
    tensor: Tensor


Source = Callable[[Sequence[Clip]], Generator[Sample | Unreadable, None, None]]


def crops_from_clip(clip: Clip, protocol: InputProtocol) -> Crops:
    """Decode a clip and return its uint8 crops [crop, frame, height, width, RGB].

    Raises:
        ClipError: the clip cannot be read.
        DecodeError: its decoder hangs.
    """
    choose = partial(frame_indices, protocol)
    return crops_from_frames(_frames(clip, protocol, choose), protocol)


def steps_from_clip(clip: Clip, protocol: InputProtocol) -> InputSteps:
    """Decode a clip as ``crops_from_clip`` does, and return what each step gives.

    Raises:
        ClipError: the clip cannot be read.
    """
    indices: tuple[int, ...] = ()

    def choose(count: int) -> tuple[int, ...]:
        nonlocal indices
        indices = frame_indices(protocol, count)
        return indices

    frames = _frames(clip, protocol, choose)
    crops = crops_from_frames(frames, protocol)
    return InputSteps(indices, np.stack(frames), crops, tensor_from_crops(crops, protocol))


def _frames(clip: Clip, protocol: InputProtocol, choose: Choose) -> list[Frame]:
    with patiently(f"reading clip {clip.path}", failure=DecodeError) as call:
        return call(_decoded, clip, protocol, choose)


def _decoded(clip: Clip, protocol: InputProtocol, choose: Choose) -> list[Frame]:
    if clip.path.is_dir():
        return frames_of_protocol(clip.path, protocol, choose)
    if protocol.source == "rawframes":
        side = protocol.rawframe_short_side
        return [jpeg_round_trip(frame, side) for frame in decode_as_extracted(clip.path, choose)]
    return decode_frames(clip.path, choose)


def sample_from_clip(
    clip: Clip,
    protocol: InputProtocol,
    read: CropReader = crops_from_clip,
    row: Row | None = None,
) -> Sample | Unreadable:
    """Return a clip as the model's input, or the reason why it cannot be read.

    ``read`` gives its crops; the tensor is written to ``row``, by default to memory of its own.
    """
    try:
        crops = read(clip, protocol)
    except ClipError as error:
        return Unreadable(clip.id, str(error))
    return sample_from_crops(clip.id, crops, protocol, row)


def sample_from_crops(
    clip_id: str, crops: Crops, protocol: InputProtocol, row: Row | None = None
) -> Sample:
    """Normalise the crops of a clip, into a row of a batch if one is given."""
    place = None if row is None else row.batch[row.index]
    return Sample(clip_id, tensor_from_crops(crops, protocol, place), row)
