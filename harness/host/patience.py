"""Calls into a device's software, in a thread that is given up when one hangs: native code cannot be stopped."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from harness.errors import RunError

T = TypeVar("T")

# Whatever takes so much longer than it should hangs: to load a model, or to run a batch, takes minutes.
HANG_S = 1800.0

_hanging: list[threading.Thread] = []


class Call(Protocol):
    """Calls a function and returns what it returns."""

    def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """Call ``function(*args)``.

        Raises:
            RunError: it hangs, or an earlier call of this process does.
        """
        ...


@contextlib.contextmanager
def patiently() -> Iterator[Call]:
    """Yield what calls functions in one thread, and gives up on a call that takes ``HANG_S``.

    A thread that was given up ends with the process, which calls nothing else until then: what such a
    device answers later, and what runs beside it, does not count.
    """
    asked: SimpleQueue[Any] = SimpleQueue()
    answers: SimpleQueue[Any] = SimpleQueue()
    thread = threading.Thread(target=_serve, args=(asked, answers), daemon=True)

    def call(function: Callable[..., T], *args: Any) -> T:
        name = getattr(function, "__qualname__", repr(function))
        if any(one.is_alive() for one in _hanging):
            raise RunError(f"{name}: an earlier call of this process still hangs; start it again")
        asked.put((function, args))
        try:
            value, error = answers.get(timeout=HANG_S)
        except Empty:
            _hanging.append(thread)
            raise RunError(f"{name} did not return within {HANG_S:g} s: the device hangs") from None
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


def _serve(asked: SimpleQueue[Any], answers: SimpleQueue[Any]) -> None:
    while (wanted := asked.get()) is not None:
        function, args = wanted
        try:
            answers.put((function(*args), None))
        except BaseException as error:  # noqa: BLE001 - the edge of a thread: all of it goes home
            answers.put((None, error))
