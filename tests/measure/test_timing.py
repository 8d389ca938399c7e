import pytest

from harness.device import LoopSettings
from harness.errors import InvalidMeasurement
from harness.measure.timing import interleaved, measure_session, warm_up
from harness.testing import FakeClock

QUICK = LoopSettings(warmup_queries=4, min_queries=10, min_seconds=0.0)


class Query:
    """A query that takes the next of its times, then the last of them for ever."""

    def __init__(self, clock, *times_s):
        self.clock, self.times_s, self.count = clock, list(times_s), 0

    def __call__(self):
        self.count += 1
        self.clock.advance(self.times_s.pop(0) if len(self.times_s) > 1 else self.times_s[0])


def test_fake_clock_steps_and_advances():
    clock = FakeClock(step_s=1.0)
    assert (clock(), clock()) == (0.0, 1.0)
    clock.advance(0.5)
    assert clock() == 2.5


def test_at_least_the_count_is_timed_and_warmup_is_not():
    clock = FakeClock()
    query = Query(clock, 5.0, 5.0, 0.01)
    times_ms = measure_session(query, QUICK, clock)
    assert times_ms == pytest.approx([10.0] * 10)
    assert query.count > 10


def test_at_least_the_time_is_spent():
    clock = FakeClock()
    settings = LoopSettings(warmup_queries=1, min_queries=3, min_seconds=1.0)
    times_ms = measure_session(Query(clock, 0.01), settings, clock)
    assert 1000.0 <= sum(times_ms) <= 1010.1


def test_warmup_ends_when_two_windows_agree():
    clock = FakeClock()
    query = Query(clock, 9.0, 9.0, 1.0)
    assert warm_up(query, QUICK, clock) == query.count == 6


def test_warmup_issues_its_least_count():
    clock = FakeClock()
    settings = LoopSettings(warmup_queries=5, min_queries=1, min_seconds=0.0)
    assert warm_up(Query(clock, 1.0), settings, clock) >= 5


def test_warmup_of_none_issues_none():
    settings = LoopSettings(warmup_queries=0, min_queries=1, min_seconds=0.0)
    assert warm_up(Query(FakeClock(), 1.0), settings, FakeClock()) == 0


def test_warmup_is_capped_where_nothing_settles():
    clock = FakeClock()
    rising = [1.5**step for step in range(200)]
    assert warm_up(Query(clock, *rising), QUICK, clock) == 40


def test_a_clock_that_stands_still_is_refused():
    settings = LoopSettings(warmup_queries=1, min_queries=3, min_seconds=0.1)
    with pytest.raises(InvalidMeasurement, match="stands still"):
        measure_session(lambda: None, settings, FakeClock())


def test_a_clock_that_goes_back_is_refused():
    with pytest.raises(InvalidMeasurement, match="went back"):
        measure_session(lambda: None, QUICK, FakeClock(step_s=-1.0))


def test_interleaved_gives_each_side_its_own_times():
    clock = FakeClock()
    a, b = interleaved(Query(clock, 0.01), Query(clock, 0.03), QUICK, clock)
    assert a == pytest.approx([10.0] * len(a))
    assert b == pytest.approx([30.0] * len(b))
    assert len(a) == len(b) >= QUICK.min_queries


def test_interleaved_alternates_blocks_and_their_order():
    clock, seen = FakeClock(step_s=0.001), []
    settings = LoopSettings(warmup_queries=0, min_queries=6, min_seconds=0.0)
    interleaved(lambda: seen.append("a"), lambda: seen.append("b"), settings, clock, 2)
    assert "".join(seen) == "aabbbbaaaabb"


def test_a_warm_side_is_not_warmed_again():
    clock, seen = FakeClock(step_s=0.001), []
    settings = LoopSettings(warmup_queries=2, min_queries=2, min_seconds=0.0)
    a, b = (lambda: seen.append("a"), lambda: seen.append("b"))
    interleaved(a, b, settings, clock, 1, is_a_warm=True)
    assert "".join(seen) == "bb" + "a" + "abba"


def test_interleaved_cancels_a_steady_drift():
    clock = FakeClock()
    slowing = iter(range(10_000))

    def query():
        clock.advance(0.01 * (1.0 + 0.01 * next(slowing)))

    settings = LoopSettings(warmup_queries=0, min_queries=20, min_seconds=0.0)
    a, b = interleaved(query, query, settings, clock)
    assert sum(a) == pytest.approx(sum(b), rel=1e-9)


def test_both_sides_reach_the_least_time():
    clock = FakeClock()
    settings = LoopSettings(warmup_queries=1, min_queries=2, min_seconds=0.5)
    a, b = interleaved(Query(clock, 0.01), Query(clock, 0.1), settings, clock)
    assert min(sum(a), sum(b)) >= 500.0


def test_the_real_clock_is_the_default():
    assert all(time_ms > 0 for time_ms in measure_session(lambda: sum(range(100)), QUICK))
