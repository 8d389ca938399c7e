"""Decode a whole video through PyAV, where decord is not installed: decord's frames, or none.

decord has no wheel for aarch64. PyAV gives the same frames for the codecs, pixels and orders that
this module accepts (tests/data/test_whole.py compares them), and of a damaged clip the same frames
or none; whatever else decord reads is refused by name. Decoders of FLV, H.263, MJPEG, MPEG-4 part 2,
VP8 and WMV hide damage, each release of FFmpeg in its own way, so these are refused. decord seeks to
key frames, and the frames after a key frame that depends on those before it come out shifted or
damaged: mmaction2 works with these, so nothing else may stand in for them.
"""

import io
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.data.containers import FRAME_PIXELS_MAX
from harness.data.skipping import (
    Choose,
    NotPlain,
    converter,
    length_size,
    nal_headers,
    oddity,
    picture_kind,
)
from harness.errors import ClipError

if TYPE_CHECKING:
    from harness.data.transforms import Frame

CODECS = frozenset(("h264", "hevc", "vp9"))
PIXELS = frozenset(("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"))


def decode_whole(data: bytes, choose: Choose) -> "list[Frame]":
    """Decode some frames of a video file, given as bytes, by decoding all of them.

    Raises:
        ClipError: only decord decodes this video as mmaction2 does; the message says why.
        av.FFmpegError: it is damaged.
    """
    import av

    with av.open(io.BytesIO(data), metadata_errors="replace") as container:
        stream = _stream(container)
        packets = [packet for packet in container.demux(stream) if packet.size > 0]
        times = _times(stream, packets)
        indices = choose(len(times))
        wanted = [times[index] for index in indices]
        found = _decoded(stream.codec_context, packets, times, set(wanted))
    return [found[time] for time in wanted]


def _refusal(reason: str) -> ClipError:
    return ClipError(
        f"{reason}; only decord decodes that as mmaction2 does, and it is not installed here (it has"
        " no wheel for aarch64): encode the clip again as 8-bit progressive H.264, or run on a host"
        " that has decord"
    )


def _stream(container: Any) -> Any:
    stream, *others = container.streams.video
    context = stream.codec_context
    if others:
        raise _refusal(f"it has {len(others) + 1} video streams")
    if context.name not in CODECS:
        raise _refusal(f"its codec is {context.name}")
    context.thread_count = 1
    context.options = {"err_detect": "explode", "max_pixels": str(FRAME_PIXELS_MAX)}
    return stream


def _times(stream: Any, packets: Sequence[Any]) -> list[int]:
    """Return the time of each frame, in the order of display.

    Raises:
        ClipError: decord may land on other frames than those requested.
    """
    times = [packet.pts for packet in packets]
    if any(packet.is_discard or packet.is_corrupt for packet in packets):
        raise _refusal("an edit list or damage hides some of its frames")
    if None in times or len(set(times)) != len(times):
        raise _refusal("its frames have no times, or the same")
    starts = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    latest = list(itertools.accumulate(times, max))
    earliest = list(itertools.accumulate(reversed(times), min))[::-1]
    if starts[:1] != [0] or any(
        latest[start] != times[start] or earliest[start] != times[start] for start in starts
    ):
        raise _refusal("frames around a key frame need others on both sides of it")
    if stream.codec_context.name == "h264":
        _require_idr(stream, (packets[index] for index in starts))
    return sorted(times)


def _require_idr(stream: Any, key_frames: Iterable[Any]) -> None:
    """Require that the key frames of H.264 need no frame before them."""
    try:
        length_bytes = length_size(stream.codec_context)
        kinds = [picture_kind(nal_headers(bytes(packet), length_bytes)) for packet in key_frames]
    except NotPlain:
        raise _refusal("its H.264 is not packed as in mp4 or Matroska") from None
    if not all(kind.starts for kind in kinds):
        raise _refusal("its key frames need frames before them")


def _decoded(
    context: Any, packets: Sequence[Any], times: Sequence[int], wanted: set[int]
) -> "dict[int, Frame]":
    found: dict[int, Frame] = {}
    convert = converter(is_tagged=True)
    size = (context.width, context.height)
    seen = []
    for packet in (*packets, None):
        for picture in context.decode(packet):
            if picture.is_corrupt:
                raise _refusal("a frame of it is damaged")
            if reason := oddity(picture, size, PIXELS):
                raise _refusal(reason)
            seen.append(picture.pts)
            if picture.pts in wanted:
                found[picture.pts] = convert(picture)
    if seen != list(times):
        raise _refusal("its frames do not come in the order of their times")
    return found
