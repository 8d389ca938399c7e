"""Giving up on what hangs: calls into native code, which cannot be stopped, and child processes, which can."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from harness.errors import RunError, StageError
from harness.host.progress import Heartbeat

T = TypeVar("T")

# Whatever takes so much longer than it should hangs: to load a model, or to run a batch, takes minutes.
HANG_S = 1800.0

_hanging: list[threading.Thread] = []


class Call(Protocol):
    """Calls a function and returns what it returns."""

    def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """Call ``function(*args)``.

        Raises:
            StageError: it hangs, or an earlier call of this process does.
        """
        ...


@contextlib.contextmanager
def patiently(
    what: str = "", times: float = 1.0, failure: type[StageError] = RunError
) -> Iterator[Call]:
    """Yield what calls functions in one thread, and gives up on a call that takes ``times`` ``HANG_S``.

    Its errors are of the class ``failure`` and say ``what`` the calls do, by default by their functions.

    A thread that was given up ends with the process, which calls nothing else until then: what such a
    device answers later, and what runs beside it, does not count.
    """
    limit_s = times * HANG_S
    asked: SimpleQueue[Any] = SimpleQueue()
    answers: SimpleQueue[Any] = SimpleQueue()
    thread = threading.Thread(target=_serve, args=(asked, answers), daemon=True)

    def call(function: Callable[..., T], *args: Any) -> T:
        name = what or getattr(function, "__qualname__", repr(function))
        if any(one.is_alive() for one in _hanging):
            raise failure(f"{name}: an earlier call of this process still hangs; start it again")
        asked.put((function, args))
        try:
            value, error = answers.get(timeout=limit_s)
        except BaseException as error:
            # Nobody waits for it any longer, whether it hangs or somebody pressed Ctrl-C.
            _hanging.append(thread)
            if isinstance(error, Empty):
                raise failure(f"{name} did not return within {limit_s:g} s: it hangs") from None
            raise
        if error is not None:
            raise error
        answer: T = value
        return answer

    thread.start()
    try:
        yield call
    finally:
        asked.put(None)
        if thread not in _hanging:
            thread.join()


def going_on(title: str, count: Callable[[], int]) -> Heartbeat:
    """Return a heartbeat that stops a child process whose ``count`` stays the same for ``HANG_S``.

    It raises RunError then.
    """
    seen, since_s = -1, 0.0

    def beat(elapsed_s: float) -> None:
        nonlocal seen, since_s
        done = count()
        if done != seen:
            seen, since_s = done, elapsed_s
        elif elapsed_s - since_s >= HANG_S:
            raise RunError(f"{title}: nothing more was finished within {HANG_S:g} s: it hangs")

    return beat


def _serve(asked: SimpleQueue[Any], answers: SimpleQueue[Any]) -> None:
    while (wanted := asked.get()) is not None:
        function, args = wanted
        try:
            answers.put((function(*args), None))
        except BaseException as error:  # noqa: BLE001 - the edge of a thread: all of it goes home
            answers.put((None, error))
