"""Who besides this user can change what lies in a folder."""

import os
import stat
from pathlib import Path

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ENTER = stat.S_IXGRP | stat.S_IXOTH


def foreign_writer(folder: Path) -> str:
    """Return who besides this user and root can write to a folder; empty if nobody can."""
    try:
        status = folder.stat()
    except OSError:
        return ""
    if status.st_uid not in (os.geteuid(), 0):
        return f"{folder} belongs to user {status.st_uid}"
    return f"other users may write to {folder}" if status.st_mode & OTHERS_WRITE else ""


def foreign_writer_below(root: Path, path: Path) -> str:
    """Return who besides this user and root can write to ``path`` or to a folder between.

    Where others cannot enter ``root`` it does not matter what they could do inside.
    """
    try:
        is_closed = not root.stat().st_mode & _OTHERS_ENTER
    except OSError:
        return ""
    between = [path, *path.parents][: len(path.relative_to(root).parts)]
    return "" if is_closed else next(filter(None, map(foreign_writer, between)), "")


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone.

    Raises:
        OSError: it cannot be made.
    """
    for path in [*reversed(folder.parents), folder]:
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
