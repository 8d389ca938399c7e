"""Build slots that all processes of a host share: as many as fit in memory."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.host.locks import make_lock_folder, try_hold

GIB = 1 << 30
MEMORY_SHARE = 0.8
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

Say = Callable[[str], None]


@contextlib.contextmanager
def build_slot(
    folder: Path,
    need_bytes: int,
    say: Say,
    memory: Callable[[], tuple[int, int]] | None = None,
    poll_s: float = 1.0,
) -> Iterator[int]:
    """Hold one build slot and yield its number; wait as long as necessary.

    ``memory`` returns the total and the available bytes. Slot 0 is always open.

    Raises:
        OSError: the lock files cannot be created.
    """
    make_lock_folder(folder)
    has_said = False
    while True:
        with contextlib.ExitStack() as stack:
            number = _free_slot(stack, folder, need_bytes, (memory or memory_bytes)())
            if number is not None:
                yield number
                return
        if not has_said:
            need = f"{need_bytes / GIB:.1f} GiB"
            say(f"waiting for another build: each may need {need}, and memory has no room for more")
            has_said = True
        time.sleep(poll_s)


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


def _free_slot(
    stack: contextlib.ExitStack, folder: Path, need_bytes: int, memory: tuple[int, int]
) -> int | None:
    total, available = memory
    for number in range(slot_count(total, need_bytes)):
        has_room = number == 0 or available >= need_bytes
        if has_room and stack.enter_context(try_hold(folder / f"atc-slot-{number}.lock")):
            return number
    return None
