"""The kernel's page cache: a file is taken out of it, or put into it, before a start is timed."""

import contextlib
import os
from pathlib import Path

_BLOCK = 1 << 20
# Places of a file that are looked at.
_LOOKS = 16
# Once in a hundred times the kernel keeps a page that it has just been given; asked again, it lets go.
_DROPS = 3


def drop_from_cache(path: Path) -> bool:
    """Take a file out of the page cache; False where it stays there, or the kernel does not say.

    It stays in a file system in memory, and while another process has it mapped.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        # What is not on the disk yet cannot be dropped.
        os.fsync(file)
        return any(_dropped(file) for _ in range(_DROPS))
    except OSError:
        return False
    finally:
        os.close(file)


def read_into_cache(path: Path) -> bool:
    """Read a whole file, so that the page cache holds it as far as there is room."""
    with path.open("rb", buffering=0) as file:
        while file.read(_BLOCK):
            pass
    return True


def _dropped(file: int) -> bool:
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    return _is_out(file)


def _is_out(file: int) -> bool:
    """Whether none of some places of an open file is in the page cache."""
    size, page = os.fstat(file).st_size, bytearray(1)
    for look in range(_LOOKS):
        with contextlib.suppress(BlockingIOError):
            # Reads only what is there already; raises where the disk would have to be asked.
            os.preadv(file, [page], look * size // _LOOKS, os.RWF_NOWAIT)
            return False
    return True
