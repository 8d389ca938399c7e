import dataclasses
import threading
import time

import pytest

from harness.errors import InvalidMeasurement
from harness.host.clocks import Reading
from harness.measure import timing
from harness.measure.timing import in_turns, measure_session, warm_up
from harness.testing import FakeClock
from harness.timings import LoopSettings

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
    query = Query(clock, 0.09, 0.09, 0.01)
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
    rising = [1e-9 * 1.5**step for step in range(200)]
    assert warm_up(Query(clock, *rising), QUICK, clock) == 40


def test_a_clock_that_stands_still_is_refused():
    settings = LoopSettings(warmup_queries=1, min_queries=3, min_seconds=0.1)
    with pytest.raises(InvalidMeasurement, match="stands still"):
        measure_session(lambda: None, settings, FakeClock())


def test_a_clock_that_goes_back_is_refused():
    with pytest.raises(InvalidMeasurement, match="went back 1 s"):
        measure_session(lambda: None, QUICK, FakeClock(step_s=-1.0))


class Host:
    """Clocks of a host on which wall time may pass without processor time."""

    def __init__(self):
        self.wall_s = self.processor_s = self.queued_s = 0.0

    def works(self, seconds, queued_s=0.0, waiting_s=0.0):
        self.processor_s += seconds
        self.queued_s += queued_s
        self.wall_s += seconds + queued_s + waiting_s

    def read(self):
        return Reading(
            wall_s=self.wall_s,
            processor_s=self.processor_s,
            thread_s=self.processor_s,
            queued_s=self.queued_s,
            raw_s=self.wall_s,
            ticks_s=self.wall_s,
            ticked_processor_s=self.processor_s,
        )


TURNS = LoopSettings(warmup_queries=0, min_queries=4, min_seconds=0.0)


def test_turns_are_of_single_queries_there_and_back():
    host, seen = Host(), []

    def query(name):
        return lambda: (seen.append(name), host.works(0.01))

    a, b = in_turns(query("a"), query("b"), TURNS, host.read)
    assert "".join(seen) == "abba" * 2
    assert len(a) == len(b) == 4


def test_long_queries_of_both_sides_run_at_once_and_every_thread_but_the_reference_is_the_device_s(
    monkeypatch,
):
    # The two meet, so that one which waits for the other's end would wait for ever.
    monkeypatch.setattr(timing, "TOGETHER_S", -1.0)
    meeting = threading.Barrier(2, timeout=30.0)

    def spins(seconds):
        end_s = time.thread_time() + seconds
        while time.thread_time() < end_s:
            sum(range(1000))

    def device():
        meeting.wait()
        helper = threading.Thread(target=spins, args=(0.1,))
        helper.start()
        spins(0.05)
        helper.join()

    def reference():
        meeting.wait()
        spins(0.05)

    settings = LoopSettings(warmup_queries=0, min_queries=2, min_seconds=0.0)
    a, b = in_turns(device, reference, settings)
    assert len(a) == len(b) == 2
    # No more of the one is known on a busy machine; without its helper, or without the other's time
    # taken off, it would be 0.05 or 0.2.
    assert all(cost.processor_s >= 0.145 for cost in a)
    assert all(0.05 <= cost.processor_s < 0.1 for cost in b)


def test_what_a_query_of_the_warm_up_took_decides_whether_both_run_at_once(monkeypatch):
    # Two threads would read the one fake clock.
    monkeypatch.setattr(
        timing, "_at_once", lambda a, b, read: [timing._cost(one, read) for one in (a, b)]
    )
    monkeypatch.setattr(timing, "_together", lambda a, b, read: ([read()] * 2, [read()] * 2))
    settings = dataclasses.replace(TURNS, warmup_queries=1)
    for seconds, started in ((2.9, 10), (3.1, 2)):
        host, seen = Host(), []

        def query(seconds=seconds, host=host, seen=seen):
            seen.append(host.works(seconds))

        in_turns(query, query, settings, host.read)
        assert len(seen) == started


def test_a_queue_for_the_processor_costs_nothing_and_a_wait_is_seen():
    host = Host()
    a, b = in_turns(
        lambda: host.works(0.01, queued_s=0.5),
        lambda: host.works(0.03, waiting_s=0.05),
        TURNS,
        host.read,
    )
    assert [cost.processor_s for cost in a] == pytest.approx([0.01] * 4)
    assert [cost.waiting_s for cost in a] == pytest.approx([0.0] * 4)
    assert [cost.waiting_s for cost in b] == pytest.approx([0.05] * 4)


def test_turns_go_on_until_both_sides_together_worked_their_time():
    host, settings = Host(), LoopSettings(warmup_queries=0, min_queries=2, min_seconds=0.45)
    a, b = in_turns(
        lambda: host.works(0.01, queued_s=9.0), lambda: host.works(0.04), settings, host.read
    )
    assert 0.45 <= sum(cost.processor_s for cost in (*a, *b)) < 0.55


def test_turns_cancel_a_steady_drift():
    host, slowing = Host(), iter(range(10_000))

    def query():
        host.works(0.01 * (1.0 + 0.01 * next(slowing)))

    a, b = in_turns(query, query, LoopSettings(0, 20, 0.0), host.read)
    assert sum(cost.processor_s for cost in a) == pytest.approx(
        sum(cost.processor_s for cost in b), rel=1e-9
    )


@pytest.mark.parametrize(("seconds", "words"), [(0.0, "stands still"), (-1.0, "went back 1 s")])
def test_a_processor_clock_that_is_broken_is_refused(seconds, words):
    host = Host()

    def query():
        host.works(seconds)

    with pytest.raises(InvalidMeasurement, match=words):
        in_turns(query, query, LoopSettings(0, 4, 1.0), host.read)


def test_the_clocks_of_this_process_are_the_default():
    a, b = in_turns(lambda: sum(range(1000)), lambda: sum(range(1000)), TURNS)
    assert min(cost.processor_s for cost in (*a, *b)) > 0.0


def test_queries_of_seconds_are_warm_after_one():
    clock = FakeClock()
    rising = [5.0 * 1.5**step for step in range(200)]
    assert warm_up(Query(clock, *rising), LoopSettings(1, 1, 0.0), clock) == 1


def test_the_real_clock_is_the_default():
    assert all(time_ms > 0 for time_ms in measure_session(lambda: sum(range(100)), QUICK))
