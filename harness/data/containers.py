"""What format a video file has, and how much of it is missing according to its own headers.

A decoder silently plays the rest of a truncated Matroska or AVI file; the sizes that the
container declares give it away.
"""

from collections.abc import Iterator

RIFF_HEADER_BYTES = 8
RIFF_UNKNOWN = 0xFFFFFFFF
EBML_ID = b"\x1a\x45\xdf\xa3"
SEGMENT_ID = b"\x18\x53\x80\x67"
MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


def container_format(data: bytes) -> str | None:
    """Return FFmpeg's name for a file's format, from its first bytes; None if unknown."""
    if data[:4] == EBML_ID:
        return "matroska"
    return "mp4" if data[4:8] in MP4_FIRST_BOXES else None


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
