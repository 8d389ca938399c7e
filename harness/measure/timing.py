"""Timing loops: warm-up until stable, a least time and a least count, and two sides in turns or at once."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from harness.errors import InvalidMeasurement
from harness.host.clocks import ReadClocks, Reading, read_clocks
from harness.timings import LoopSettings

Query = Callable[[], object]
Clock = Callable[[], float]

STABLE_RELATIVE = 0.05
WARMUP_CAP = 10
WARMUP_CAP_S = 3.0
# A shorter query is not an inference; the cap ends a loop whose clock hardly moves.
SHORTEST_QUERY_S = 1e-6
# What else runs changes within a turn of four queries that take longer each.
TOGETHER_S = 3.0


def measure_session(
    issue_query: Query, settings: LoopSettings, clock: Clock = time.perf_counter
) -> tuple[float, ...]:
    """Warm up, then time queries, in milliseconds, until the least count and the least time are reached.

    Raises:
        InvalidMeasurement: the clock stands still or goes backwards.
    """
    warm_up(issue_query, settings, clock)
    times_ms, seconds = list[float](), 0.0
    while len(times_ms) < settings.min_queries or seconds < settings.min_seconds:
        times_ms.append(_time_ms(issue_query, clock))
        seconds += times_ms[-1] / 1000.0
        if len(times_ms) > settings.min_queries:
            _refuse_standstill(len(times_ms), seconds)
    return tuple(times_ms)


def in_turns(
    issue_a: Query, issue_b: Query, settings: LoopSettings, read: ReadClocks = read_clocks
) -> tuple[tuple[Reading, ...], tuple[Reading, ...]]:
    """Time two sides in turns of single queries, A B B A, until count and time are reached.

    Each query of a turn meets the caches as the other side left them once, and a steady drift of
    the machine cancels. Where a query of the warm-up took more than 3 s, both sides run at the same
    time instead, each in a thread, and share whatever else the machine does: beside other work the
    ratio of TimeSformer varies by 3.5 % in turns and by 1.2 % together. The warm-up, which is long
    for such models, runs so in any case.

    ``min_queries`` is of each side, ``min_seconds`` is processor time of both together: on a busy
    host wall time passes without telling anything.

    Returns:
        What passed by every clock in each query of A and of B, as many of one as of the other. The
        processor time of A is that of all threads but B's, which must not start any.

    Raises:
        InvalidMeasurement: a clock stands still or goes backwards.
    """
    warm = [_at_once(issue_a, issue_b, read) for _ in range(settings.warmup_queries)]
    longest_s = max((cost.processor_s for both in warm for cost in both), default=0.0)
    take = _together if longest_s > TOGETHER_S else _turn
    a: list[Reading] = []
    b: list[Reading] = []
    seconds = 0.0
    while len(a) < settings.min_queries or seconds < settings.min_seconds:
        of_a, of_b = take(issue_a, issue_b, read)
        a += of_a
        b += of_b
        seconds += sum(cost.processor_s for cost in (*of_a, *of_b))
        _refuse_standstill(len(a) + len(b), seconds)
    return tuple(a), tuple(b)


def warm_up(issue_query: Query, settings: LoopSettings, clock: Clock = time.perf_counter) -> int:
    """Issue untimed queries until two windows in a row have medians within 5 %; return how many.

    At least ``warmup_queries`` are issued and at most ten times as many, and no more once they have
    taken 3 s: on a machine that never settles, it is the spread over sessions that has to show it.
    """
    # Two windows make the least number of queries.
    window = max(1, (settings.warmup_queries + 1) // 2)
    times_ms: list[float] = []
    for _ in range(0, WARMUP_CAP * settings.warmup_queries, window):
        times_ms.extend(_time_ms(issue_query, clock) for _ in range(window))
        is_enough = len(times_ms) >= settings.warmup_queries
        if _is_stable(times_ms, window) or (is_enough and sum(times_ms) >= 1000.0 * WARMUP_CAP_S):
            break
    return len(times_ms)


def _is_stable(times_ms: Sequence[float], window: int) -> bool:
    if len(times_ms) < 2 * window:
        return False
    before, after = median(times_ms[-2 * window : -window]), median(times_ms[-window:])
    return abs(after - before) <= STABLE_RELATIVE * max(after, before)


def _refuse_standstill(count: int, seconds: float) -> None:
    if seconds < count * SHORTEST_QUERY_S:
        raise InvalidMeasurement(
            f"{count} queries took {seconds:.3g} s by the clock: it stands still, or no work is done"
        )


def _turn(issue_a: Query, issue_b: Query, read: ReadClocks) -> tuple[list[Reading], list[Reading]]:
    first, *of_b, last = [_cost(issue, read) for issue in (issue_a, issue_b, issue_b, issue_a)]
    return [first, last], of_b


def _together(
    issue_a: Query, issue_b: Query, read: ReadClocks
) -> tuple[list[Reading], list[Reading]]:
    first, second = (_at_once(issue_a, issue_b, read) for _ in range(2))
    return [first[0], second[0]], [first[1], second[1]]


def _at_once(issue_a: Query, issue_b: Query, read: ReadClocks) -> tuple[Reading, Reading]:
    """Run a query of each side at the same time, each in a thread."""
    with ThreadPoolExecutor(max_workers=2) as threads:
        start = read()
        both = [threads.submit(_cost, issue, read) for issue in (issue_a, issue_b)]
        a, b = [one.result() for one in both]
        others_s = read().since(start).processor_s - b.thread_s
    a = dataclasses.replace(a, processor_s=others_s)
    return a, dataclasses.replace(b, processor_s=b.thread_s)


def _cost(issue_query: Query, read: ReadClocks) -> Reading:
    start = read()
    issue_query()
    cost = read().since(start)
    if min(cost.wall_s, cost.processor_s) < 0.0:
        back_s = -min(cost.wall_s, cost.processor_s)
        raise InvalidMeasurement(f"a clock went back {back_s:.3g} s during a query")
    return cost


def _time_ms(issue_query: Query, clock: Clock) -> float:
    start_s = clock()
    issue_query()
    seconds = clock() - start_s
    if seconds < 0.0:
        raise InvalidMeasurement(f"the clock went back {-seconds:.3g} s during a query")
    return seconds * 1000.0
