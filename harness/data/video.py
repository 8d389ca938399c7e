"""Video files in, RGB frames out: decord, as mmaction2's DecordInit and DecordDecode use it."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.containers import missing_bytes
from harness.errors import ClipError

if TYPE_CHECKING:
    from harness.data.transforms import Frame

ADVICE = "fetch or encode the clip again, or take it off the list"
# The times, source files and lines of a failed check.
DECORD_PREFIX = re.compile(r"^(\[[\d:]+\] \S+:\d+: )+")


def decode_frames(path: Path, choose: Callable[[int], Sequence[int]]) -> "list[Frame]":
    """Decode some frames of a video.

    Args:
        path: the video file.
        choose: from the number of frames of the video to the indices wanted, in order; an index
            may come more than once.

    Returns:
        RGB frames, height by width by 3, turned upright when the file says how.

    Raises:
        ClipError: the file is missing, empty, truncated or not a video; names the file.
    """
    import decord

    try:
        data = _content(path)
        _require_video(data)
        return _decoded(data, choose)
    except (decord.DECORDError, RuntimeError, AssertionError) as error:
        reason = f"it does not decode ({_first_line(error)}); {ADVICE}"
        raise ClipError(f"cannot read clip {path}: {reason}") from error
    except ClipError as error:
        raise ClipError(f"cannot read clip {path}: {error}") from error


def count_frames(path: Path) -> int:
    """Return the number of frames of a video by its packets; nothing is decoded.

    Raises:
        ClipError: the file is missing, empty, truncated or not a video; names the file.
    """
    import av

    try:
        data = _content(path)
        _require_video(data)
        with av.open(io.BytesIO(data), metadata_errors="replace") as container:
            count = int(sum(packet.size > 0 for packet in container.demux(video=0)))
    except av.FFmpegError as error:
        raise ClipError(f"cannot read clip {path}: {error.strerror}; {ADVICE}") from error
    except ClipError as error:
        raise ClipError(f"cannot read clip {path}: {error}") from error
    if not count:
        raise ClipError(f"cannot read clip {path}: it has no frames; {ADVICE}")
    return count


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ClipError(f"{reason}; check the list and its root") from error
    if not data:
        raise ClipError(f"the file is empty; {ADVICE}")
    if missing := missing_bytes(data):
        raise ClipError(f"truncated, {missing} of its bytes are missing; {ADVICE}")
    return data


def _require_video(data: bytes) -> None:
    # decord prints what it cannot open, byte for byte, on the terminal: look before it does.
    import av

    try:
        with av.open(io.BytesIO(data), metadata_errors="replace") as container:
            has_video = bool(container.streams.video)
    except av.FFmpegError as error:
        raise ClipError(f"not a video ({error.strerror}); {ADVICE}") from error
    if not has_video:
        raise ClipError(f"it has no video stream; {ADVICE}")


def _decoded(data: bytes, choose: Callable[[int], Sequence[int]]) -> "list[Frame]":
    import decord

    # FFmpeg would print each damaged macroblock; what matters comes back as an error.
    decord.logging.set_level(decord.logging.QUIET)
    # More threads, or a path instead of a stream, would not be mmaction2's reader.
    reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
    return list(reader.get_batch(choose(len(reader))).asnumpy())


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return DECORD_PREFIX.sub("", line).strip()
