import pytest
from scipy import stats

from harness.errors import RecordError
from harness.judge.limits import SoakLimits
from harness.judge.soak import judge_soak
from harness.measure.soak import soak_measurement
from harness.measure.soak_lines import SoakPlan, SoakSample, Stretch, soak_lines
from harness.spec import Status

PLAN = SoakPlan(seconds=1800.0, interval_s=10.0)


def stretches(minutes=30, speed=lambda minute: 100.0, **more):
    """A stretch a minute that does ``speed`` queries a second."""
    return [
        Stretch(
            start_s=60.0 * n,
            end_s=60.0 * (n + 1),
            queries=round(60.0 * speed(n)),
            busy_s=60.0,
            **more,
        )
        for n in range(minutes)
    ]


def samples(minutes=30, **by_minute):
    """A sample every ten seconds; values are numbers, or functions of the minute."""
    return [
        SoakSample(
            at_s=at,
            **{k: of(at / 60.0) if callable(of) else of for k, of in by_minute.items()},
        )
        for at in [10.0 * n for n in range(6 * minutes)]
    ]


def measured(*lines):
    return soak_measurement([PLAN, *lines], 1)


def judged(lines, **limits):
    return judge_soak(measured(*lines), SoakLimits(**limits, source="us") if limits else None)


def test_a_steady_device_keeps_its_speed():
    found = measured(*stretches())
    assert found.per_s == (100.0,) * 30
    assert (found.retention, found.window_s, found.busy_share) == (1.0, 600.0, 1.0)
    assert (found.trend.low, found.trend.high) == pytest.approx((0.0, 0.0))
    assert found.silence == ""
    verdict = judge_soak(found, SoakLimits(retention_min=0.95, source="us"))
    assert verdict.reason == "worked for 30.0 min: retention of speed is 1, must be >= 0.95"
    assert verdict.findings[0].note == "last 10 min over the first"


def test_a_device_that_slows_down_over_the_soak_is_found():
    slowing = stretches(speed=lambda minute: 100.0 - minute)
    found = measured(*slowing)
    # The mean of the minutes 20 to 29 over that of 0 to 9.
    assert found.retention == pytest.approx(75.5 / 95.5)
    assert found.trend.high == pytest.approx(-60.0 / 85.5 * 100.0)
    verdict = judged(slowing, retention_min=0.95)
    assert verdict.status is Status.FAIL
    assert "retention of speed is 0.790576, must be >= 0.95" in verdict.reason


def test_a_short_soak_compares_its_thirds_and_one_stretch_nothing():
    found = measured(*stretches(3, speed=lambda minute: 100.0 - 10.0 * minute))
    assert (found.window_s, found.retention) == (60.0, pytest.approx(0.8))
    assert found.trend is not None
    lone = measured(*stretches(1))
    assert (lone.retention, lone.trend) == (None, None)
    assert measured(*stretches(2)).trend is None


def test_the_trend_is_the_slope_of_a_line_with_its_interval():
    found = measured(*stretches(12, speed=lambda minute: 100.0 - minute + 5.0 * (minute % 3)))
    line = stats.linregress([(n + 0.5) / 60.0 for n in range(12)], found.per_s)
    half = stats.t.ppf(0.975, 10) * line.stderr
    percent = 100.0 / (sum(found.per_s) / 12)
    expected = percent * (line.slope - half), percent * (line.slope + half)
    assert (found.trend.low, found.trend.high) == pytest.approx(expected)


def test_a_stretch_counts_by_what_it_cost():
    # Half the processor time for the same queries: twice as fast, in retention and trend too.
    late = [one.model_copy(update={"processor_s": 30.0}) for one in stretches()[15:]]
    found = measured(*stretches(15, processor_s=60.0), *late)
    assert (found.retention, found.per_s[-1]) == (2.0, 200.0)
    assert found.trend.low > 0.0


def test_a_host_is_judged_by_its_processor_time():
    # Others took half of its processors: the wall clock tells of half the speed, its own time does not.
    found = measured(*stretches(processor_s=30.0))
    assert (found.definition, found.per_s[0]) == ("processor", 200.0)
    assert measured(*stretches()).definition == "device"


def test_memory_that_grows_is_found_in_the_host_and_in_the_device():
    growing = [*stretches(), *samples(host_mb=lambda m: 100.0 + m, memory_mb=lambda m: 9.0)]
    found = measured(*growing)
    assert found.host_growth_mb == pytest.approx(20.0, abs=0.2)
    assert found.device_growth_mb == 0.0
    verdict = judged(growing, host_growth_max_mb=10.0, device_growth_max_mb=10.0)
    assert (verdict.status, "growth of host memory is 19.9" in verdict.reason) == (
        Status.FAIL,
        True,
    )


def test_what_was_not_taken_is_absent_and_a_limit_on_it_is_not_met():
    found = measured(*stretches(), *samples(temperature_c=61.0))
    assert (found.power, found.device_growth_mb, found.frequency_mhz) == (None, None, None)
    assert found.unhealthy is None
    verdict = judged(stretches(), retention_min=0.9, energy_max_j=5.0)
    assert (verdict.status, verdict.findings[1].measured) == (Status.INVALID, None)
    assert "limits what was not taken: energy of a clip" in verdict.reason


def test_what_was_sampled_is_kept_from_first_to_last():
    hot = samples(temperature_c=lambda minute: 60.0 + abs(minute - 10.0), frequency_mhz=900.0)
    end = SoakSample(at_s=1800.0, temperature_c=41.0)
    found = measured(*stretches(), *hot, end, SoakSample(at_s=1800.1, temperature_c=99.0))
    heat = found.temperature_c
    assert (heat.first, heat.low, heat.last, heat.count) == (70.0, 41.0, 41.0, 181)
    assert heat.high == pytest.approx(80.0, abs=0.2)
    assert (found.frequency_mhz.low, found.frequency_mhz.count) == (900.0, 180)


def test_every_limit_is_held_against_what_was_measured():
    found = samples(temperature_c=61.0, host_mb=7.0, memory_mb=8.0, power_w=50.0)
    limits = {"retention_min": 0.9, "temperature_max_c": 70.0, "energy_max_j": 0.6}
    memory = {"host_growth_max_mb": 1.0, "device_growth_max_mb": 2.0}
    verdict = judged([*stretches(), *found], **limits, **memory)
    assert verdict.status is Status.PASS, verdict.reason
    assert [(one.name, one.measured, one.limit, one.unit) for one in verdict.findings] == [
        ("retention of speed", 1.0, 0.9, ""),
        ("highest temperature", 61.0, 70.0, "°C"),
        ("growth of host memory", 0.0, 1.0, "MB"),
        ("growth of device memory", 0.0, 2.0, "MB"),
        ("energy of a clip", pytest.approx(0.5), 0.6, "J"),
    ]


def test_a_counter_of_energy_may_stand_still_be_asked_each_second_and_be_missing():
    still = measured(*stretches(), *samples(energy_j=5.0)).power
    assert (still.mean_w, still.gaps, still.of) == (0.0, 0, "")
    fast = SoakPlan(seconds=10.0, interval_s=1.0)
    work = Stretch(start_s=0.0, end_s=10.0, queries=100, busy_s=10.0)
    seconds = [SoakSample(at_s=float(n), power_w=50.0) for n in range(10)]
    assert soak_measurement([fast, work, *seconds], 1).power.clip_j == pytest.approx(5.0)
    lost = samples(energy_j=lambda minute: None if minute == 10.0 else 60.0 * minute)
    assert measured(*stretches(), *lost).power.gaps == 2


def test_energy_comes_from_power_over_time():
    found = measured(*stretches(), *samples(power_w=50.0, power_of="card"))
    assert (found.power.mean_w, found.power.of, found.power.gaps) == (50.0, "card", 0)
    assert found.power.clip_j == pytest.approx(0.5)
    counted = measured(*stretches(), *samples(energy_j=lambda minute: 3000.0 * minute))
    assert counted.power.clip_j == pytest.approx(0.5)


def test_na_and_gaps_of_power_are_counted_and_tell_no_energy_where_they_are_most():
    some = samples(power_w=lambda minute: 50.0 if minute < 20.0 else None)
    found = measured(*stretches(), *some)
    assert (found.power.gaps, found.power.covered_s) == (60, 1190.0)
    assert found.power.clip_j == pytest.approx(0.5)
    few = samples(power_w=lambda minute: 50.0 if minute < 10.0 else None)
    assert measured(*stretches(), *few).power.clip_j is None
    # Without samples for a while, nobody knows; a counter that ran over tells nothing.
    sparse = [one for one in samples(power_w=50.0) if not 300.0 < one.at_s < 600.0]
    assert measured(*stretches(), *sparse).power.gaps == 1
    over = samples(energy_j=lambda minute: (3000.0 * minute) % 70_000.0)
    assert measured(*stretches(), *over).power.gaps == 1


def test_tools_that_stop_answering_leave_nothing_to_pass_on():
    silent = [one.model_copy(update={"missing": "npu-smi hangs"}) for one in samples()[60:]]
    verdict = judged([*stretches(), *samples()[:60], *silent], retention_min=0.9)
    assert verdict.status is Status.INVALID
    assert "did not answer 120 of 180 times: npu-smi hangs" in verdict.reason
    assert verdict.findings[0].measured == 1.0
    once = judged([*stretches(), *samples()[1:], silent[0]], retention_min=0.9)
    assert once.status is Status.PASS


def test_health_that_is_lost_fails_without_any_limit():
    ill = samples(health=lambda minute: "OK" if minute < 29.0 else "Alarm")
    verdict = judged([*stretches(), *ill])
    assert (verdict.status, verdict.findings[-1].note) == (
        Status.FAIL,
        "Alarm, Alarm, Alarm and 3 more",
    )
    once = samples(health=lambda minute: "Alarm" if minute == 3.0 else "OK")
    (finding,) = judged([*stretches(), *once]).findings
    assert (finding.name, finding.is_met) == ("samples not in good health", False)
    hot = [*stretches(), *samples(temperature_c=lambda minute: 60.0 + minute)]
    assert judged(hot, temperature_max_c=85.0).status is Status.FAIL


def test_without_limits_nothing_passes():
    for lines in (stretches(), [*stretches(), *samples(health="OK")]):
        verdict = judged(lines)
        assert verdict.status is Status.INCONCLUSIVE
        assert verdict.reason.startswith("measured, not judged: the contract has no soak")
    assert verdict.findings[0].is_met


def test_a_soak_that_was_stopped_is_no_pass_but_may_fail():
    verdict = judged(stretches(12), retention_min=0.9)
    assert (verdict.status, verdict.reason) == (
        Status.INCONCLUSIVE,
        "stopped after 12.0 of 30 min; what was measured is kept",
    )
    assert verdict.findings[0].is_met
    slowing = stretches(12, speed=lambda minute: 100.0 - 5.0 * minute)
    assert judged(slowing, retention_min=0.9).status is Status.FAIL
    assert not measured(*stretches(29)).is_stopped


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "the soak does not count: no stretch finished"),
        (
            stretches(1, problems=("used by another process",)),
            "stretch 1: used by another process",
        ),
        (
            [
                *stretches(),
                Stretch(start_s=1.8e3, end_s=1.9e3, queries=1, busy_s=1, is_output_same=False),
            ],
            "stretch 31 did not compute what the first one computed",
        ),
    ],
)
def test_a_soak_that_does_not_count_is_invalid(lines, said):
    verdict = judged(lines, retention_min=0.9)
    assert (verdict.status, verdict.reason.endswith(said)) == (Status.INVALID, True)


def test_a_soak_of_nothing_took_no_time():
    found = measured()
    assert (found.lasted_s, found.busy_share, found.per_s) == (0.0, 0.0, ())


def test_the_lines_are_read_as_they_were_written():
    lines = [PLAN, *stretches(2), *samples(1, power_w=3.0)]
    text = "\n".join(line.model_dump_json() for line in lines)
    assert soak_lines(text.encode()) == lines
    with pytest.raises(RecordError, match="the lines of a soak are damaged: "):
        soak_lines(text.encode()[:-1])
    with pytest.raises(RecordError, match="has no plan"):
        soak_measurement(lines[1:], 1)
