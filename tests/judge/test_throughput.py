import numpy as np
import pytest

from harness.judge.limits import (
    ThroughputReference,
)
from harness.judge.throughput import judge_throughput, speed_bounds
from harness.measure.host_turns import HostUse, Turns
from harness.measure.speed import series_of
from harness.measure.statistics import look_confidence
from harness.measure.throughput import SessionTiming, session_timing, throughput_measurement
from harness.spec import Status

SOURCE = "test"


def reference(golden=100.0, tolerance=0.05, **more):
    fields = {"golden": golden, "tolerance": tolerance, "unit": "clips/s", "definition": "device"}
    fields |= {"scope": "chip", "source": SOURCE}
    return ThroughputReference.model_validate(fields | more)


def speeds(*per_s, **more):
    timings = [session_timing([1000.0 / speed] * 20, **more) for speed in per_s]
    return throughput_measurement(timings, batch=1)


def test_fast_enough_passes():
    verdict = judge_throughput(speeds(99.0, 100.0, 101.0), reference())
    assert verdict.status is Status.PASS
    assert verdict.reason.startswith("device speed is 100 clips/s, must be >= 95 (between 95.37 ")
    assert "and 104.6 at 99.2 %, 3 session(s))" in verdict.reason


def test_five_percent_slower_than_allowed_fails():
    verdict = judge_throughput(speeds(90.0, 90.2, 90.4), reference())
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("too slow: device speed")
    assert [one.is_met for one in verdict.findings] == [False, True]


def test_bounds_that_straddle_the_floor_decide_nothing():
    verdict = judge_throughput(speeds(92.0, 96.0, 100.0), reference())
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.reason.startswith("96 clips/s, between ")
    assert verdict.reason.endswith("add sessions with --sessions or --budget-minutes")
    floor, plausible = verdict.findings
    assert (floor.is_met, plausible.is_met, plausible.name) == (None, True, "mean speed")
    assert floor.bounds.low < 95.0 < floor.bounds.high
    # As many sessions as must be, and no more, are not too few.
    assert judge_throughput(speeds(92.0, 100.0), reference()).reason.startswith(
        "96 clips/s, between"
    )


def test_each_look_after_the_first_takes_wider_bounds():
    for terms in (reference(), reference(**HOST)):
        sure = [
            speed_bounds(series_of([100.0, 101.0, 99.0, 100.0][:count]), terms, 2).confidence
            for count in (2, 3, 4)
        ]
        assert sure == [look_confidence(look) for look in (1, 2, 3)]


def test_one_session_is_a_look_where_it_has_bounds():
    for terms, looks in ((reference(), (1, 2)), (reference(**HOST), (2, 3))):
        sure = [
            speed_bounds(series_of([100.0, 101.0, 99.0][:count]), terms, 1).confidence
            for count in (2, 3)
        ]
        assert sure == [look_confidence(look) for look in looks]


def test_a_speed_at_the_floor_is_met():
    measured = throughput_measurement([session_timing([10.0] * 20)] * 3, batch=1)
    assert judge_throughput(measured, reference(tolerance=0.0)).status is Status.PASS


@pytest.mark.parametrize("speed", [200.0, 50.0])
def test_one_session_decides_only_where_the_tier_says_so(speed):
    verdict = judge_throughput(speeds(speed), reference())
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.reason.startswith("1 of 2 sessions timed")
    status = Status.PASS if speed > 95.0 else Status.FAIL
    assert judge_throughput(speeds(speed), reference(), sessions_min=1).status is status


def test_fewer_sessions_than_required_decide_nothing():
    verdict = judge_throughput(speeds(100.0, 100.0), reference(), sessions_min=3)
    assert verdict.status is Status.INCONCLUSIVE


@pytest.mark.parametrize("factor", [3.0, 100.0])
def test_implausibly_fast_is_red(factor):
    verdict = judge_throughput(speeds(100.0 * factor, 100.0 * factor), reference())
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("implausibly fast: mean speed is ")
    assert verdict.reason.endswith("must be < 300; check what was computed")
    assert [one.is_met for one in verdict.findings] == [True, False]
    assert verdict.findings[1].note == "faster is cached or no work"


def test_implausibly_fast_is_red_with_one_session_too():
    assert judge_throughput(speeds(1e4), reference()).status is Status.FAIL


@pytest.mark.parametrize(
    "measured",
    [
        throughput_measurement([], 1),
        throughput_measurement([SessionTiming()], 1),
        throughput_measurement([session_timing([0.0] * 20)] * 3, 1),
        throughput_measurement([session_timing([-1.0] * 20)] * 3, 1),
        throughput_measurement([session_timing([float("nan")] * 20)] * 3, 1),
        throughput_measurement([session_timing([10.0, float("inf")])] * 3, 1),
        throughput_measurement([session_timing([10.0] * 9, is_output_same=False)] * 3, 1),
    ],
    ids=["no session", "empty", "zero", "negative", "NaN", "Inf", "other outputs"],
)
def test_timings_that_do_not_count_are_invalid(measured):
    verdict = judge_throughput(measured, reference(), sessions_min=1)
    assert verdict.status is Status.INVALID
    assert verdict.reason.startswith("the timing does not count")


def test_a_definition_that_was_not_timed_is_invalid():
    verdict = judge_throughput(speeds(100.0, 100.0), reference(definition="e2e"))
    assert verdict.status is Status.INVALID
    assert verdict.reason.startswith("e2e was not timed")


HOST = {
    "golden": 2.0,
    "tolerance": 0.07,
    "unit": "x unoptimised",
    "definition": "processor",
    "scope": "host",
    "against": "unoptimised",
    "spread": 0.02,
    "speedup_min": 1.2,
}
QUIET = HostUse(usable=2, used=1.9, is_quiet=True)


def host(*ratios, use=QUIET, waiting_ms=0.01, wall_ms=10.0, queued_ms=()):
    """Return sessions of a host whose queries take 10 ms on one thread."""
    timings = []
    for ratio in ratios:
        turns = Turns(
            processor_ms=(10.0,) * 4,
            unoptimised_processor_ms=(10.0 * ratio,) * 4,
            wall_ms=(10.0 + (waiting_ms or 0.0),) * 4,
            waiting_ms=() if waiting_ms is None else (waiting_ms,) * 4,
            queued_ms=queued_ms,
        )
        timing = session_timing([5.0], [0.5 * wall_ms], turns=turns)
        timings.append(timing.model_copy(update={"host_use": use}))
    return throughput_measurement(timings, batch=1)


def judged_host(*ratios, sessions_min=2, **more):
    return judge_throughput(host(*ratios, **more), reference(**HOST), sessions_min)


def test_a_crowded_host_is_not_called_slow_and_may_still_pass():
    slow, crowded = (1.7, 1.72), {"queued_ms": (7.5,) * 4}
    verdict = judged_host(*slow, **crowded)
    assert verdict.status is Status.INCONCLUSIVE
    assert "too crowded" in verdict.reason
    assert verdict.findings[0].is_met is None
    assert judged_host(*slow, queued_ms=(6.5,) * 4).status is Status.FAIL
    assert judged_host(1.98, 2.02, **crowded).status is Status.PASS


def test_a_host_is_judged_by_processor_time_beside_the_unoptimised_graph():
    verdict = judged_host(1.98, 2.02)
    assert verdict.status is Status.PASS
    assert verdict.reason.startswith(
        "processor speed is 2 x unoptimised, must be >= 1.86 (between 1.9"
    )
    names = [finding.name for finding in verdict.findings]
    assert names[2:] == ["waiting in a query", "processors at work", "speed with every thread"]


def test_fifteen_percent_more_work_is_red_in_two_sessions():
    verdict = judged_host(1.98 / 1.15, 2.02 / 1.15)
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("too slow: processor speed is 1.73913 x unoptimised")


def test_one_session_decides_where_the_spread_is_known():
    assert judged_host(2.0, sessions_min=1).status is Status.PASS
    assert judged_host(1.7, sessions_min=1).status is Status.FAIL
    assert judged_host(1.88, sessions_min=1).status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"waiting_ms": 50.0}, "waiting in a query is 50 ms, must be <= 1.02"),
        ({"use": HostUse(usable=2, used=1.0)}, "processors at work is 1 of 2, must be >= 1.1"),
        ({"use": HostUse(usable=16, used=2.0)}, "processors at work is 2 of 16, must be >= 2.5"),
        ({"wall_ms": 20.0}, "speed with every thread is 1.001 x one thread, must be >= 1.2"),
    ],
)
def test_what_processor_time_does_not_show_is_red_by_its_own_finding(more, reason):
    verdict = judged_host(2.0, 2.0, **more)
    assert verdict.status is Status.FAIL
    assert verdict.reason == reason
    assert [one.is_met for one in verdict.findings].count(False) == 1


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ({"waiting_ms": None}, "waiting was not looked at, as the kernel does not tell"),
        (
            {"use": HostUse(usable=1, used=1.0, is_quiet=True)},
            "threads were not looked at, as there is one processor",
        ),
        (
            {"use": HostUse(usable=2, used=1.9, is_quiet=False), "wall_ms": 20.0},
            "wall time was not judged, as the host was not quiet",
        ),
        (
            {"use": HostUse(usable=2, used=None, is_quiet=True)},
            "session(s), threads were not looked at, as the loop was too short)",
        ),
        ({"use": None}, "waiting and threads were not looked at"),
    ],
)
def test_what_was_not_looked_at_is_said(more, note):
    verdict = judged_host(2.0, 2.0, **more)
    assert verdict.status is Status.PASS
    assert note in verdict.reason


def test_waiting_that_the_hypervisor_explains_is_no_fault():
    taken = QUIET.model_copy(update={"taken_share": 0.2})
    assert judged_host(2.0, 2.0, waiting_ms=4.0).status is Status.FAIL
    assert judged_host(2.0, 2.0, waiting_ms=4.0, use=taken).status is Status.PASS
    assert judged_host(2.0, 2.0, waiting_ms=50.0, use=taken).status is Status.FAIL


def test_what_one_session_finds_has_to_be_confirmed_by_another():
    verdict = judged_host(2.0, waiting_ms=50.0, sessions_min=1)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.reason == (
        "waiting in a query is 50 ms, must be <= 1.02; another session has to confirm it"
    )
    assert judged_host(2.0, 2.0, waiting_ms=50.0, sessions_min=1).status is Status.FAIL


def test_wall_time_without_a_limit_is_not_judged_and_says_so():
    verdict = judge_throughput(host(2.0, 2.0), reference(**{**HOST, "speedup_min": None}), 2)
    assert verdict.status is Status.PASS
    assert "wall time was not judged, as the contract has no speedup_min" in verdict.reason


def test_a_measurement_from_before_processor_time_is_invalid():
    old = SessionTiming(device_ms=(10.0,) * 4, device_io_ms=(10.0,) * 4, pytorch_ms=(20.0,) * 4)
    verdict = judge_throughput(throughput_measurement([old] * 3, 1), reference(**HOST))
    assert verdict.status is Status.INVALID
    assert verdict.reason == (
        "processor was not timed beside the unoptimised graph, which the floor is about; time it "
        "again with this suite"
    )


@pytest.mark.parametrize(
    "older", [{"definition": "device_io"}, {"against": "pytorch", "unit": "x PyTorch"}]
)
def test_an_older_contract_is_invalid_with_what_to_do(older):
    verdict = judge_throughput(host(2.0, 2.0), reference(**{**HOST, **older}))
    assert verdict.status is Status.INVALID
    assert "set definition = 'processor' and against = 'unoptimised'" in verdict.reason


def test_a_record_beside_pytorch_is_still_judged_by_its_own_contract():
    turns = Turns(processor_ms=(10.0,) * 4, pytorch_processor_ms=(20.0,) * 4)
    timing = session_timing([10.0], [10.0], turns=turns)
    beside = reference(**{**HOST, "against": "pytorch", "unit": "x PyTorch"})
    verdict = judge_throughput(throughput_measurement([timing] * 3, 1), beside)
    assert verdict.status is Status.PASS
    assert verdict.reason.startswith("processor speed is 2 x PyTorch")


@pytest.mark.parametrize("more", [{"against": "absolute", "unit": "clips/s"}, {"scope": "chip"}])
def test_processor_time_is_beside_the_unoptimised_graph(more):
    with pytest.raises(ValueError, match="a host is judged by its processor time beside that of"):
        reference(**{**HOST, **more})


OF_ANOTHER = {**HOST, "processor": "the golden's", "tolerance_elsewhere": 0.5}


@pytest.mark.parametrize(
    ("processor", "status"),
    [("the golden's", Status.FAIL), (None, Status.FAIL), ("this one", Status.PASS)],
)
def test_a_golden_of_another_processor_holds_with_the_tolerance_for_that(processor, status):
    use = QUIET.model_copy(update={"processor": processor})
    verdict = judge_throughput(host(1.4, 1.4, use=use), reference(**OF_ANOTHER), 2)
    assert verdict.status is status
    is_said = "taken on another processor, the golden's, so a tolerance of 0.5" in verdict.reason
    assert is_said == (status is Status.PASS)


@pytest.mark.parametrize(("ratio", "status"), [(1.4, Status.PASS), (1.1, Status.FAIL)])
def test_a_golden_of_this_processor_holds_on_it(ratio, status):
    use = QUIET.model_copy(update={"processor": "this one"})
    here = {"golden": 1.4, "spread": 0.01, "source": "here"}
    row = {**OF_ANOTHER, "speedup_min": 99.0}
    both = reference(**row, golden_on={"this one": here})
    verdict = judge_throughput(host(ratio, ratio, use=use), both, 2)
    assert verdict.status is status
    assert "another processor" not in verdict.reason
    assert verdict.findings[0].limit == pytest.approx(1.4 * (1.0 - both.tolerance))
    assert "the contract has no speedup_min" in verdict.findings[0].note
    assert both.on_processor("this one").spread == 0.01
    assert hash(both) == hash(reference(**row, golden_on={"this one": here}))


def test_a_processor_needs_a_tolerance_for_others():
    with pytest.raises(ValueError, match="processor and tolerance_elsewhere go together"):
        reference(**HOST, processor="the golden's")


@pytest.mark.parametrize("row", [HOST, OF_ANOTHER])
def test_goldens_of_other_processors_are_beside_one_that_is_named(row):
    with pytest.raises(ValueError, match="golden_on needs processor, the one that golden is of"):
        reference(**row, golden_on={"the golden's": {"golden": 1.4, "source": "here"}})


def test_values_for_other_sessions_are_invalid():
    measured = speeds(100.0, 100.0).model_copy(update={"session_count": 3})
    assert judge_throughput(measured, reference()).status is Status.INVALID


def simulated(mean, spread, sessions, runs):
    """Judge simulated runs of normal session speeds against a floor of 95."""
    for run in np.random.default_rng(9).normal(mean, spread, size=(runs, sessions)):
        yield judge_throughput(speeds(*run.tolist()), reference()).status


def test_the_same_machine_stays_green():
    statuses = list(simulated(100.0, 1.0, 5, 200))
    assert statuses.count(Status.PASS) / 200 > 0.97
    assert Status.FAIL not in statuses


def test_a_speed_just_under_the_floor_is_let_through_in_5_percent_of_runs():
    statuses = list(simulated(95.0, 2.0, 5, 500))
    assert statuses.count(Status.PASS) / 500 < 0.08
    assert statuses.count(Status.FAIL) / 500 < 0.08


@pytest.mark.parametrize(("sessions_min", "sessions_max"), [(2, 6), (5, 9)])
def test_adding_independent_sessions_until_they_decide_errs_in_at_most_5_percent_of_runs(
    sessions_min, sessions_max
):
    """The speed is just the floor, which a pass and a fail are equally wrong about."""
    ends = {Status.PASS: 0, Status.FAIL: 0, Status.INCONCLUSIVE: 0}
    draws = np.random.default_rng(31).normal(95.0, 2.0, size=(160, sessions_max))
    for run in draws:
        for count in range(sessions_min, sessions_max + 1):
            status = judge_throughput(
                speeds(*run[:count].tolist()), reference(), sessions_min
            ).status
            if status is not Status.INCONCLUSIVE:
                break
        ends[status] += 1
    assert ends[Status.PASS] <= 0.05 * len(draws)
    assert ends[Status.FAIL] <= 0.05 * len(draws)


def test_a_true_slowdown_is_found():
    statuses = list(simulated(90.0, 1.0, 5, 200))
    assert statuses.count(Status.FAIL) / 200 > 0.97


CARD = {"scope": "card", "chips": 4}


@pytest.mark.parametrize(
    ("speed", "status"),
    [
        (100.0, Status.PASS),
        (30.0, Status.INCONCLUSIVE),
        (24.0, Status.INCONCLUSIVE),
        (20.0, Status.FAIL),
    ],
)
def test_one_chip_against_a_golden_that_may_be_of_four(speed, status):
    verdict = judge_throughput(speeds(speed, speed * 1.001, speed * 0.999), reference(**CARD))
    assert verdict.status is status


def test_a_share_of_a_card_is_told_with_what_to_do():
    verdict = judge_throughput(speeds(30.0, 30.1, 29.9), reference(**CARD))
    assert "may be of a card with 4 chips" in verdict.reason
    assert verdict.reason.endswith("put a golden of one chip into the contract")


def test_only_a_card_has_several_chips():
    with pytest.raises(ValueError, match="chips = 4 needs scope = 'card'"):
        reference(chips=4)
