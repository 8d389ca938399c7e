"""Locks between processes that say who holds them.

A lock is a file that the kernel locks, so that it ends with its process, however that dies. Beside it the
holder leaves a note about itself for whoever waits; the note decides nothing. A thread that takes a lock
twice gets an error instead of a deadlock.

The folder of the device locks belongs to this user alone, or everybody may write to it and its sticky bit
keeps them from removing each other's files. Whatever others put there is neither followed, written to,
waited for nor printed raw: locks are regular files that are opened for reading only.
"""

import contextlib
import errno
import fcntl
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.errors import DeviceError
from harness.host.lock_notes import Owner, read_owner, remove_note, write_note
from harness.host.ownership import OTHERS_WRITE

_LOG = logging.getLogger(__name__)
_POLL_S = 0.1
NOTICE_S = 3.0
REPEAT_S = 30.0
_HELD: set[tuple[int, Path]] = set()

OnWait = Callable[[Owner | None, float], None]


@contextlib.contextmanager
def exclusive(
    name: str, root: Path, on_wait: OnWait | None = None, notice_s: float = NOTICE_S
) -> Iterator[None]:
    """Hold the physical device ``name`` until the block ends, waiting for as long as it takes.

    Args:
        name: of the device, such as ``cpu`` or ``davinci0``.
        root: folder of the locks; only processes that name the same folder exclude each other.
        on_wait: called with the owner, or None when it is not known, and the seconds waited; by
            default they are logged.
        notice_s: when it is called first; then it is called every 30 s.

    Raises:
        DeviceError: the lock cannot be used, or the folder is not safe.
        RuntimeError: this thread already holds the device.
    """
    waiter = on_wait or _wait_logger(name)
    with contextlib.ExitStack() as stack:
        with _in_folder(name, root):
            # The door keeps further users of ``shared`` out while those inside finish.
            for path in _paths(name, root):
                stack.enter_context(hold(path, waiter, notice_s))
        yield


@contextlib.contextmanager
def try_exclusive(name: str, root: Path) -> Iterator[bool]:
    """Hold the physical device ``name`` if nobody holds it or waits for it, and say whether so.

    Raises:
        DeviceError: the lock cannot be used, or the folder is not safe.
    """
    with contextlib.ExitStack() as stack:
        with _in_folder(name, root):
            is_mine = all(stack.enter_context(try_hold(path)) for path in _paths(name, root))
        if not is_mine:
            stack.close()
        yield is_mine


@contextlib.contextmanager
def shared(name: str, root: Path, on_wait: OnWait | None = None) -> Iterator[None]:
    """Use the device ``name`` beside others, but not while somebody holds it exclusively.

    Whoever waits to hold it exclusively comes before whoever comes to share it.

    Raises:
        DeviceError: the lock cannot be used, or the folder is not safe.
    """
    door, lock = _paths(name, root)
    with contextlib.ExitStack() as stack:
        with _in_folder(name, root), hold(door, on_wait or _wait_logger(name)):
            file = stack.enter_context(_opened(lock))
            # Only a look at whether the device is free can be in the way, for a moment.
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def free_one(names: Sequence[str], root: Path) -> str:
    """Return the first device that nobody holds now, or the first of all if there is none.

    Raises:
        DeviceError: the lock cannot be used, or the folder is not safe.
    """
    for name in names:
        with _in_folder(name, root), try_hold(_paths(name, root)[1]) as is_free:
            if is_free:
                return name
    return names[0]


@contextlib.contextmanager
def hold(path: Path, on_wait: OnWait, notice_s: float = NOTICE_S) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for as long as it takes; its folder is made.

    Raises:
        OSError: the lock file cannot be made or opened, or is not a plain file.
        RuntimeError: this thread already holds it.
    """
    if (threading.get_ident(), path) in _HELD:
        raise RuntimeError(f"this thread already holds {path} and would wait for itself")
    path.parent.mkdir(parents=True, exist_ok=True)
    start_s, due_s = time.monotonic(), notice_s
    with _opened(path) as file:
        while not _lock_now(file):
            waited_s = time.monotonic() - start_s
            if waited_s >= due_s:
                on_wait(read_owner(path), waited_s)
                due_s = waited_s + REPEAT_S
            time.sleep(_POLL_S)
        with _noted(path):
            yield


@contextlib.contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path`` if it is free, and say whether it was.

    Raises:
        OSError: the lock file cannot be made or opened, or is not a plain file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path) as file:
        if not _lock_now(file):
            yield False
            return
        with _noted(path):
            yield True


def wait_notice(name: str, say: Callable[[str], None]) -> OnWait:
    """Return what says through ``say`` who holds ``name`` and for how long it was waited for."""

    def notice(owner: Owner | None, waited_s: float) -> None:
        say(f"waiting for {name} for {waited_s:.0f} s: {owner or 'another process'} holds it")

    return notice


def make_lock_folder(root: Path) -> None:
    """Make the folder of the locks for this user alone, or look at whether the one there is safe.

    Raises:
        OSError: it cannot be made, is a link, or lets others replace the locks in it.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(
            errno.ENOTDIR, "a lock folder must be a folder, not a link or a file", str(root)
        )
    if is_shared(root):
        if not status.st_mode & stat.S_ISVTX:
            text = "others may replace the locks in it; keep them from that with chmod +t"
            raise PermissionError(errno.EPERM, text, str(root))
    elif status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"it belongs to user {status.st_uid}", str(root))


def is_shared(root: Path) -> bool:
    """Whether other users may write to the folder of the locks, and so see the runs of this one."""
    try:
        return bool(root.lstat().st_mode & OTHERS_WRITE)
    except OSError:
        return False


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a lock file for reading, which is all that a lock needs; make it if it is not there."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        # Made apart from opened: the kernel refuses to open the file of another user with O_CREAT
        # in a sticky folder.
        file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
        os.fchmod(file, 0o644)
    except FileExistsError:
        file = _open_existing(path, flags)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            text = "a lock must be a plain file with one name; remove what is there"
            raise OSError(errno.EINVAL, text, str(path))
        yield file
    finally:
        os.close(file)


def _open_existing(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        text = "a lock must be a plain file, not a link; remove it"
        raise OSError(errno.ELOOP, text, str(path)) from error


def _lock_now(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _noted(path: Path) -> Iterator[None]:
    me = threading.get_ident(), path
    _HELD.add(me)
    write_note(path)
    try:
        yield
    finally:
        remove_note(path)
        _HELD.discard(me)


@contextlib.contextmanager
def _in_folder(name: str, root: Path) -> Iterator[None]:
    """Make the folder of the locks, and say what to do where it cannot be used."""
    try:
        make_lock_folder(root)
        yield
    except OSError as error:
        raise DeviceError(
            f"cannot lock {name} in {root}: {error}; mend that folder, or name another one as lock_dir "
            "in site.toml"
        ) from error


def _paths(name: str, root: Path) -> tuple[Path, Path]:
    return root / f"{name}.door", root / f"{name}.lock"


def _wait_logger(name: str) -> OnWait:
    return wait_notice(name, lambda text: _LOG.warning("%s", text))
