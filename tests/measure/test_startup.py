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
    assert (found.host_peak_mb, found.session_count) == (140.0, 5)


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


def test_starts_within_every_limit_pass():
    verdict = judged(measured(*PAIRS), warm_load_max_ms=80.0, host_peak_max_mb=100.0)
    assert verdict.status is Status.PASS, verdict.reason
    assert [one.name for one in verdict.findings] == ["warm load time", "peak host memory"]


def test_a_start_that_loads_slowly_and_one_that_takes_memory_fail():
    slow = [start("cold", 900.0), start("warm", 400.0), start("cold", 901.0), start("warm", 401.0)]
    verdict = judged(measured(*slow), warm_load_max_ms=80.0)
    assert (verdict.status, "warm load time is 400.5 ms" in verdict.reason) == (Status.FAIL, True)
    verdict = judged(measured(*PAIRS, start("cold", host_peak_mb=150.0)), host_peak_max_mb=149.0)
    assert (verdict.status, "peak host memory is 150 MB" in verdict.reason) == (Status.FAIL, True)


def test_a_limit_between_the_bounds_decides_nothing_and_one_start_is_too_few():
    spread = measured(start("warm", 40.0), start("warm", 90.0))
    assert judged(spread, warm_load_max_ms=80.0).status is Status.INCONCLUSIVE
    one = measured(start("warm"))
    assert judged(one, warm_load_max_ms=80.0).status is Status.INCONCLUSIVE
    assert judged(one, sessions_min=1, warm_load_max_ms=80.0).status is Status.PASS


def test_without_limits_nothing_passes_and_a_problem_makes_it_invalid():
    unlimited = judge_startup(measured(*PAIRS), None)
    assert (unlimited.status, unlimited.findings) == (Status.INCONCLUSIVE, ())
    hot = measured(start("warm", problems=("the chip is used by another process",)))
    verdict = judged(hot, warm_load_max_ms=80.0)
    assert (verdict.status, "start 1: the chip" in verdict.reason) == (Status.INVALID, True)
    assert judged(measured(), warm_load_max_ms=80.0).status is Status.INVALID
