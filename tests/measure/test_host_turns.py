import pytest

from harness.measure.host_turns import HostUse, Turns, host_look


def turns(device_ms, reference_ms, **more):
    return Turns(
        processor_ms=tuple(device_ms), unoptimised_processor_ms=tuple(reference_ms), **more
    )


@pytest.mark.parametrize(
    "broken",
    [
        turns([1.0] * 4, [1.0] * 2),
        turns([1.0] * 3, [1.0] * 3),
        turns([1.0] * 2, []),
        turns([1.0] * 2, [1.0, 0.0]),
        turns([], []),
    ],
)
def test_half_turns_are_no_turns(broken):
    assert not broken.is_whole
    assert turns([1.0] * 4, [1.0] * 4).is_whole


def test_the_middle_turn_counts_and_a_turn_is_there_and_back():
    # Each first query of a turn meets a cold cache, and one turn was disturbed.
    ours, theirs = [12.0, 8.0] * 5, [30.0, 10.0] * 5
    ours[2:4] = [90.0, 90.0]
    assert turns(ours, theirs).ratio == pytest.approx(2.0)


def look(*uses, waiting_ms=(0.1, 0.1, 9.0, 0.1), wall_ms=(6.0,) * 3):
    sides = turns([10.0] * 4, [10.0] * 4, wall_ms=(12.0,) * 4, waiting_ms=waiting_ms)
    return host_look([(sides, use, wall_ms) for use in uses])


def test_a_host_is_looked_at_through_the_middle_session():
    quiet = HostUse(usable=2, used=1.9, is_quiet=True)
    found = look(quiet, HostUse(usable=2, used=1.2, is_quiet=False), quiet)
    assert (found.waiting_ms, found.query_ms, found.usable, found.used) == (0.1, 10.0, 2, 1.9)
    assert (found.speedup, found.quiet_sessions) == (2.0, 2)


def test_what_nobody_told_is_none():
    busy = look(HostUse(usable=2, used=1.9), waiting_ms=())
    assert (busy.waiting_ms, busy.speedup, busy.quiet_sessions) == (None, None, 0)
    assert look(HostUse(usable=2, used=1.9), wall_ms=()) is None
