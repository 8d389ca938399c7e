"""From decoded frames to the tensor of one sample: resize, crop, normalise, lay out.

The work is split where a tensor store fits in: ``crops_from_frames`` gives the uint8 crops worth
keeping, ``tensor_from_crops`` the float32 tensor that a model reads. Every step computes what
mmaction2's pipeline computes, to the last bit.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from harness.clips import Row
from harness.errors import ClipError, InputError
from harness.spec import InputProtocol

# Height by width by RGB.
Frame = npt.NDArray[np.uint8]
Crops = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.float32]

# cv2.imwrite's default, which the extraction of raw frames uses.
JPEG_QUALITY = 95


def jpeg_round_trip(frame: Frame, short_side: int) -> Frame:
    """Return a frame as it comes back from the JPEG that the guide's extraction writes."""
    return frame_from_jpeg(np.frombuffer(jpeg_from_frame(frame, short_side), np.uint8))


def jpeg_from_frame(frame: Frame, short_side: int) -> bytes:
    """Return the JPEG file that the guide's extraction writes; a short side of 0 keeps the size."""
    import cv2

    if short_side:
        frame = _resized(frame, _extracted_size(frame, short_side))
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), quality)[1].tobytes()


def frame_from_jpeg(data: npt.NDArray[np.uint8]) -> Frame:
    """Return the RGB frame that a JPEG file holds.

    Raises:
        ValueError: it is not an image.
    """
    import cv2

    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if decoded is None:
        raise ValueError("not an image")
    return _as_frame(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def crops_from_frames(frames: Sequence[Frame], protocol: InputProtocol) -> Crops:
    """Return the uint8 crops [crop, frame, height, width, RGB] of the sampled frames.

    Raises:
        ClipError: there are more or fewer frames than the protocol asks for, or the crops do not
            fit them.
        InputError: the protocol asks for crops that do not fit its short side.
    """
    if len(frames) != protocol.frames_per_crop:
        raise ClipError(f"the model takes {protocol.frames_per_crop} frames, got {len(frames)}")
    size = _resized_size(frames[0], protocol)
    _require_fit(size, protocol)
    side, corners = protocol.crop_size, _crop_corners(size, protocol)
    crops = np.empty((protocol.crop_count, len(frames), side, side, 3), np.uint8)
    # mmaction2's TenCrop mirrors each of its five crops.
    views = crops[::2] if protocol.crop_count == 10 else crops
    for number, frame in enumerate(frames):
        resized = _resized(frame, size)
        for corner, (x, y) in enumerate(corners):
            views[corner, number] = resized[y : y + side, x : x + side]
    if protocol.crop_count == 10:
        crops[1::2] = views[:, :, :, ::-1]
    return crops


def batch_rows(protocol: InputProtocol, batch: int) -> Iterator[Row]:
    """Yield places for sample tensors endlessly; those of a batch are adjacent in memory.

    Raises:
        InputError: the batch size is below 1.
    """
    if batch < 1:
        raise InputError(f"a batch cannot have {batch} samples; give 1 or more")
    while True:
        whole = np.empty((batch, *protocol.sample_shape), np.float32)
        yield from (Row(whole, index) for index in range(batch))


def tensor_from_crops(crops: Crops, protocol: InputProtocol, place: Tensor | None = None) -> Tensor:
    """Return the normalised float32 tensor of one sample, in the layout of the protocol.

    It is written to ``place`` if one is given.
    """
    import cv2

    # Every byte value gives the same bits as in mmcv.imnormalize, which multiplies by the inverse in
    # float64 and rounds to float32.
    mean, std = np.array([protocol.mean, protocol.std], np.float32)
    # Joined, each frame is a clip of its own.
    is_joined = protocol.layout == "TCHW"
    clips = crops.reshape(-1, 1 if is_joined else protocol.frame_count, *crops.shape[2:])
    count, length, height, width = clips.shape[:4]
    shape = (count, 3, length, height, width)
    tensor = np.empty(shape, np.float32) if place is None else place.reshape(shape)
    for clip, frame in np.ndindex(count, length):
        for channel, pixels in enumerate(cv2.split(clips[clip, frame])):
            # Plane by plane, each step in place: the data stays in the processor's cache.
            plane = tensor[clip, channel, frame]
            np.copyto(plane, pixels)
            np.subtract(plane, mean[channel], out=plane)
            np.divide(plane, std[channel], out=plane)
    return tensor[:, :, 0] if is_joined else tensor


def _resized_size(frame: Frame, protocol: InputProtocol) -> tuple[int, int]:
    """Return the width and height to which mmaction2's Resize brings a frame."""
    height, width = frame.shape[:2]
    if not protocol.short_side:
        return width, height
    # mmcv.rescale_size: rounds half up, the short side too.
    factor = protocol.short_side / min(height, width)
    if protocol.long_side:
        factor = min(factor, protocol.long_side / max(height, width))
    return int(width * factor + 0.5), int(height * factor + 0.5)


def _extracted_size(frame: Frame, short_side: int) -> tuple[int, int]:
    height, width = frame.shape[:2]
    # build_rawframes.py rounds down, and divides before it multiplies.
    if width <= height:
        return short_side, int((short_side / width) * height)
    return int((short_side / height) * width), short_side


def _resized(frame: Frame, size: tuple[int, int]) -> Frame:
    import cv2

    if frame.shape[1::-1] == size:
        return frame
    return _as_frame(cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR))


def _as_frame(image: npt.NDArray[np.generic]) -> Frame:
    # cv2's type hints leave the dtype open; no copy is made.
    return np.asarray(image, dtype=np.uint8)


def _require_fit(size: tuple[int, int], protocol: InputProtocol) -> None:
    side, count, short_side = protocol.crop_size, protocol.crop_count, protocol.short_side
    is_fixed = bool(short_side) and not protocol.long_side
    shortest = short_side if is_fixed else min(size)
    if side <= shortest and (count != 3 or side == shortest):
        return
    told = f"{count} crops of {side} do not fit frames with a short side of {shortest}"
    if is_fixed:
        raise InputError(f"{told}; correct crop_size or short_side in the model's protocol")
    raise ClipError(f"{told}; give the model clips of the size that it was trained for")


def _crop_corners(size: tuple[int, int], protocol: InputProtocol) -> list[tuple[int, int]]:
    """Return the left upper corners of the crops; those of ten crops are each used twice."""
    width, height = size
    side = protocol.crop_size
    if protocol.crop_count == 1:
        return [((width - side) // 2, (height - side) // 2)]
    if protocol.crop_count == 10:
        x, y = (width - side) // 4, (height - side) // 4
        return [(0, 0), (4 * x, 0), (0, 4 * y), (4 * x, 4 * y), (2 * x, 2 * y)]
    # mmaction2's ThreeCrop: start, end, middle; if the slack is odd, the end stops a pixel short.
    x_step, y_step = (width - side) // 2, (height - side) // 2
    return [(0, 0), (2 * x_step, 2 * y_step), (x_step, y_step)]
