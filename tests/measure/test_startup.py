import pytest

from harness.judge.limits import StartupLimits
from harness.judge.startup import judge_startup
from harness.measure.startup import StartTiming, startup_measurement
from harness.spec import Status


def start(cache, load_ms=50.0, **more):
    facts = {"first_ms": 20.0, "host_peak_mb": 100.0, **more}
    return StartTiming(cache=cache, load_ms=load_ms, **facts)


def measured(*starts):
    return startup_measurement(starts, 1)


def judged(measurement, sessions_min=2, **limits):
    return judge_startup(measurement, StartupLimits(source="us", **limits), sessions_min)


PAIRS = [start("cold", 90.0), start("warm"), start("cold", 91.0), start("warm", 51.0)]


def test_cold_and_warm_starts_are_kept_apart_and_the_largest_peak_counts():
    found = measured(*PAIRS, start("warm", host_peak_mb=140.0))
    assert found.cold_load_ms.per_session == (90.0, 91.0)
    assert found.warm_load_ms.per_session == (50.0, 51.0, 50.0)
    assert found.cold_first_ms.per_session == (20.0, 20.0)
    assert (found.host_peak_mb, found.session_count) == (140.0, 5)
    watched = measured(start("cold", device_peak_mb=3.0), start("warm", device_peak_mb=2.0))
    assert watched.device_peak_mb == 3.0


def test_what_no_start_took_or_one_did_not_is_absent_never_0():
    found = measured(*PAIRS)
    assert found.device_peak_mb is None
    some = measured(start("warm", device_peak_mb=3.0), start("warm", load_ms=None))
    assert (some.device_peak_mb, some.warm_load_ms, some.cold_load_ms) == (None, None, None)
    assert some.warm_first_ms.mean == 20.0


def test_a_start_that_could_not_be_cooled_is_neither_cold_nor_warm():
    found = measured(*PAIRS, start(None, 10.0))
    assert (len(found.cold_load_ms.per_session), found.uncooled) == (2, 1)
    lone = judged(measured(start(None), start("warm"), start("warm")), cold_load_max_ms=99.0)
    assert lone.status is Status.INVALID
    assert "limits what was not taken: cold load time" in lone.reason
    assert [(one.measured, one.unit) for one in lone.findings] == [(None, "ms")]


def test_starts_within_every_limit_pass():
    verdict = judged(measured(*PAIRS), warm_load_max_ms=80.0, host_peak_max_mb=100.0)
    assert verdict.status is Status.PASS, verdict.reason
    assert verdict.reason.startswith("4 starts: warm load time is 50.5 ms")
    assert [one.name for one in verdict.findings] == ["warm load time", "peak host memory"]


def test_a_start_that_loads_slowly_and_one_that_takes_memory_fail():
    slow = [start("cold", 900.0), start("warm", 400.0), start("cold", 901.0), start("warm", 401.0)]
    verdict = judged(measured(*slow), warm_load_max_ms=80.0)
    assert (verdict.status, "warm load time is 400.5 ms" in verdict.reason) == (Status.FAIL, True)
    assert [one.is_met for one in verdict.findings] == [False]
    verdict = judged(measured(*PAIRS, start("cold", host_peak_mb=150.0)), host_peak_max_mb=149.0)
    assert (verdict.status, "peak host memory is 150 MB" in verdict.reason) == (Status.FAIL, True)


def test_a_limit_between_the_bounds_decides_nothing_and_one_start_is_too_few():
    spread = measured(start("warm", 40.0), start("warm", 90.0))
    assert judged(spread, warm_load_max_ms=80.0).status is Status.INCONCLUSIVE
    one = judged(measured(start("warm")), sessions_min=1, warm_load_max_ms=80.0)
    assert one.status is Status.INCONCLUSIVE
    assert one.reason.endswith("warm load time is 50 ms, must be <= 80 (1 start of 2)")


@pytest.mark.parametrize(
    ("loads", "sessions_min", "limit", "words", "status"),
    [
        # The bounds of two starts are 10.47 times half their distance from the mean (t of 96.96 %).
        ((40.0, 42.0), 1, 51.5, "between 30.56 and 51.44 at 97 %, 2 starts", Status.PASS),
        ((40.0, 42.0), 2, 51.4, "between 30.56 and 51.44 at 97 %, 2 starts", None),
        ((40.0, 42.0), 2, 30.6, "between 30.56 and 51.44 at 97 %, 2 starts", None),
        ((40.0, 42.0), 2, 30.5, "between 30.56 and 51.44 at 97 %, 2 starts", Status.FAIL),
        # Equal starts: a time that is just the limit is within it.
        ((40.0, 40.0), 2, 40.0, "between 40 and 40 at 97 %, 2 starts", Status.PASS),
        ((40.0, 40.0), 3, 80.0, "between 40 and 40 at 97 %, 2 starts", None),
        # The second look is held to 99.24 %.
        ((40.0, 40.0, 40.0), 2, 80.0, "between 40 and 40 at 99.2 %, 3 starts", Status.PASS),
        ((40.0, 40.0, 40.0), 3, 80.0, "between 40 and 40 at 97 %, 3 starts", Status.PASS),
    ],
)
def test_the_bounds_decide_and_each_further_look_is_surer(
    loads, sessions_min, limit, words, status
):
    found = measured(*(start("warm", load_ms) for load_ms in loads))
    verdict = judged(found, sessions_min=sessions_min, warm_load_max_ms=limit)
    (finding,) = verdict.findings
    assert (finding.note, finding.unit, finding.limit) == (words, "ms", limit)
    assert f"between {finding.bounds.low:.4g} and {finding.bounds.high:.4g} at" in words
    assert verdict.status is (status or Status.INCONCLUSIVE)
    assert finding.is_met is {Status.PASS: True, Status.FAIL: False}.get(status)


def test_without_limits_nothing_passes_and_a_problem_makes_it_invalid():
    unlimited = judge_startup(measured(*PAIRS), None)
    assert (unlimited.status, unlimited.findings) == (Status.INCONCLUSIVE, ())
    assert "the contract has no startup limits" in unlimited.reason
    hot = measured(start("warm", problems=("the chip is used by another process",)))
    verdict = judged(hot, warm_load_max_ms=80.0)
    assert (verdict.status, "start 1: the chip" in verdict.reason) == (Status.INVALID, True)
    nothing = judged(measured(), warm_load_max_ms=80.0)
    assert (nothing.status, "nothing was started" in nothing.reason) == (Status.INVALID, True)
