"""Decode only what the wanted frames need: H.264 through PyAV, frame for frame as decord gives it.

A picture whose NAL units all say ``nal_ref_idc == 0`` is a reference for no other picture, so it
is decoded only if it is wanted; with B-frames this skips half of a clip. Pictures after
the last wanted frame of a group that starts with an IDR picture, and groups without a wanted frame,
are not decoded either. Anything unusual (interlaced, rotated, another codec, an open group,
missing or repeated timestamps, any damage) is left to others by returning ``None``.
"""

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.data.containers import FRAME_PIXELS_MAX, container_format

if TYPE_CHECKING:
    from harness.data.transforms import Frame

SLICE, IDR_SLICE = 1, 5
PARTITIONS = frozenset((2, 3, 4))
# Slices, supplemental information, delimiters and filler: all that may be dropped with a picture.
DROPPABLE = frozenset((SLICE, 6, 9, 12))
PIXELS = frozenset(("yuv420p", "yuvj420p"))
# This module reads the packets: FFmpeg need neither parse them nor decode the first ones to learn
# the stream's properties, which would take as long as several frames.
UNPROBED = {
    "fflags": "noparse+nofillin",
    "probesize": "32",
    "fpsprobesize": "0",
    "skip_frame": "all",
}

# Takes the number of frames and returns the wanted indices, in order; one may occur more than once.
Choose = Callable[[int], Sequence[int]]


class Kind(NamedTuple):
    """Whether a picture starts a group, and whether no other picture refers to it."""

    starts: bool
    is_disposable: bool


class Coded(NamedTuple):
    """The packets of a stream in decoding order, with the time and the kind of each."""

    packets: list[Any]
    times: list[int]
    kinds: list[Kind]


class NotPlain(Exception):
    """The whole video has to be decoded."""


def decode_needed(data: bytes, choose: Choose, is_tagged: bool = True) -> "list[Frame] | None":
    """Decode some frames of a video file, given as bytes; None when it is not plain H.264.

    ``is_tagged`` uses the colour matrix that the file names, as decord does; OpenCV always uses that
    of BT.601.
    """
    import av

    try:
        with av.open(
            io.BytesIO(data),
            format=container_format(data),
            options=UNPROBED,
            metadata_errors="replace",
        ) as container:
            coded = coded_from_container(container)
            times = sorted(coded.times)
            indices = choose(len(times))
            wanted = {times[index] for index in indices}
            found = _decoded(container.streams.video[0], coded, wanted, is_tagged)
    except (av.FFmpegError, NotPlain):
        return None
    if found.keys() != wanted:
        return None
    return [found[times[index]] for index in indices]


def coded_from_container(container: Any) -> Coded:
    """Return the packets of the one video stream.

    Raises:
        NotPlain: the stream is not H.264 as mp4 and Matroska store it, or its times are unusable.
    """
    stream = _plain_stream(container)
    length_bytes = length_size(stream.codec_context)
    packets = [packet for packet in container.demux(stream) if packet.size > 0]
    if any(packet.is_discard or packet.is_corrupt for packet in packets):
        raise NotPlain
    times = [packet.pts for packet in packets]
    kinds = [picture_kind(nal_headers(bytes(packet), length_bytes)) for packet in packets]
    if not kinds or not kinds[0].starts or None in times or len(set(times)) != len(times):
        raise NotPlain
    # decord seeks to what the container calls key frames. If those are not IDR pictures, it lands
    # on different frames than those requested, and mmaction2 works with what decord gives.
    if any(packet.is_keyframe != kind.starts for packet, kind in zip(packets, kinds, strict=True)):
        raise NotPlain
    return Coded(packets, times, kinds)


def needed(coded: Coded, wanted: set[int]) -> Iterator[list[Any]]:
    """Yield, for each group that holds a wanted frame, the packets to decode."""
    packets, times, kinds = coded
    starts = [index for index, kind in enumerate(kinds) if kind.starts]
    for start, end in zip(starts, [*starts[1:], len(kinds)], strict=True):
        asked = [index for index in range(start, end) if times[index] in wanted]
        if asked:
            behind_last = asked[-1] + 1
            yield [
                packets[index]
                for index in range(start, behind_last)
                if not kinds[index].is_disposable or times[index] in wanted
            ]


def _plain_stream(container: Any) -> Any:
    (stream, *others) = container.streams.video or [None]
    if stream is None or others:
        raise NotPlain
    context = stream.codec_context
    if context is None or context.name != "h264":
        raise NotPlain
    context.thread_count = 1
    # If a stream does not say how far its frames are reordered, the decoder guesses, and
    # drops frames until it knows; a strict decoder assumes the maximum.
    context.options = {
        "err_detect": "explode",
        "strict": "strict",
        "max_pixels": str(FRAME_PIXELS_MAX),
    }
    return stream


def length_size(context: Any) -> int:
    """Return how many bytes give the length of a NAL unit of H.264.

    Raises:
        NotPlain: the units are not packed as in mp4 and Matroska.
    """
    extra = context.extradata or b""
    # An avcC record starts with 1; a start code instead means a different packing of the units.
    if len(extra) < 7 or extra[0] != 1:
        raise NotPlain
    return (int(extra[4]) & 3) + 1


@functools.cache
def picture_kind(headers: bytes) -> Kind:
    """Return what the headers of a picture's NAL units say about it.

    Raises:
        NotPlain: it does not consist of complete slices.
    """
    kinds = {header & 31 for header in headers}
    if kinds & PARTITIONS or not kinds & {SLICE, IDR_SLICE}:
        raise NotPlain
    is_unreferenced = all(header & 0x60 == 0 for header in headers if header & 31 == SLICE)
    return Kind(IDR_SLICE in kinds, kinds <= DROPPABLE and is_unreferenced)


def nal_headers(data: bytes, length_bytes: int) -> bytes:
    """Return the first byte of each NAL unit of a packet.

    Raises:
        NotPlain: the lengths do not add up.
    """
    end = len(data)
    # Nearly every packet holds one unit.
    if length_bytes + int.from_bytes(data[:length_bytes], "big") == end > length_bytes:
        return data[length_bytes : length_bytes + 1]
    headers, position = bytearray(), 0
    while position < end:
        content = position + length_bytes
        size = int.from_bytes(data[position:content], "big")
        position = content + size
        if size == 0 or position > end:
            raise NotPlain
        headers.append(data[content])
    return bytes(headers)


def _decoded(stream: Any, coded: Coded, wanted: set[int], is_tagged: bool) -> "dict[int, Frame]":
    found: dict[int, Frame] = {}
    convert = converter(is_tagged)
    context = stream.codec_context
    # The context's own size follows a stream that changes in the middle.
    size = (context.width, context.height)
    for group in needed(coded, wanted):
        for packet in (*group, None):
            for picture in context.decode(packet):
                # Other pictures may refer to the damaged one.
                if picture.is_corrupt:
                    raise NotPlain
                if picture.pts in wanted:
                    if oddity(picture, size, PIXELS):
                        raise NotPlain
                    found[picture.pts] = convert(picture)
        context.flush_buffers()
    return found


def oddity(picture: Any, size: tuple[int, int], pixels: frozenset[str]) -> str:
    """Say why a picture needs more than a plain conversion of its pixels; empty if it does not."""
    reasons = {
        "it is interlaced": picture.interlaced_frame,
        "its file asks to turn it": picture.rotation,
        "its size changes": size != (picture.width, picture.height),
        f"its pixels are {picture.format.name}": picture.format.name not in pixels,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def converter(is_tagged: bool) -> "Callable[[Any], Frame]":
    """Return what turns a decoded picture into RGB; ``is_tagged`` as for ``decode_needed``."""
    from av.video.reformatter import Colorspace, VideoReformatter

    reformatter = VideoReformatter()
    matrix = None if is_tagged else Colorspace.ITU601

    def convert(picture: Any) -> "Frame":
        rgb = reformatter.reformat(picture, format="rgb24", src_colorspace=matrix, threads=1)
        return np.asarray(rgb.to_ndarray(), np.uint8)

    return convert
