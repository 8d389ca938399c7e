"""Clips on disk: video files, and folders of raw frames."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from harness.data.manifest import frame_path, is_frame_name, size_of_clip
from harness.data.video import count_frames
from harness.errors import ClipError

VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".avi", ".webm", ".mov", ".m4v"),
    *(".flv", ".mpg", ".mpeg", ".ts", ".3gp", ".wmv"),
)


def clip_paths(root: Path) -> Iterator[Path]:
    """Yield the clips below a folder, in name order, without hidden ones.

    Raises:
        ClipError: the folder does not exist, it or a subfolder cannot be listed, or a link leads
            back up.
    """
    if not root.is_dir():
        raise ClipError(f"the folder {root} does not exist")
    for folder, below, names in os.walk(root, followlinks=True, onerror=_refuse):
        below[:] = sorted(name for name in below if not name.startswith("."))
        path = Path(folder)
        if path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()):
            raise ClipError(f"the link {path} leads back up to {path.resolve()}; remove it")
        if path != root and any(is_frame_name(name) for name in names):
            below.clear()
            yield path
        else:
            yield from (path / name for name in sorted(names) if _is_video_name(name))


def clip_id(path: Path, root: Path) -> str:
    """Return the path below the root, without the suffix of a video."""
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return (name.with_suffix("") if _is_video_name(name.name) else name).as_posix()


def frame_count(path: Path) -> int:
    """Return the number of frames of a clip, after checking that it is complete.

    Raises:
        ClipError: it cannot be read.
    """
    if not path.is_dir():
        return count_frames(path)
    count = size_of_clip(path)[0]
    missing = next((n for n in range(1, count + 1) if not _has_content(frame_path(path, n))), None)
    if not count or missing:
        raise ClipError(
            f"cannot read clip {path}: it has no {frame_path(path, missing or 1).name}, or an empty "
            "one"
        )
    return count


def _has_content(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def _refuse(error: OSError) -> None:
    raise ClipError(
        f"cannot list the folder {error.filename}: {error.strerror}; its clips would be missing"
    ) from error


def _is_video_name(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122
