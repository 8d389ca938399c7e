"""What a person sees while a run works: notices, and how far the stage under way has come.

On a terminal the stage under way is redrawn in one line. Anywhere else, in a pipe or the log of a CI
job, a line follows at least every 30 s while a block is watched, so that a silent run is one that hangs.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from harness.errors import printable

_LOG = logging.getLogger(__name__)
INTERVAL_S = 30.0
_TICK_S = 1.0
# A stage that reports its seconds does so once a second; one that has stopped doing so is over.
_STALE_S = 3.0
_BAR = 10

Heartbeat = Callable[[float], None]
Counter = Callable[[int], None]


class Progress:
    """Writes notices and the state of the stage under way; a stream that fails does not stop the run.

    Without a stream, notices are logged and nothing else is shown.

    Args:
        stream: where the lines go.
        begin_line: makes sure that the next line starts in the first column.
        interval_s: longest silence of a watched block, where nobody watches a terminal.
        clock: in seconds.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        begin_line: Callable[[], None] = lambda: None,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._begin_line = begin_line
        self._interval_s = interval_s
        self._clock = clock
        self._guard = threading.RLock()
        self._spoke_s = clock()
        self._is_drawn = False
        self._watched: tuple[str, float] | None = None
        self._stage: Callable[[], str] = str

    @property
    def is_terminal(self) -> bool:
        """Whether the stream is a terminal, on which a line can be redrawn."""
        return self._stream is not None and self._stream.isatty()

    def say(self, text: str) -> None:
        """Write a line that stays, such as who holds a lock that this run waits for."""
        if self._stream is None:
            _LOG.warning("%s", text)
        else:
            self._write_line(text)

    def heartbeat(self, title: str) -> Heartbeat:
        """Return what a stage calls once a second with the seconds that it has taken so far."""

        def beat(elapsed_s: float) -> None:
            beat_s = self._clock()
            text = f"{title}: {_duration(elapsed_s)}"
            self._stage = lambda: text if self._clock() - beat_s < _STALE_S else ""
            self._refresh()

        return beat

    def counter(self, title: str, total: int) -> Counter:
        """Return what a stage calls with the number of clips done, to show rate and time left."""
        start_s = self._clock()

        def count(done: int) -> None:
            now_s = self._clock()
            text = f"{title}: {done} of {total} clips"

            def stage() -> str:
                return text + _rate_text(done / total, done, now_s - start_s, self._clock() - now_s)

            self._stage = stage if done < total else str
            self._refresh()

        return count

    @contextlib.contextmanager
    def watched(self, title: str) -> Iterator[None]:
        """Show until the block ends that it is alive, even if its stages report nothing."""
        ended = threading.Event()
        self._spoke_s = self._clock()
        self._watched, self._stage = (title, self._spoke_s), str
        ticker = threading.Thread(target=self._tick, args=(ended,), daemon=True)
        ticker.start()
        try:
            yield
        finally:
            ended.set()
            ticker.join()
            self._watched, self._stage = None, str
            with self._guard:
                self._erase()

    def _tick(self, ended: threading.Event) -> None:
        while not ended.wait(min(_TICK_S, self._interval_s / 4)):
            self._refresh()

    def _refresh(self) -> None:
        """Redraw the line; elsewhere write one if the silence has lasted long enough."""
        with self._guard:
            text = self._text()
            if self.is_terminal:
                self._draw(text)
            elif text and self._clock() - self._spoke_s >= self._interval_s:
                self._write_line(text)

    def _text(self) -> str:
        stage = self._stage()
        if self._watched is None or stage.startswith(self._watched[0]):
            return stage
        title, start_s = self._watched
        text = f"{title}, {_duration(self._clock() - start_s)}"
        return f"{text}: {stage}" if stage else text

    def _write_line(self, text: str) -> None:
        with self._guard:
            self._erase()
            self._begin_line()
            self._write(f"{printable(text)}\n")
            self._spoke_s = self._clock()

    def _draw(self, text: str) -> None:
        if not self._is_drawn:
            self._begin_line()
        self._write(f"\r{printable(text)[: self._columns() - 1]}\x1b[K\r")
        self._is_drawn = True

    def _erase(self) -> None:
        if self._is_drawn:
            self._write("\r\x1b[K")
        self._is_drawn = False

    def _write(self, text: str) -> None:
        # The terminal may be gone, or the disk of a log full: the run goes on.
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)
                self._stream.flush()

    def _columns(self) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return os.get_terminal_size(self._stream.fileno()).columns or 80  # type: ignore[union-attr]
        return 80


def _rate_text(share: float, done: int, took_s: float, since_s: float) -> str:
    """Say how fast the clips ``done`` were, how long the others will take, and draw a bar."""
    if done == 0 or took_s <= 0.0:
        return ""
    left_s = max(took_s * (1.0 / share - 1.0) - since_s, 0.0)
    # The bar last: a narrow terminal cuts it off first.
    bar = "#" * int(_BAR * share)
    return f", {done / took_s:.3g} clips/s, {_duration(left_s)} left [{bar:.<{_BAR}}]"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
