"""Locks that every process of a host shares: one for each physical chip, and slots for builds."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

GIB = 1 << 30
MEMORY_SHARE = 0.8
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

Say = Callable[[str], None]
Sleep = Callable[[float], None]


@contextlib.contextmanager
def held_unit(
    folder: Path, unit_id: str, who: str, say: Say, poll_s: float = 1.0
) -> Iterator[None]:
    """Hold a physical chip; while another process does, wait and say for whom."""
    lock = _lock(folder, unit_id)
    said = ""
    while not _taken(lock):
        holder = _holder(folder, unit_id)
        if holder != said:
            say(f"{who} waits for {unit_id}, which is held by {holder}")
            said = holder
        time.sleep(poll_s)
    try:
        _holder_file(folder, unit_id).write_text(json.dumps({"pid": os.getpid(), "who": who}))
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def build_slot(
    folder: Path,
    need_bytes: int,
    say: Say,
    memory: Callable[[], tuple[int, int]] | None = None,
    poll_s: float = 1.0,
) -> Iterator[int]:
    """Hold one of the slots for builds, as many as memory has room for, and yield its number.

    ``memory`` returns the total and the available bytes. Slot 0 is open whatever is available.
    """
    memory = memory or memory_bytes
    slot = _slot(folder, need_bytes, memory)
    if slot is None:
        need = f"{need_bytes / GIB:.1f} GiB"
        say(f"waits for another build: each may need {need} and memory has no room for more")
    while slot is None:
        time.sleep(poll_s)
        slot = _slot(folder, need_bytes, memory)
    number, lock = slot
    try:
        yield number
    finally:
        lock.release()


def slot_count(total_bytes: int, need_bytes: int) -> int:
    """Return how many builds fit side by side, at least one."""
    return max(1, min(int(total_bytes * MEMORY_SHARE // max(need_bytes, 1)), os.cpu_count() or 1))


def memory_bytes(
    meminfo: Path = Path("/proc/meminfo"), limit: Path = CGROUP_LIMIT
) -> tuple[int, int]:
    """Return the total and the available memory of this host or container."""
    lines = (line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    sizes = {name: int(value.split()[0]) * 1024 for name, value in lines}
    total, available = sizes["MemTotal"], sizes["MemAvailable"]
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(limit.read_text()))
    return total, min(available, total)


def _slot(
    folder: Path, need_bytes: int, memory: Callable[[], tuple[int, int]]
) -> tuple[int, filelock.BaseFileLock] | None:
    total, available = memory()
    for number in range(slot_count(total, need_bytes)):
        lock = _lock(folder, f"atc-slot-{number}")
        if (number == 0 or available >= need_bytes) and _taken(lock):
            return number, lock
    return None


def _lock(folder: Path, name: str) -> filelock.BaseFileLock:
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        folder.chmod(0o1777)  # users of a host share its chips
    return filelock.FileLock(folder / f"{name}.lock", mode=0o666)


def _taken(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    return True


def _holder_file(folder: Path, unit_id: str) -> Path:
    return folder / f"{unit_id}.holder"


def _holder(folder: Path, unit_id: str) -> str:
    try:
        holder = json.loads(_holder_file(folder, unit_id).read_text())
        return f"{holder['who']} (process {holder['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
