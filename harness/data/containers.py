"""What format a video file has, and how much of it is missing according to its own headers.

A decoder silently plays the rest of a truncated Matroska or AVI file; the sizes that the
container declares give it away.
"""

import struct
from collections.abc import Iterator

RIFF_HEADER_BYTES = 8
RIFF_UNKNOWN = 0xFFFFFFFF
EBML_ID = b"\x1a\x45\xdf\xa3"
SEGMENT_ID = b"\x18\x53\x80\x67"
# A 4K frame, either way up; eight of them take a quarter of a gigabyte.
FRAME_PIXELS_MAX = 4096 * 2304
JPEG_START = b"\xff\xd8"
# Huffman and arithmetic tables and a reserved one lie between the frames' headers.
JPEG_FRAMES = {bytes([code]) for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC)}
MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


def container_format(data: bytes) -> str | None:
    """Return FFmpeg's name for a file's format, from its first bytes; None if unknown."""
    if data[:4] == EBML_ID:
        return "matroska"
    return "mp4" if data[4:8] in MP4_FIRST_BOXES else None


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG file from its header; 0, 0 if it has none."""
    position = 2
    while data[:2] == JPEG_START and data[position : position + 1] == b"\xff":
        marker = data[position + 1 : position + 2]
        if marker == b"\xff":
            position += 1
        elif marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data.ljust(position + 9, b"\0"), position + 5)
            return width, height
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0, 0


def missing_bytes(data: bytes) -> int:
    """Return how many declared bytes a file lacks; 0 if none, or if it declares no size."""
    return max(0, _declared_bytes(data) - len(data))


def _declared_bytes(data: bytes) -> int:
    if data[:4] == b"RIFF":
        size = int.from_bytes(data[4:8], "little")
        return 0 if size == RIFF_UNKNOWN else size + RIFF_HEADER_BYTES
    match container_format(data):
        case "matroska":
            return _declared_by_matroska(data)
        case "mp4":
            return max(_box_ends(data))
    return 0


def _declared_by_matroska(data: bytes) -> int:
    segment = _element_end(data, 0)
    return _element_end(data, segment) if data[segment : segment + 4] == SEGMENT_ID else 0


def _element_end(data: bytes, start: int) -> int:
    """Return where an EBML element with a four-byte id ends; 0 if it does not say."""
    first = data[start + 4] if start + 4 < len(data) else 0
    size_bytes = 9 - first.bit_length()
    content = start + 4 + size_bytes
    largest = 2 ** (7 * size_bytes) - 1
    size = int.from_bytes(data[start + 4 : content], "big") & largest
    # A live stream does not know its size and sets every bit of it.
    return 0 if size == largest else content + size


def _box_ends(data: bytes) -> Iterator[int]:
    position = 0
    # Zeros or other padding may follow the last box.
    while data[position + 4 : position + 8].isalnum():
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        # 0 means "to the end of the file"; no other value below 8 is a size.
        position = position + size if size >= 8 else len(data)
        yield position
