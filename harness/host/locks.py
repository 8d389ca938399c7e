"""Locks between processes that say who holds them.

A lock is a file that the kernel locks, so that it ends with its process, however that dies. Beside
it the holder writes who it is, for the one who waits; that note decides nothing, and a stale or
unreadable one only makes the message poorer. Taking a lock twice in one thread is an error instead
of a deadlock.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock

from harness.errors import DeviceError

_LOG = logging.getLogger(__name__)
_POLL_S = 0.1
_SHARED_FILE = 0o666
_SHARED_FOLDER = 0o777
NOTICE_S = 3.0


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who holds a lock: process, host, command line and since when."""

    pid: int
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        """Return the owner as text for a person."""
        return f"process {self.pid} on {self.host} since {self.since} ({self.command})"


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
            default it is logged.
        notice_s: when it is called first; then again each time the wait has doubled.

    Raises:
        DeviceError: the lock file cannot be made or opened.
        RuntimeError: this thread already holds the device.
    """
    path = root / f"{name}.lock"
    with contextlib.ExitStack() as stack:
        try:
            _make_shared(root)
            waiter = on_wait or _wait_logger(name)
            # The door keeps further users of ``shared`` out while those inside finish.
            stack.enter_context(hold(root / f"{name}.door", waiter, notice_s, mode=_SHARED_FILE))
            stack.enter_context(hold(path, waiter, notice_s, mode=_SHARED_FILE))
        except OSError as error:
            raise DeviceError(
                f"cannot lock {name} through {path}: {error}; make that folder writable for "
                "everybody who uses the device, or name another one as lock_dir in site.toml"
            ) from error
        yield


@contextlib.contextmanager
def try_exclusive(name: str, root: Path) -> Iterator[bool]:
    """Hold the physical device ``name`` if nobody has it, nor waits for it, and say whether so.

    Raises:
        DeviceError: a lock file cannot be made or opened.
    """
    with contextlib.ExitStack() as stack:
        try:
            _make_shared(root)
            paths = root / f"{name}.door", root / f"{name}.lock"
            is_mine = all(stack.enter_context(try_hold(path, _SHARED_FILE)) for path in paths)
        except OSError as error:
            raise DeviceError(
                f"cannot lock {name} in {root}: {error}; make that folder writable for everybody "
                "who uses the device, or name another one as lock_dir in site.toml"
            ) from error
        if not is_mine:
            stack.close()
        yield is_mine


@contextlib.contextmanager
def shared(name: str, root: Path, on_wait: OnWait | None = None) -> Iterator[None]:
    """Use the device ``name`` beside others, but not while somebody holds it exclusively.

    Whoever waits to hold it exclusively comes before whoever comes to share it.

    Raises:
        DeviceError: the lock file cannot be made or opened.
    """
    path = root / f"{name}.lock"
    try:
        _make_shared(root)
        with hold(root / f"{name}.door", on_wait or _wait_logger(name), mode=_SHARED_FILE):
            file = os.open(path, os.O_RDWR | os.O_CREAT, _SHARED_FILE)
            with contextlib.suppress(OSError):  # it is somebody else's, who has done so
                os.fchmod(file, _SHARED_FILE)
            fcntl.flock(file, fcntl.LOCK_SH)
    except OSError as error:
        raise DeviceError(
            f"cannot lock {name} through {path}: {error}; make that folder writable for everybody "
            "who uses the device, or name another one as lock_dir in site.toml"
        ) from error
    try:
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def hold(path: Path, on_wait: OnWait, notice_s: float = NOTICE_S, mode: int = -1) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for as long as it takes; its folder is made.

    The file gets the permissions ``mode``; -1: those that new files get.

    Raises:
        OSError: the lock file cannot be made or opened.
        RuntimeError: this thread already holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, mode=mode, thread_local=False)
    waiting = _Waiting(path, on_wait, notice_s)
    lock.acquire(timeout=-1, poll_interval=_POLL_S, cancel_check=waiting.tick)
    with _owned(lock, path):
        yield


@contextlib.contextmanager
def try_hold(path: Path, mode: int = -1) -> Iterator[bool]:
    """Hold the lock file ``path`` if it is free, and say whether it was.

    Raises:
        OSError: the lock file cannot be made or opened.
    """
    lock = filelock.FileLock(path, mode=mode, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        yield False
        return
    with _owned(lock, path):
        yield True


def free_one(names: Sequence[str], root: Path) -> str:
    """Return the first device that nobody holds now, or the first of all if there is none.

    Raises:
        DeviceError: a lock file cannot be made or opened.
    """
    for name in names:
        path = root / f"{name}.lock"
        try:
            _make_shared(root)
            with try_hold(path, _SHARED_FILE) as is_free:
                if is_free:
                    return name
        except OSError as error:
            raise DeviceError(f"cannot lock {name} through {path}: {error}") from error
    return names[0]


def read_owner(path: Path) -> Owner | None:
    """Return who holds ``path``; None when the note is absent, unreadable or stale."""
    try:
        owner = Owner(**json.loads(_note(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return owner if _may_be_alive(owner) else None


@contextlib.contextmanager
def _owned(lock: filelock.BaseFileLock, path: Path) -> Iterator[None]:
    try:
        # The note is a courtesy: a full disk must not keep anybody from the device.
        with contextlib.suppress(OSError):
            _note(path).write_text(json.dumps(dataclasses.asdict(_myself())), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            _note(path).unlink()
        lock.release()


class _Waiting:
    """Calls ``on_wait`` after ``notice_s``, and again each time the wait has doubled."""

    def __init__(
        self,
        path: Path,
        on_wait: OnWait,
        notice_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._on_wait = on_wait
        self._due_s = notice_s
        self._clock = clock
        self._start_s = clock()

    def tick(self) -> bool:
        """Look at the clock; never ask for the wait to be given up."""
        waited_s = self._clock() - self._start_s
        if waited_s >= self._due_s:
            self._due_s = 2 * waited_s
            self._on_wait(read_owner(self._path), waited_s)
        return False


def wait_teller(name: str, say: Callable[[str], None]) -> OnWait:
    """Return what tells through ``say`` how long ``name`` has been waited for, and who has it."""

    def tell(owner: Owner | None, waited_s: float) -> None:
        say(f"waiting for {name} for {waited_s:.0f} s: {owner or 'a process'} has it")

    return tell


def _wait_logger(name: str) -> OnWait:
    return wait_teller(name, lambda text: _LOG.warning("%s", text))


def _make_shared(root: Path) -> None:
    """Make the folder of the locks, for the other users of the devices too."""
    if not root.exists():
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(_SHARED_FOLDER)


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".owner")


def _myself() -> Owner:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Owner(os.getpid(), socket.gethostname(), shlex.join(sys.orig_argv), now)


def _may_be_alive(owner: Owner) -> bool:
    if owner.host != socket.gethostname():
        return True
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
