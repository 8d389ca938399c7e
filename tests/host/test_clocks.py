import dataclasses

import pytest

from harness.host import clocks
from harness.host.clocks import Reading, clock_problems, read_clocks

PASSED = Reading(
    wall_s=10.0,
    processor_s=12.0,
    thread_s=7.0,
    queued_s=2.0,
    raw_s=10.0,
    ticks_s=10.01,
    ticked_processor_s=11.98,
)
CLOCKS = ("wall_s", "processor_s", "raw_s", "ticks_s", "ticked_processor_s")


def test_clocks_that_agree_are_no_problem():
    assert clock_problems(PASSED, 2) == ()


@pytest.mark.parametrize("factor", [0.1, 0.9, 1.1, 10.0])
@pytest.mark.parametrize("name", CLOCKS)
def test_one_clock_that_runs_wrong_is_seen(name, factor):
    wrong = dataclasses.replace(PASSED, **{name: factor * getattr(PASSED, name)})
    assert clock_problems(wrong, 2)


def test_every_clock_of_python_ten_times_slow_is_seen_by_the_kernel_s_ticks():
    slow = ("wall_s", "processor_s", "thread_s", "raw_s")
    wrong = dataclasses.replace(PASSED, **{name: getattr(PASSED, name) / 10 for name in slow})
    timed, processor = clock_problems(wrong, 2)
    assert timed == (
        "the clock that queries are timed by says 1.00 s, and the kernel's ticks 10.01 s"
    )
    assert processor.startswith("processor time says 1.20 s")


def test_more_processor_time_than_there_are_processors_is_seen():
    assert clock_problems(PASSED, 1) == (
        "12.00 s of processor time passed in 10.00 s on 1 processor(s)",
    )


def test_waiting_is_neither_running_nor_standing_in_line():
    assert PASSED.waiting_s == pytest.approx(1.0)
    assert dataclasses.replace(PASSED, queued_s=None).waiting_s is None


def test_differences_of_readings():
    start, end = PASSED, dataclasses.replace(PASSED, wall_s=11.5, queued_s=2.25)
    passed = end.since(start)
    assert (passed.wall_s, passed.queued_s, passed.processor_s) == (1.5, 0.25, 0.0)
    assert end.since(dataclasses.replace(start, queued_s=None)).queued_s is None


def test_the_clocks_of_this_process_agree(tmp_path, monkeypatch):
    start = read_clocks()
    sum(range(100_000))
    passed = read_clocks().since(start)
    assert passed.thread_s > 0.0
    assert clock_problems(passed, 64) == ()
    monkeypatch.setattr(clocks, "_SCHEDSTAT", tmp_path / "none")
    assert read_clocks().queued_s is None
