"""Video files in, RGB frames out, the same as mmaction2's.

``decode_frames`` gives what DecordInit and DecordDecode give, ``decode_as_extracted`` what OpenCV
reads in ``build_rawframes.py``: the two differ where a file names its colour matrix. Plain H.264
takes a faster path to the same frames; everything else goes through decord or OpenCV itself, and
where decord is not installed through PyAV, which gives decord's frames or refuses the clip.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.containers import FRAME_PIXELS_MAX, missing_bytes
from harness.data.skipping import Choose, decode_needed
from harness.data.whole import decode_whole
from harness.errors import ClipError
from harness.host.reading import CLIP_BYTES, bytes_from_file

if TYPE_CHECKING:
    from harness.data.transforms import Frame

ADVICE = "fetch or encode the clip again, or remove it from the list"
# The time, source file and line of a failed check.
DECORD_PREFIX = re.compile(r"^(\[[\d:]+\] \S+:\d+: )+")


def decode_frames(path: Path, choose: Choose) -> "list[Frame]":
    """Decode some frames of a video file, turned upright if it says how.

    Raises:
        ClipError: the file is missing, empty, truncated or not a video; the message names it.
    """
    with _named(path):
        data = _content(path)
        return decode_needed(data, choose) or _decoded_whole(data, choose)


def decode_as_extracted(path: Path, choose: Choose) -> "list[Frame]":
    """Decode some frames of a video as OpenCV reads them when raw frames are extracted.

    Raises:
        ClipError: as ``decode_frames``.
    """
    with _named(path):
        data = _content(path)
        frames = decode_needed(data, choose, is_tagged=False)
    if frames:
        return frames
    indices = choose(count_frames(path, is_shown=True))
    kept = {index: frame for index, frame in enumerate(iterate_frames(path)) if index in indices}
    return [kept[index] for index in indices]


def iterate_frames(path: Path) -> "Iterator[Frame]":
    """Yield all frames of a video as OpenCV reads them.

    Raises:
        ClipError: the file cannot be read to its end.
    """
    import cv2

    expected, count = count_frames(path, is_shown=True), 0
    with _named_in_utf8(path) as name:
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        try:
            while (read := capture.read())[0]:
                count += 1
                yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
        finally:
            capture.release()
    if count != expected:
        raise ClipError(
            f"cannot read clip {path}: OpenCV reads only {count} of its {expected} frames; {ADVICE}"
        )


@contextlib.contextmanager
def _named_in_utf8(path: Path) -> Iterator[str]:
    """Give a file another name if its own is not UTF-8, which would crash OpenCV's reader."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        yield str(path)


def count_frames(path: Path, is_shown: bool = False) -> int:
    """Count the frames of a video from its packets, without decoding.

    ``is_shown`` leaves out frames that an edit list hides, as OpenCV does; decord and mmaction2's
    pipeline on videos do not.

    Raises:
        ClipError: as ``decode_frames``.
    """
    import av

    with _named(path):
        data = _content(path)
        _require_video(data)
        with av.open(io.BytesIO(data), metadata_errors="replace") as container:
            count: int = sum(
                packet.size > 0 and not (is_shown and packet.is_discard)
                for packet in container.demux(video=0)
            )
        if not count:
            raise ClipError(f"it has no frames; {ADVICE}")
        return count


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the clip that cannot be read."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise ClipError(f"cannot read clip {path}: {_undecodable(error)}") from error
    except ClipError as error:
        raise ClipError(f"cannot read clip {path}: {error}") from error


def _content(path: Path) -> bytes:
    try:
        data = bytes_from_file(path, CLIP_BYTES)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ClipError(f"{reason}; check the list and its root") from error
    if not data:
        raise ClipError(f"the file is empty; {ADVICE}")
    if missing := missing_bytes(data):
        raise ClipError(f"truncated, {missing} of its bytes are missing; {ADVICE}")
    return data


def _require_video(data: bytes) -> None:
    # decord dumps a file that it cannot open onto the terminal, byte for byte: check first.
    import av

    try:
        with av.open(io.BytesIO(data), metadata_errors="replace") as container:
            contexts = [stream.codec_context for stream in container.streams.video]
            if None in contexts:
                raise ClipError(f"FFmpeg does not know its codec; {ADVICE}")
            sizes = [(context.width, context.height) for context in contexts]
    except av.FFmpegError as error:
        raise ClipError(f"not a video ({error.strerror}); {ADVICE}") from error
    if not sizes:
        raise ClipError(f"it has no video stream; {ADVICE}")
    for width, height in sizes:
        if width * height > FRAME_PIXELS_MAX:
            raise ClipError(
                f"its frames of {width} x {height} are larger than 4K (4096 x 2304); encode it smaller"
            )


def decoders() -> tuple[str, ...]:
    """Return the packages that decode clips on this machine."""
    decord = () if _decord() is None else ("decord",)
    return ("av", *decord, "opencv-contrib-python-headless", "numpy")


def _decord() -> Any:
    """Return the module decord, or None where it is not installed: it has no wheel for aarch64."""
    try:
        import decord
    except ImportError:
        return None
    return decord


def _decoded_whole(data: bytes, choose: Choose) -> "list[Frame]":
    _require_video(data)
    if _decord() is None:
        return decode_whole(data, choose)
    return _decoded_by_decord(data, choose)


def _decoded_by_decord(data: bytes, choose: Choose) -> "list[Frame]":
    import decord

    # FFmpeg would report each damaged macroblock; what matters comes back as an error.
    decord.logging.set_level(decord.logging.QUIET)
    try:
        # mmaction2 reads a stream, with one thread; a path or more threads would be a different reader.
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        return list(reader.get_batch(choose(len(reader))).asnumpy())
    except (decord.DECORDError, RuntimeError, AssertionError) as error:
        raise ClipError(_undecodable(error)) from error


def _undecodable(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return f"it does not decode ({DECORD_PREFIX.sub('', line).strip()}); {ADVICE}"
