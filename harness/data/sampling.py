"""The frames of a clip that a model sees: mmaction2's SampleFrames in test mode."""

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
    if protocol.sampling == "uniform":
        return _middles(frame_count, protocol.frame_count)
    return _strided(frame_count, protocol.frame_count, protocol.frame_interval)


def _middles(frame_count: int, segment_count: int) -> tuple[int, ...]:
    length = frame_count / segment_count
    # Not (segment + 0.5) * length: the rounding must match mmaction2's.
    return tuple(int(segment * length + length / 2) for segment in range(segment_count))


def _strided(frame_count: int, sample_count: int, interval: int) -> tuple[int, ...]:
    slack = frame_count - sample_count * interval + 1
    start = max(0, slack) // 2
    return tuple((start + step * interval) % frame_count for step in range(sample_count))
