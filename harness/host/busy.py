"""Processes that keep processors and caches busy, to time what other work on a host does."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

# One block of 4 MB is copied onto another; it ends with the process that started it.
_WORK = """
import os, sys
parent, one, other = int(sys.argv[1]), memoryview(bytearray(1 << 22)), bytes(1 << 22)
while os.getppid() == parent:
    for _ in range(100):
        one[:] = other
    sum(range(1 << 20))
"""


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep ``count`` processes at work while the block runs."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            command = [sys.executable, "-c", _WORK, str(os.getpid())]
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
        yield
