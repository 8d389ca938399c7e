"""Doubles that ship with the suite: each stands for one seam and keeps its promises."""


class FakeClock:
    """A clock that moves by ``step_s`` whenever it is read, and by ``advance``; starts at 0."""

    def __init__(self, step_s: float = 0.0) -> None:
        self._now_s = 0.0
        self._step_s = step_s

    def __call__(self) -> float:
        """Return the time in seconds, then move on by one step."""
        now_s = self._now_s
        self._now_s += self._step_s
        return now_s

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self._now_s += seconds
