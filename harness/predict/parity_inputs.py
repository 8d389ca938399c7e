"""The inputs of the parity check: real clips first, then seeded noise and constants."""

import contextlib
import dataclasses
import hashlib

import numpy as np
import numpy.typing as npt

from harness.build.seeded_weights import CONSTANTS
from harness.clips import ClipSet
from harness.data.loading import Source, Unreadable, sample_from_clip
from harness.errors import ClipError
from harness.measure.parity import InputCounts
from harness.spec import ModelSpec

SEED = 400
# One in sixteen inputs is noise and one a constant; there is always at least one of each.
SHARE = 16


@dataclasses.dataclass(frozen=True)
class ParityInputs:
    """Single-sample tensors with their names; ``digest`` covers all their bytes."""

    ids: tuple[str, ...]
    counts: InputCounts
    tensors: tuple[npt.NDArray[np.float32], ...]
    digest: str


def parity_inputs(
    spec: ModelSpec, clip_set: ClipSet, count: int, source: Source | None = None
) -> ParityInputs:
    """Prepare ``count`` inputs of a model.

    Args:
        spec: gives the protocol and the input shape.
        clip_set: the source of the first clips; another data set will do if the model's own is
            not at hand, because any real clip can show parity.
        count: at least 3.
        source: turns clips into samples; by default, each clip is decoded.

    Raises:
        ClipError: a clip cannot be read, or there are too few.
    """
    constant_count = min(len(CONSTANTS), max(1, count // SHARE))
    noise_count = max(1, count // SHARE)
    clips = clip_set.clips[: count - noise_count - constant_count]
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    decoded = (sample_from_clip(clip, spec.protocol) for clip in clips)
    with contextlib.closing(source(clips) if source else decoded) as items:
        for item in items:
            if isinstance(item, Unreadable):
                raise ClipError(f"parity needs clip {item.clip_id}: {item.reason}")
            tensors[item.clip_id] = item.tensor
    if len(tensors) + noise_count + constant_count < count:
        raise ClipError(
            f"parity of {spec.name} needs {count} inputs, but clip set {clip_set.name} has only "
            f"{len(clip_set.clips)} clips: use a larger set or lower the tier's parity_inputs"
        )
    shape = tensors[clips[0].id].shape if clips else spec.protocol.sample_shape
    generator = np.random.default_rng(SEED)
    for number in range(noise_count):
        tensors[f"noise{number}"] = generator.standard_normal(shape).astype(np.float32)
    for value in CONSTANTS[:constant_count]:
        tensors[f"constant{value:+g}"] = np.full(shape, value, np.float32)
    digest = hashlib.sha256()
    for tensor in tensors.values():
        digest.update(np.ascontiguousarray(tensor).tobytes())
    counts = InputCounts(clip=len(clips), noise=noise_count, constant=constant_count)
    return ParityInputs(tuple(tensors), counts, tuple(tensors.values()), digest.hexdigest())
