"""Run something with little memory, in little time, or on a disk that is full or slow."""

import collections
import contextlib
import fcntl
import io
import multiprocessing
import os
import resource
import time
from pathlib import Path

import pytest

GIB = 1 << 30


class Harmed(AssertionError):
    """The process took too long, took too much memory, or died."""


@contextlib.contextmanager
def full_disk(size_bytes):
    """Let no file of this process grow beyond a size, as none does on a disk that is full."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


SLOW = {
    os: "open stat lstat mkdir rmdir rename replace unlink scandir listdir utime fsync",
    io: "open",
    fcntl: "flock",
}


@contextlib.contextmanager
def slow_disk(folder, delay_s):
    """Let every call about files below a folder take a while, as over a network; yield their counts by name."""
    counts = collections.Counter()

    def slow(name, call):
        def delayed(what, *arguments, **options):
            path = str(Path(f"/proc/self/fd/{what}").readlink() if isinstance(what, int) else what)
            if path.startswith(f"{folder}/"):
                counts[name] += 1
                time.sleep(delay_s)
            return call(what, *arguments, **options)

        return delayed

    with pytest.MonkeyPatch.context() as patch:
        for module, names in SLOW.items():
            for name in names.split():
                patch.setattr(module, name, slow(name, getattr(module, name)))
        yield counts


def limited(function, *arguments, more_bytes=GIB, seconds=20):
    """Return what a function returns, or raise what it raises, within bounds.

    Args:
        function: what to run, in a copy of this process.
        arguments: for it.
        more_bytes: address space that it may use beyond what this process has.
        seconds: how long it may take, by the clock.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if not child:
        _run(sender, more_bytes, function, arguments)
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise Harmed(f"took more than {seconds} s")
        is_fine, found = receiver.recv()
    except EOFError as error:
        raise Harmed("died without a word") from error
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        receiver.close()
    if is_fine:
        return found
    raise found


def _run(sender, more_bytes, function, arguments):
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + more_bytes,) * 2)
    try:
        sender.send((True, function(*arguments)))
    except BaseException as error:
        _send_error(sender, error)
    finally:
        os._exit(0)


def _send_error(sender, error):
    """Send an error, as text of its type where it does not survive the way."""
    try:
        sender.send((False, error))
    except Exception:
        sender.send((False, Harmed(f"{type(error).__name__}: {error}")))
