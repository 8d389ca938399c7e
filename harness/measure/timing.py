"""Timing loops: warm-up until stable, a least time and a least count, and two sessions in turns."""

import time
from collections.abc import Callable, Sequence

from harness.device import LoopSettings
from harness.errors import InvalidMeasurement
from harness.measure.statistics import median

Query = Callable[[], object]
Clock = Callable[[], float]

STABLE_RELATIVE = 0.05
WARMUP_CAP = 10
BLOCK_QUERIES = 5
# A query that costs less than this is no inference; the cap ends a loop whose clock hardly moves.
SHORTEST_QUERY_S = 1e-6


def measure_session(
    issue_query: Query, settings: LoopSettings, clock: Clock = time.perf_counter
) -> tuple[float, ...]:
    """Warm up, then time queries until both the least count and the least time are reached.

    Returns:
        The latency of each timed query in milliseconds.

    Raises:
        InvalidMeasurement: the clock stands still or goes backwards.
    """
    warm_up(issue_query, settings, clock)
    side = _Side(issue_query, clock)
    while not side.is_enough(settings):
        side.run()
    return tuple(side.times_ms)


def interleaved(
    issue_a: Query,
    issue_b: Query,
    settings: LoopSettings,
    clock: Clock = time.perf_counter,
    block_queries: int = BLOCK_QUERIES,
    *,
    is_a_warm: bool = False,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time two sessions in one process in alternating blocks, so that both see the same weather.

    The order changes every round (A B, B A, ...), so that a steady drift does not favour one.
    Where ``is_a_warm``, A gets one untimed query instead of a warm-up, to fetch its data again.

    Returns:
        The latencies of A and of B in milliseconds, as many of one as of the other.

    Raises:
        InvalidMeasurement: the clock stands still or goes backwards.
    """
    warm_up(issue_b, settings, clock)
    if is_a_warm:
        issue_a()
    else:
        warm_up(issue_a, settings, clock)
    a, b = _Side(issue_a, clock), _Side(issue_b, clock)
    order = [a, b]
    while not (a.is_enough(settings) and b.is_enough(settings)):
        for side in order:
            side.run(block_queries)
        order.reverse()
    return tuple(a.times_ms), tuple(b.times_ms)


def warm_up(issue_query: Query, settings: LoopSettings, clock: Clock = time.perf_counter) -> int:
    """Issue untimed queries until two windows in a row have medians within 5 %.

    At least ``warmup_queries`` are issued and at most ten times as many: on a machine that never
    settles, it is the spread over sessions that has to show it.

    Returns:
        The number of queries issued.
    """
    # Two windows make the least number of queries.
    window = max(1, (settings.warmup_queries + 1) // 2)
    times_ms: list[float] = []
    for _ in range(0, WARMUP_CAP * settings.warmup_queries, window):
        times_ms.extend(_time_ms(issue_query, clock) for _ in range(window))
        if _is_stable(times_ms, window):
            break
    return len(times_ms)


class _Side:
    """The timed queries of one session so far, with their sum, so that asking costs nothing."""

    def __init__(self, issue_query: Query, clock: Clock) -> None:
        self.times_ms: list[float] = []
        self._issue_query = issue_query
        self._clock = clock
        self._seconds = 0.0

    def run(self, count: int = 1) -> None:
        for _ in range(count):
            self.times_ms.append(_time_ms(self._issue_query, self._clock))
            self._seconds += self.times_ms[-1] / 1000.0

    def is_enough(self, settings: LoopSettings) -> bool:
        count = len(self.times_ms)
        if count > settings.min_queries and self._seconds < count * SHORTEST_QUERY_S:
            raise InvalidMeasurement(
                f"{count} queries took {self._seconds:.3g} s by the clock: it stands still, or no "
                "work is done"
            )
        return count >= settings.min_queries and self._seconds >= settings.min_seconds


def _is_stable(times_ms: Sequence[float], window: int) -> bool:
    if len(times_ms) < 2 * window:
        return False
    before, after = median(times_ms[-2 * window : -window]), median(times_ms[-window:])
    return abs(after - before) <= STABLE_RELATIVE * max(after, before)


def _time_ms(issue_query: Query, clock: Clock) -> float:
    start_s = clock()
    issue_query()
    seconds = clock() - start_s
    if seconds < 0.0:
        raise InvalidMeasurement(f"the clock went back {-seconds:.3g} s during a query")
    return seconds * 1000.0
