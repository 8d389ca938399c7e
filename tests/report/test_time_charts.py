import re

from harness.judge.limits import StartupLimits
from harness.judge.startup import judge_startup
from harness.language import speaking
from harness.measure.soak import soak_measurement
from harness.measure.soak_lines import SoakPlan, SoakSample, Stretch
from harness.measure.startup import StartTiming, startup_measurement
from harness.report.soak_figures import soak_figures
from harness.report.time_charts import soak_chart, soak_header, soak_rows, start_chart, start_rows

LINES = [
    SoakPlan(seconds=240.0, interval_s=10.0),
    *(Stretch(start_s=60.0 * n, end_s=60.0 * n + 60, queries=600 - n, busy_s=60) for n in range(4)),
    *(
        # In the second minute npu-smi does not answer.
        SoakSample(at_s=10.0 * n, missing="it hangs")
        if 6 <= n < 8
        else SoakSample(at_s=10.0 * n, temperature_c=50.0 + n, health="OK")
        for n in range(24)
    ),
]


def test_a_soak_is_a_panel_for_each_thing_that_was_told_with_gaps():
    measured = soak_measurement(LINES, 1)
    chart = str(soak_chart(measured, LINES))
    assert re.search(
        r'aria-label="By minute: clips/s, Temperature, °C. 10 at first, 9.95 at last', chart
    )
    # The speed in one piece, the temperature in two.
    assert chart.count("<path") == 3
    assert "Power, W" not in chart
    rows = soak_rows(measured, LINES)
    assert [len(row) for row in [soak_header(measured), *rows]] == [7] * 5
    # Samples at 0 to 60 s, of which the last is missing; then 120 to 180 s.
    assert (rows[0][:3], rows[2][2]) == (["1.0", "10", "52.5"], "65")
    assert {row[3] for row in rows} == {"–"}


def test_the_figures_of_a_soak_leave_out_what_was_not_taken():
    figures = soak_figures(soak_measurement(LINES, 1))
    assert figures["Temperature"] == "50 to 73 °C, 50 at first, 73 at last"
    assert figures["Samples"] == "24, of which 2 were not answered: it hangs"
    assert figures["Health"] == "OK"
    assert not {"Power", "Energy of a clip", "Growth of device memory"} & figures.keys()
    with speaking("zh"):
        assert "速度保持率" in soak_figures(soak_measurement(LINES, 1))


def test_a_soak_without_a_whole_stretch_has_no_chart():
    assert not soak_chart(soak_measurement(LINES[:1], 1), LINES[:1])


def test_starts_are_dots_with_their_limits():
    starts = [
        StartTiming(cache=cache, load_ms=load_ms, first_ms=20.0)
        for cache, load_ms in (("cold", 90.0), ("warm", 40.0), ("cold", 94.0), ("warm", 41.0))
    ]
    measured = startup_measurement(starts, 1)
    limits = StartupLimits(warm_load_max_ms=100.0, source="us")
    chart = str(start_chart(measured, judge_startup(measured, limits).findings))
    assert (chart.count("<circle"), chart.count('class="limit"')) == (8, 1)
    assert "cold load time: 92 ms; cold first inference: 20 ms; warm load time: 40.5 ms" in chart
    assert start_rows(measured)[0] == ["cold load time", "92", "90", "94"]
    assert not start_chart(startup_measurement([], 1), ())
