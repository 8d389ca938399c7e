"""What a process keeps open from one shard to the next: a chip with a loaded model, which takes seconds to load."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

# Ray gives a process its next shard at once. If there is none, another process may wait for the chip.
IDLE_S = 2.0


class Kept(Generic[T]):
    """At most one open thing, which closes when it has not been used for a while, or when its use fails.

    Args:
        idle_s: how long it stays open unused.
    """

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._guard = threading.Lock()
        self._timer: threading.Thread | None = None
        self._stack = contextlib.ExitStack()
        self._opened: dict[object, T] = {}

    @contextlib.contextmanager
    def of(
        self, key: object, opened: Callable[[], contextlib.AbstractContextManager[T]]
    ) -> Iterator[T]:
        """Yield what is open for ``key``; open it first if that is something else, or nothing."""
        with self._guard:
            if key not in self._opened:
                self._close()
                self._opened[key] = self._stack.enter_context(opened())
            try:
                yield self._opened[key]
            except BaseException:
                self._close()
                raise
            self._timer = threading.Timer(self._idle_s, self._close_idle)
            self._timer.daemon = True
            self._timer.start()

    def close_unless(self, key: object) -> None:
        """Close what is open for another key."""
        with self._guard:
            if key not in self._opened:
                self._close()

    def _close_idle(self) -> None:
        with self._guard:
            # A later use has a timer of its own.
            if threading.current_thread() is self._timer:
                self._close()

    def _close(self) -> None:
        self._opened.clear()
        self._stack.close()
