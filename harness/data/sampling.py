"""The frames of a video that a model sees: mmaction2's SampleFrames and DenseSampleFrames in test mode."""

from collections.abc import Sequence

import numpy as np

from harness.errors import ClipError
from harness.spec import InputProtocol


def frame_indices(protocol: InputProtocol, frame_count: int) -> tuple[int, ...]:
    """Return the indices of the frames to decode, counted from 0.

    Clips that are too short for the protocol repeat their frames from the start.

    Raises:
        ClipError: the clip has no frames.
    """
    if frame_count < 1:
        raise ClipError(
            f"cannot sample {protocol.frame_count} frames from a clip that has {frame_count}; "
            "replace the clip or remove it from the list"
        )
    length, count = _mmaction2_clips(protocol)
    if protocol.placement == "dense":
        starts = _dense_starts(protocol, frame_count, count)
    else:
        span = length * protocol.frame_interval
        starts = _segment_starts(frame_count, span, count, protocol.placement == "twice")
    steps = [step * protocol.frame_interval for step in range(length)]
    # mmaction2 rounds last: the starts that it adds for ``twice`` are not whole.
    return tuple(int((start + step) % frame_count) for start in starts for step in steps)


def _mmaction2_clips(protocol: InputProtocol) -> tuple[int, int]:
    """Return mmaction2's ``clip_len`` and ``num_clips``."""
    if protocol.sampling == "uniform":
        return 1, protocol.frame_count
    return protocol.frame_count, protocol.clip_count


def _segment_starts(frame_count: int, span: int, count: int, is_twice: bool) -> Sequence[float]:
    if frame_count < span:
        # mmaction2 gives half as many clips here; repeating them leaves their average as it is.
        return [0] * (2 * count if is_twice else count)
    length = (frame_count - span + 1) / count
    starts = [segment * length for segment in range(count)]
    # Not (segment + 0.5) * length: the rounding must match mmaction2's.
    return [int(start + length / 2) for start in starts] + (starts if is_twice else [])


def _dense_starts(protocol: InputProtocol, frame_count: int, count: int) -> Sequence[float]:
    last = max(0, frame_count - protocol.dense_range)
    positions = np.linspace(0, last, num=protocol.dense_positions, dtype=int).tolist()
    step = protocol.dense_range // count
    return [(number * step + start) % frame_count for start in positions for number in range(count)]
