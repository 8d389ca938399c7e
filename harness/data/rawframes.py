"""Raw frames: the guides' extraction of videos into JPEG files, and reading them back.

The extraction is mmaction2's ``build_rawframes.py --level 1 --use-opencv --new-short 320``: a
folder for each clip with ``img_00001.jpg`` and so on. A clip is written into a hidden folder that
is renamed once complete, so a rerun repeats only what was interrupted. An existing folder
is reused if it has as many frames as its video, in the requested size.
"""

import dataclasses
import math
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from harness.clips import Clip
from harness.data.clip_files import frame_count
from harness.data.containers import FRAME_PIXELS_MAX, jpeg_size
from harness.data.manifest import frame_path
from harness.data.skipping import Choose
from harness.data.transforms import Frame, frame_from_jpeg, jpeg_from_frame
from harness.data.video import count_frames, iterate_frames
from harness.errors import ArtifactError, ClipError
from harness.host.reading import bytes_from_file
from harness.spec import InputProtocol

SHORT_SIDE = 320


@dataclasses.dataclass(frozen=True)
class Extracted:
    """The result for one clip: its frames, or why there are none, and whether they were kept."""

    clip_id: str
    frames: int
    was_there: bool = False
    unreadable: str | None = None


def extract(
    clips: Sequence[Clip], out: Path, short_side: int = SHORT_SIDE, workers: int = 1
) -> Iterator[Extracted]:
    """Extract every clip that is not there yet, and yield the result for each, in order.

    A clip gets a folder in ``out`` with the name of its file. A short side of 0 keeps the video's
    size. The workers are threads, which work outside the interpreter lock.

    Raises:
        ClipError: two clips would share a folder.
        ArtifactError: the folder cannot be written.
    """
    folders = _folders(clips, out)
    _remove_left(out)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="extract")
    try:
        yield from pool.map(lambda clip: extract_clip(clip, folders[clip.id], short_side), clips)
    finally:
        pool.shutdown(cancel_futures=True)


def extract_clip(clip: Clip, folder: Path, short_side: int) -> Extracted:
    """Extract one clip unless its folder exists, and return the result."""
    try:
        if folder.is_dir():
            return Extracted(clip.id, _frames_there(clip, folder, short_side), was_there=True)
        return Extracted(clip.id, _extracted(clip.path, folder, short_side))
    except ClipError as error:
        return Extracted(clip.id, 0, unreadable=str(error))


def write_listing(out: Path, clips: Sequence[Clip], done: Sequence[Extracted]) -> Path:
    """Write mmaction2's list of raw frames beside their folder and return its path.

    Raises:
        ArtifactError: it cannot be written.
    """
    path = out.with_name(f"{out.name}.list.txt")
    by_id = {clip.id: clip for clip in clips}
    lines = (
        f"{folder_name(by_id[one.clip_id])} {one.frames} {by_id[one.clip_id].label}\n"
        for one in done
        if one.frames
    )
    try:
        path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ArtifactError(
            f"cannot write the list {path}: {error.strerror}; the frames are complete, so run "
            "again with a folder whose parent is writable"
        ) from error
    return path


def folder_name(clip: Clip) -> str:
    """Return the guides' name for the folder of a clip: that of its file."""
    return clip.path.stem


def frames_from_folder(folder: Path, choose: Choose) -> list[Frame]:
    """Read some frames of a folder, in the order that ``choose`` gives, counted from 0.

    Raises:
        ClipError: a file is missing or not an image.
    """
    indices = choose(frame_count(folder))
    kept = {index: _frame(frame_path(folder, index + 1)) for index in set(indices)}
    return [kept[index] for index in indices]


def frames_of_protocol(folder: Path, protocol: InputProtocol, choose: Choose) -> list[Frame]:
    """Read the frames of a folder that ``choose`` takes, for a protocol of raw frames.

    Raises:
        ClipError: the protocol needs the video itself, or a file cannot be read.
    """
    if protocol.source != "rawframes":
        raise ClipError(
            f"{folder} is a folder of raw frames, but this model is judged on videos: JPEG files "
            "would change its numbers; give the videos"
        )
    return frames_from_folder(folder, choose)


def _folders(clips: Sequence[Clip], out: Path) -> dict[str, Path]:
    owner: dict[str, str] = {}
    for clip in clips:
        if clip.path.is_dir():
            raise ClipError(f"{clip.id} is already a folder of raw frames ({clip.path})")
        other = owner.setdefault(folder_name(clip), clip.id)
        if other != clip.id:
            raise ClipError(f"{clip.id} and {other} would share the folder {folder_name(clip)}")
    return {clip_id: out / name for name, clip_id in owner.items()}


def _frames_there(clip: Clip, folder: Path, short_side: int) -> int:
    """Return the number of frames in an earlier run's folder.

    Raises:
        ClipError: they are not the video's frames, or have a different size.
    """
    count, expected = frame_count(folder), count_frames(clip.path, is_shown=True)
    side = min(_frame(folder / "img_00001.jpg").shape[:2])
    if count != expected or short_side not in (0, side):
        raise ClipError(
            f"{folder} holds {count} frames with a short side of {side}, from another extraction: "
            f"{clip.path} has {expected}, requested with {short_side or 'its own'}; remove the "
            "folder or choose another"
        )
    return count


def _remove_left(out: Path) -> None:
    """Remove what killed processes of this host left behind."""
    name = re.compile(rf"\..+\.{re.escape(socket.gethostname())}\.(\d+)")
    for path in out.iterdir() if out.is_dir() else ():
        found = name.fullmatch(path.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _extracted(video: Path, folder: Path, short_side: int) -> int:
    temp = folder.with_name(f".{folder.name}.{socket.gethostname()}.{os.getpid()}")
    count = 0
    try:
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir(parents=True)
        for count, frame in enumerate(iterate_frames(video), start=1):
            (temp / f"img_{count:05d}.jpg").write_bytes(jpeg_from_frame(frame, short_side))
        temp.rename(folder)
    except OSError as error:
        # The clip is not to blame, and every other clip would fail too.
        raise ArtifactError(
            f"cannot write raw frames into {folder}: {error.strerror}; make room or choose another "
            "folder, and run again: complete clips are kept"
        ) from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return count


def _frame(path: Path) -> Frame:
    try:
        data = bytes_from_file(path)
        if math.prod(jpeg_size(data)) > FRAME_PIXELS_MAX:
            raise ValueError("larger than 4K (4096 x 2304)")
        return frame_from_jpeg(np.frombuffer(data, np.uint8))
    except OSError as error:
        raise ClipError(f"cannot read raw frame {path}: {error.strerror}") from error
    except ValueError as error:
        raise ClipError(f"raw frame {path} is {error}; extract the clip again") from error
