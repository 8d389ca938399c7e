"""What the history or the baseline lets one expect, and a run lacks."""

import dataclasses
from types import SimpleNamespace

from harness.measure.throughput import session_timing, throughput_measurement
from harness.nightly.absences import missing_cells
from harness.nightly.comparison import Kind
from harness.nightly.series import Point, Series, SeriesKey, changed_facts, values_from_measurement
from harness.spec import Status
from tests import made

HERE = SeriesKey("nonlocal_r50", "cpu", 1, "throughput", "processor.x", "epyc-2cpu")
ELSEWHERE = dataclasses.replace(HERE, batch=4, host_class="xeon-2cpu")
GONE = dataclasses.replace(HERE, batch=8)


def series(key, *run_ids):
    points = (
        Point(run_id, "2026-10-01T02:00:00+00:00", 1.0, Status.PASS, {}) for run_id in run_ids
    )
    return Series(key, tuple(points))


def missed(found, baseline=()):
    frozen = SimpleNamespace(series=[SimpleNamespace(key=key) for key in baseline])
    notices = missing_cells(found, "tonight", [f"night-{n}" for n in range(30)], frozen)
    assert {(one.kind, one.status) for one in notices} <= {(Kind.NO_CELL, Status.NOT_RUN)}
    return [one.id for one in notices]


def test_a_check_of_the_last_nights_or_of_the_baseline_of_these_hosts_is_missed():
    tonight = series(HERE, "night-29", "tonight")
    gone = ["nonlocal_r50-cpu-bs8:throughput"]
    assert missed([tonight, series(GONE, "night-29")]) == gone
    assert missed([tonight, series(GONE, "night-0")]) == []
    assert missed([tonight], [HERE, GONE]) == gone
    assert missed([tonight], [HERE, ELSEWHERE]) == []


def test_what_shapes_a_result_is_the_first_of_what_changed():
    before, after = {"cpu.model": "a", "device.cann": "7"}, {"cpu.model": "b", "device.cann": "8"}
    assert changed_facts(before, after) == ("device.cann: 7 -> 8", "cpu.model: a -> b")


def test_the_series_of_a_speed_have_its_bounds():
    measured = throughput_measurement([session_timing([ms] * 9) for ms in (9.0, 10.0)], 1)
    (value,) = values_from_measurement(measured)
    bounds = measured.device.per_s.bounds
    assert (value.metric, value.low, value.high) == ("device.per_s", bounds.low, bounds.high)


def test_the_series_of_accuracy_are_shares_with_their_intervals():
    measured = made.measured("accuracy")
    top1, top5 = values_from_measurement(measured)
    for value, name, count in ((top1, "top1", measured.top1), (top5, "top5", measured.top5)):
        assert value.metric == f"{name}.{measured.clip_set}-{count.n}"
        assert value.value == count.k / count.n
        assert (value.low, value.high) == (count.interval.low, count.interval.high)
    one = measured.model_copy(update={"top1": measured.top1.model_copy(update={"n": 1, "k": 1})})
    assert values_from_measurement(one)[0].value == 1.0
    none = measured.top1.model_copy(update={"n": 0})
    nothing = measured.model_copy(update={"top1": none, "top5": none})
    assert values_from_measurement(nothing) == []
