import json
import math

import pytest

from harness.measure.host_turns import HostUse, Turns
from harness.measure.throughput import (
    SessionTiming,
    ThroughputMeasurement,
    session_timing,
    throughput_measurement,
)


def measure(timings, batch):
    return throughput_measurement(timings, batch)


def sessions(*means_ms, count=10, **more):
    return [session_timing([mean] * count, **more) for mean in means_ms]


def test_speed_is_work_over_time():
    measured = measure([session_timing([10.0, 30.0])], batch=4)
    assert measured.device.per_s.mean == pytest.approx(4 / 0.020)
    assert measured.session_count == 1
    assert measured.device.per_s.bounds is None
    assert measured.invalid_reasons == ()


def test_the_three_definitions_are_kept_apart():
    timing = session_timing([10.0] * 5, [20.0] * 5, [40.0] * 5)
    measured = measure([timing], batch=1)
    speeds = [measured.speed(name).per_s.mean for name in ("device", "device_io", "e2e")]
    assert speeds == pytest.approx([100.0, 50.0, 25.0])


def test_what_was_not_measured_is_none():
    measured = measure(sessions(10.0), batch=1)
    assert (measured.device_io, measured.e2e, measured.processor) == (None, None, None)


def test_the_session_is_the_unit():
    measured = measure(sessions(10.0, 20.0, count=500), batch=1)
    assert measured.device.per_s.per_session == pytest.approx((100.0, 50.0))
    assert measured.device.per_s.mean == pytest.approx(75.0)
    half = 6.313752 * math.sqrt(1250.0 / 2)
    assert measured.device.per_s.bounds.low == pytest.approx(75.0 - half, rel=1e-6)
    assert measured.device.per_s.bounds.high == pytest.approx(75.0 + half, rel=1e-6)


def turns(device_ms, reference_ms, **more):
    return Turns(
        processor_ms=tuple(device_ms), unoptimised_processor_ms=tuple(reference_ms), **more
    )


def test_the_ratio_to_the_unoptimised_graph_is_one_of_processor_times_in_each_session():
    timings = [
        session_timing([10.0], turns=turns([10.0] * 4, [15.0] * 4)),
        session_timing([10.0], turns=turns([20.0] * 4, [30.0] * 4)),
    ]
    measured = measure(timings, batch=1)
    assert measured.device.x_pytorch is None
    assert measured.processor.x_unoptimised.per_session == pytest.approx((1.5, 1.5))
    assert measured.processor.x_unoptimised.bounds.low == pytest.approx(1.5)
    assert measured.processor.per_s.per_session == pytest.approx((100.0, 50.0))


def test_a_session_without_turns_leaves_no_ratio():
    whole = session_timing([1.0], turns=turns([1.0] * 2, [1.0] * 2))
    assert measure([whole, whole], batch=1).processor.x_unoptimised is not None
    half = session_timing([1.0], turns=turns([1.0] * 3, [1.0] * 3))
    assert measure([whole, half], batch=1).processor.x_unoptimised is None
    assert measure([whole, session_timing([1.0])], batch=1).processor is None


@pytest.mark.parametrize(
    ("count", "p90", "p99"), [(19, False, False), (20, True, False), (200, True, True)]
)
def test_percentiles_need_their_queries(count, p90, p99):
    timing = session_timing([float(number + 1) for number in range(count)])
    speed = measure([timing, timing], batch=1).device
    assert speed.query_count == 2 * count
    assert speed.latency_p50_ms == (count + 1) / 2
    assert (speed.latency_p90_ms is not None, speed.latency_p99_ms is not None) == (p90, p99)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_times_that_are_no_numbers_make_it_invalid(bad):
    measured = measure([session_timing([10.0, bad, 10.0])], batch=1)
    assert measured.invalid_reasons == ("session 1: 1 times are not finite",)


@pytest.mark.parametrize("bad", [0.0, -1.0, 5e-324])
def test_zero_and_negative_times_make_it_invalid(bad):
    measured = measure([session_timing([10.0, bad])], batch=1)
    assert "1 of 2 times in device_ms are zero or negative" in measured.invalid_reasons[0]
    assert measured.device is None


def test_zero_times_of_the_reference_make_it_invalid():
    measured = measure([session_timing([10.0], turns=turns([1.0] * 2, [1.0, 0.0]))], batch=1)
    assert "unoptimised_processor_ms" in measured.invalid_reasons[0]
    assert measured.processor.x_unoptimised is None


def test_no_session_and_no_query_are_invalid():
    assert measure([], batch=1).invalid_reasons == ("no session was timed",)
    nothing = measure([SessionTiming()], batch=1)
    assert nothing.invalid_reasons == ("session 1: no query was timed",)


def test_a_session_that_lacks_a_definition_is_invalid():
    timings = [session_timing([10.0], [12.0]), session_timing([10.0])]
    measured = measure(timings, batch=1)
    assert measured.invalid_reasons == ("session 2: device_io_ms has 0 times, session 1 has 1",)
    assert measured.device_io is None


@pytest.mark.parametrize(
    ("looks", "is_same"),
    [([None, None], None), ([True, None], True), ([True, True], True), ([True, False], False)],
)
def test_outputs_of_the_timed_run(looks, is_same):
    timings = [session_timing([10.0], is_output_same=look) for look in looks]
    measured = measure(timings, batch=1)
    assert measured.is_output_same is is_same
    assert bool(measured.invalid_reasons) == (is_same is False)


@pytest.mark.parametrize(
    ("times_ms", "unsteady"),
    [
        ((10.0,), 0),
        ((10.0, 10.0, 11.2, 11.2), 1),
        ((11.2, 11.2, 10.0, 10.0), 1),
        ((10.0, 10.0, 10.2, 10.2), 0),
        # The halves, not the thirds, and their medians.
        ((10.0, 10.0, 10.0, 12.0, 10.0, 10.0), 0),
    ],
)
def test_a_session_is_steady_if_its_halves_agree(times_ms, unsteady):
    assert measure([session_timing(times_ms)], batch=1).unsteady_sessions == unsteady
    by_copies = SessionTiming(device_io_ms=times_ms)
    assert measure([by_copies], batch=1).unsteady_sessions == unsteady


def test_what_was_compared_is_the_least_of_the_sessions_and_what_differs_is_named():
    sessions = [
        session_timing([10.0] * 9).model_copy(update={"clips_compared": count}) for count in (8, 6)
    ]
    found = measure(sessions, batch=1)
    assert (found.clips_compared, found.percentiles_by_session) == (6, True)
    differing = {"clips_compared": 6, "differing_clips": ("a", "b", "c", "d")}
    bad = sessions[1].model_copy(update=differing)
    (reason,) = measure([sessions[0], bad], batch=1).invalid_reasons
    first, _, rest = reason.partition(" did not compute what the accuracy run computed, ")
    assert (first, rest) == ("session 2: the timed queries", "of 4 of 6 clips: a, b, c")
    (reason,) = measure([session_timing([10.0], is_output_same=False)], batch=1).invalid_reasons
    assert reason == "session 1: the timed queries did not compute what untimed ones compute"


def test_a_session_that_slows_down_is_counted_as_unsteady():
    timings = [session_timing([10.0] * 10 + [12.0] * 10), session_timing([10.0]), SessionTiming()]
    assert measure(timings, batch=1).unsteady_sessions == 1


def test_json_round_trip():
    sides = turns([9.0] * 4, [9.0] * 4, wall_ms=(9.0,) * 4, waiting_ms=(0.0,) * 4)
    timing = session_timing([10.0] * 70, [11.0] * 70, [20.0] * 70, sides, is_output_same=True)
    timing = timing.model_copy(update={"host_use": HostUse(usable=2, used=1.5, is_quiet=True)})
    assert SessionTiming.model_validate_json(timing.model_dump_json()) == timing
    measured = measure([timing, timing], batch=8)
    assert ThroughputMeasurement.model_validate_json(measured.model_dump_json()) == measured
    json.loads(measured.model_dump_json(), parse_constant=pytest.fail)


def test_a_session_from_before_processor_time_can_be_read():
    old = SessionTiming.model_validate_json('{"device_ms": [10.0], "pytorch_ms": [15.0]}')
    measured = measure([old, old], batch=1)
    assert (measured.invalid_reasons, measured.processor) == ((), None)
    assert measured.device.x_pytorch.per_session == (1.5, 1.5)
