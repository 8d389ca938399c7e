"""Run a stage in its own process, so that its peak memory is known and its death does no harm.

The function runs in a freshly spawned Python. What it returns or raises comes back, with its wall
time and peak memory. When the kernel kills it, the caller gets an error that says so and lives on.
"""

import contextlib
import ctypes
import dataclasses
import io
import itertools
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import HarnessError, StageError
from harness.host.progress import Heartbeat

T = TypeVar("T")

_TICK_S = 1.0
_GRACE_S = 10.0
_TRACEBACK_LINES = 8
# Options of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_MMAP_THRESHOLD_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class StageCost:
    """What a stage took: wall seconds of the function and peak resident memory of its process."""

    seconds: float
    peak_bytes: int


class ChildError(Exception):
    """The traceback of the child as text, at the end of the causes of the error in the parent."""


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What the child sends: the pickled value, or the error followed by its causes."""

    value: bytes
    errors: tuple[BaseException, ...]
    trace: str
    cost: StageCost


def run_in_child(
    function: Callable[..., T],
    *args: Any,
    heartbeat: Heartbeat | None = None,
    timeout_s: float | None = None,
    log: Path | None = None,
    failure: type[StageError] = StageError,
) -> tuple[T, StageCost]:
    """Run ``function(*args)`` in a fresh process and return its value and what it took.

    As always with multiprocessing, the process imports the main module again, so a script keeps
    its work below ``if __name__ == "__main__"``.

    Args:
        function: a function that can be pickled: one at the top of a module.
        *args: what it is called with; pickled too.
        heartbeat: called with the elapsed seconds, once a second.
        timeout_s: when to kill the process; never by default.
        log: file to which everything that the process prints is appended.
        failure: class of the error for everything that is not a HarnessError already.

    Raises:
        HarnessError: as the function raised it.
        StageError: of the class ``failure``: the function raised something else, was killed, took
            too long, or returned what cannot be pickled.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child_main, args=(sender, log, function, args))
    name = getattr(function, "__qualname__", repr(function))
    watch = _Watch(process, receiver, failure, f"{name}{f' (log: {log})' if log else ''}")
    with receiver, _ended(process):
        with sender:
            process.start()
        outcome = watch.outcome(heartbeat, timeout_s)
    if outcome.errors:
        raise _error_from_outcome(outcome, failure, watch.title)
    return pickle.loads(outcome.value), outcome.cost


def peak_bytes(pid: int | str = "self") -> int:
    """Return the peak resident memory of a process so far; 0 when it is not known.

    Linux keeps VmHWM for one address space, but the ``ru_maxrss`` of a spawned process starts
    at the size of the one that spawned it; that is only asked where there is no /proc.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if pid == "self" else 0


@dataclasses.dataclass
class _Watch:
    """Waits for the child and looks at its memory once a tick."""

    process: BaseProcess
    receiver: Connection
    failure: type[StageError]
    title: str
    peak_bytes: int = 0

    def outcome(self, heartbeat: Heartbeat | None, timeout_s: float | None) -> _Outcome:
        """Return what the child sends; raise ``failure`` when it dies or takes too long."""
        start_s = time.monotonic()
        limit_s = float("inf") if timeout_s is None else timeout_s
        elapsed_s = 0.0
        while not self.receiver.poll(min(_TICK_S, max(0.0, limit_s - elapsed_s))):
            elapsed_s = time.monotonic() - start_s
            self.peak_bytes = max(self.peak_bytes, peak_bytes(self.process.pid or 0))
            if heartbeat is not None:
                heartbeat(elapsed_s)
            if elapsed_s >= limit_s:
                raise self.failure(f"{self.title}: stopped at its limit of {limit_s:g} s")
        return self._received()

    def _received(self) -> _Outcome:
        try:
            data = self.receiver.recv_bytes()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise self.failure(f"{self.title}: {self._death()}") from None
        outcome: _Outcome = pickle.loads(data)
        return outcome

    def _death(self) -> str:
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its process exited with status {code} and returned nothing"
        text = f"its process was killed by {signal_name(-code)}"
        if self.peak_bytes:
            text += f" after using at least {self.peak_bytes / 1e9:.2f} GB"
        if code == -signal.SIGKILL:
            text += "; most likely by the kernel's out-of-memory killer: see dmesg and free memory"
        return text


@contextlib.contextmanager
def _ended(process: BaseProcess) -> Iterator[None]:
    """Leave no process behind, whatever happens: Ctrl-C, a limit, a heartbeat that raises."""
    try:
        yield
        process.join(_GRACE_S)
    finally:
        if process.pid is not None:
            process.kill()
            process.join()


def _error_from_outcome(outcome: _Outcome, failure: type[StageError], title: str) -> BaseException:
    errors = [*outcome.errors, ChildError(outcome.trace)]
    if not isinstance(errors[0], HarnessError):
        last_lines = "\n".join(outcome.trace.rstrip().splitlines()[-_TRACEBACK_LINES:])
        errors.insert(0, failure(f"{title}: it raised\n{last_lines}"))
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def signal_name(number: int) -> str:
    """Return the name of a signal, or its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _child_main(
    sender: Connection, log: Path | None, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    # Ctrl-C reaches the whole process group: the child just ends, the parent cleans up.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    follow_parent()
    _return_freed_memory()
    # Threads of PyTorch's pool that spin while they wait take the processor from those that work:
    # on a busy host a query is then a hundred times slower. Read when PyTorch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if log is not None:
        _redirect_output(log)
    sender.send_bytes(pickle.dumps(_outcome_from_call(function, args)))


def _outcome_from_call(function: Callable[..., Any], args: tuple[Any, ...]) -> _Outcome:
    value, trace = b"", ""
    errors: tuple[BaseException, ...] = ()
    start_s = time.perf_counter()
    try:
        value = pickle.dumps(function(*args))
    except BaseException as error:  # noqa: BLE001 - the edge of a process: all of it goes home
        errors, trace = _with_causes(error), traceback.format_exc()
    cost = StageCost(time.perf_counter() - start_s, peak_bytes())
    return _Outcome(value, errors, trace, cost)


def _with_causes(error: BaseException | None) -> tuple[BaseException, ...]:
    errors = []
    while error is not None:
        errors.append(_portable(error))
        error = error.__cause__
    return tuple(errors)


def _portable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - a foreign class may raise anything here
        return ChildError(f"{type(error).__name__}: {error}")
    return error


def follow_parent() -> None:
    """End this process when its parent is gone, so that a killed run leaves no exporter behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_after, args=(parent.sentinel,), daemon=True).start()


def _leave_after(sentinel: int, leave: Callable[[int], object] = os._exit) -> None:
    wait([sentinel])
    leave(1)


def _return_freed_memory() -> None:
    """Make the C library hand tensors back to the system as soon as they are freed.

    glibc raises its threshold for that as it goes, and then the activations of a traced model stay
    in the heap: 2.3 GB instead of 1.1 GB at the peak of a TimeSformer export.
    """
    _set_malloc({_M_MMAP_THRESHOLD: _MMAP_THRESHOLD_BYTES})


def keep_freed_memory() -> None:
    """Make the C library keep what is freed for the next tensor, in a process that runs PyTorch.

    Asking the system for each activation anew costs it a fifth of its speed, which ONNX Runtime,
    with an arena of its own, does not pay: a comparison of the two would flatter the device.
    """
    _set_malloc({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1})


def _set_malloc(options: Mapping[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError):  # another C library
        for option, value in options.items():
            ctypes.CDLL(None).mallopt(option, value)


def _redirect_output(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            os.dup2(file.fileno(), number)
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)
