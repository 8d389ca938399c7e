"""Progress of long stages, drawn by tqdm where a person watches and silent elsewhere."""

import logging
from collections.abc import Callable
from typing import TextIO

_LOG = logging.getLogger(__name__)

Heartbeat = Callable[[float], None]
Counter = Callable[[int], None]


class Progress:
    """Draws at most one bar at a time; without a stream, or into a file, it draws nothing."""

    def __init__(
        self, stream: TextIO | None = None, before: Callable[[], None] = lambda: None
    ) -> None:
        self._stream = stream
        self._before = before

    @property
    def is_drawn(self) -> bool:
        """Whether a person watches."""
        return self._stream is not None and self._stream.isatty()

    def say(self, text: str) -> None:
        """Write a line that belongs into the log of a night too, such as the reason of a wait."""
        if self._stream is None:
            _LOG.warning("%s", text)
            return
        self._before()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def heartbeat(self, title: str) -> Heartbeat:
        """Return what shows how long a stage has taken; it erases itself with each call."""

        def beat(elapsed_s: float) -> None:
            if self.is_drawn and self._stream is not None:
                self._stream.write(f"\r{title}: {elapsed_s:.0f} s\x1b[K\r")
                self._stream.flush()

        return beat

    def counter(self, title: str, total: int) -> Counter:
        """Return what is told how many are done and shows rate and time left."""
        from tqdm import tqdm

        if not self.is_drawn:
            return lambda done: None
        self._before()
        bar = tqdm(total=total, desc=title, unit="clip", file=self._stream, leave=False)

        def count(done: int) -> None:
            bar.update(min(done, total) - bar.n)
            if done >= total:
                bar.close()

        return count
