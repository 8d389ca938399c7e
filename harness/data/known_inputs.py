"""Known answers of inputs: what mmaction2 makes of a few shipped clips, step by step, for each model.

PyTorch and the device read the same tensors, so a fault on the way from a clip to its tensor makes
no difference between them. ``fixtures/inputs.json`` holds what mmaction2's own pipeline gives, and the
contract binds it by its digest; ``python fixtures/write_inputs.py`` writes it. Each array is kept as
the digest of its bytes, and as its values at fixed points of each image: another decoder rounds
differently, and the values tell rounding from a fault.
"""

import base64
import hashlib
import importlib.metadata
import platform
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.clips import Clip
from harness.data.datasets import motion8
from harness.data.loading import InputSteps
from harness.data.video import decoders
from harness.errors import InvalidMeasurement, RecordError
from harness.host.environment import rounding_facts
from harness.host.site import FIXTURES
from harness.measure.measurement import Measurement

KNOWN_INPUTS = FIXTURES / "inputs.json"
# Of motion8: a clip of a fast translation and one of a growing target.
CLIP_IDS = ("clips/0011", "clips/0029")
POINTS = 256
# A sequence that fills the unit square evenly (the R2 sequence): the plastic number's powers.
ROW_STEP, COLUMN_STEP = 0.7548776662466927, 0.5698402909980532

Array = npt.NDArray[Any]


class Sketch(Measurement):
    """An array: its shape, the sha256 of its bytes, and its values at the points of its images.

    ``values`` are their bytes, little-endian, compressed by zlib, in base64.
    """

    shape: tuple[int, ...]
    dtype: str
    sha256: str
    values: str

    def points(self) -> Array:
        """Return the values [image, point, channel]."""
        content = zlib.decompress(base64.b64decode(self.values))
        flat = np.frombuffer(content, np.dtype(self.dtype).newbyteorder("<"))
        channels = self.shape[-1] if self.dtype == "uint8" else 1
        return flat.reshape(-1, POINTS, channels)


class KnownInput(Measurement):
    """What mmaction2 makes of one clip; the steps are those of ``InputSteps``."""

    clip_id: str
    indices: tuple[int, ...]
    frames: Sketch
    crops: Sketch
    tensor: Sketch


class KnownInputs(Measurement):
    """Known answers by the name of the model, and what made them."""

    reader: str
    environment: Mapping[str, str]
    models: Mapping[str, tuple[KnownInput, ...]]


def known_inputs(wanted: str, path: Path = KNOWN_INPUTS) -> KnownInputs:
    """Read the known answers that the contract names by the sha256 of their file.

    Raises:
        InvalidMeasurement: the file is missing or another one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidMeasurement(f"the known answers of inputs cannot be read: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != wanted:
        raise InvalidMeasurement(
            f"{path} is not the contract's: its sha256 is {digest}, the contract says {wanted}; "
            f'restore it, or bind this one by inputs = "{digest}" if its difference is understood'
        )
    try:
        return KnownInputs.from_json(content, path)
    except RecordError as error:
        raise InvalidMeasurement(str(error)) from error


def known_input_from_steps(clip_id: str, steps: InputSteps) -> KnownInput:
    """Return the known answer that some steps are."""
    return KnownInput(
        clip_id=clip_id,
        indices=steps.indices,
        frames=sketch_from_array(steps.frames),
        crops=sketch_from_array(steps.crops),
        tensor=sketch_from_array(steps.tensor),
    )


def sketch_from_array(array: Array) -> Sketch:
    """Return the sketch of images of uint8 [..., height, width, RGB] or float32 [..., height, width]."""
    whole = np.ascontiguousarray(array)
    points = points_of_images(whole)
    content = points.astype(points.dtype.newbyteorder("<")).tobytes()
    return Sketch(
        shape=array.shape,
        dtype=array.dtype.name,
        sha256=hashlib.sha256(whole.data).hexdigest(),
        values=base64.b64encode(zlib.compress(content, 9)).decode(),
    )


def points_of_images(array: Array, shift: tuple[int, int] = (0, 0)) -> Array:
    """Return the values [image, point, channel] at the points, moved by ``shift`` (rows, columns)."""
    height, width, channels = _image_shape(array)
    rows, columns = _places(height, ROW_STEP) + shift[0], _places(width, COLUMN_STEP) + shift[1]
    images = array.reshape(-1, height, width, channels)
    return images[:, rows.clip(0, height - 1), columns.clip(0, width - 1)]


def inner_points(array: Array, margin: int) -> npt.NDArray[np.bool_]:
    """Return which points are further than ``margin`` pixels from every edge of an image."""
    sides = zip(_image_shape(array), (ROW_STEP, COLUMN_STEP), strict=False)
    near = [
        (places < margin) | (places >= length - margin)
        for length, places in ((length, _places(length, step)) for length, step in sides)
    ]
    return ~(near[0] | near[1])


def _image_shape(array: Array) -> tuple[int, int, int]:
    height, width, channels = (
        array.shape[-3:] if array.dtype == np.uint8 else (*array.shape[-2:], 1)
    )
    return height, width, channels


def known_clips() -> Sequence[Clip]:
    """Return the clips whose answers are known."""
    return [clip for clip in motion8().clips if clip.id in CLIP_IDS]


def decoding_environment() -> dict[str, str]:
    """Return what decides how inputs are rounded: the processor and the decoders' compiled files."""
    builds = {package: _build_digest(package) for package in decoders()}
    return {"machine": platform.machine(), **rounding_facts(), **builds}


def _places(length: int, step: float) -> npt.NDArray[np.int64]:
    return (np.arange(1, POINTS + 1) * step % 1 * length).astype(np.int64)


def _build_digest(package: str) -> str:
    """Return a digest of the compiled files that a package was installed with."""
    record = importlib.metadata.distribution(package).read_text("RECORD") or ""
    compiled = sorted(line for line in record.splitlines() if ".so" in line)
    return hashlib.sha256("\n".join(compiled).encode()).hexdigest()[:16]
