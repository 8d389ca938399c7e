import math
from unittest import mock

import pytest

from harness.nightly.change_points import ChangePoint
from harness.nightly.comparison import _errors
from harness.nightly.series import Point, Series, SeriesKey
from harness.nightly.trend import BARS, MARK, _draw_one, trend_lines, trends_of_cells
from harness.spec import Status

CELL = "nonlocal_r50-cpu-bs1"


def series(values, metric="device.per_s", check="throughput", last="last", cann="8.0"):
    key = SeriesKey("nonlocal_r50", "cpu", 1, check, metric, "epyc-2cpu")
    names = [f"night-{n:02}" for n in range(len(values) - 1)] + [last]
    points = tuple(
        Point(
            name, f"2026-10-{n + 1:02}T02:00:00+00:00", value, Status.PASS, {"device.cann": cann_n}
        )
        for n, (name, value) in enumerate(zip(names, values, strict=True))
        for cann_n in ["7.0" if n < 12 else cann]
    )
    return Series(key, points)


def nights(change=1.0):
    return [100.0 + (n % 3) * 0.1 for n in range(12)] + [
        change * (100.0 + (n % 3) * 0.1) for n in range(12)
    ]


def test_a_change_of_level_is_told_with_what_changed_that_night():
    (trend,) = trends_of_cells([series(nights(0.8))], {CELL})
    assert (trend.unit, trend.starts, len(trend.series.values)) == ("clips/s", [12], 24)
    (change,) = trend.changes
    assert change.text == "2026-10-13: 100.1 to 80.08 (device.cann: 7.0 -> 8.0)"
    bars = trend_lines(trend)[1].strip()
    assert bars == 12 * BARS[-1] + MARK + 12 * BARS[0]
    assert trend_lines(trend)[-2:] == [
        "  2026-10-13  -20.0 %  100.1 -> 80.08  (p < 0.001)",
        "    device.cann: 7.0 -> 8.0",
    ]


@pytest.mark.parametrize(
    ("factor", "said", "colour"),
    [
        (0.8, "-20.0 % (worse)", "#b03030"),
        (1.25, "+25.0 % (better)", "#2f7d32"),
    ],
)
def test_a_panel_shows_nights_levels_and_what_changed(factor, said, colour):
    (trend,) = trends_of_cells([series(nights(factor))], {CELL})
    panel = mock.MagicMock()
    _draw_one(panel, trend)
    days = [f"{moment:%m-%d}" for moment in panel.plot.call_args.args[0]]
    assert (days[0], days[-1], panel.plot.call_args.args[1]) == (
        "10-01",
        "10-24",
        trend.series.values,
    )
    first, second = (call.args for call in panel.hlines.call_args_list)
    assert [round(args[0], 1) for args in (first, second)] == [100.1, round(100.1 * factor, 1)]
    ends = [f"{moment:%m-%d}" for args in (first, second) for moment in args[1:]]
    assert ends == ["10-01", "10-12", "10-13", "10-24"]
    (mark,), (note,) = panel.axvline.call_args_list, panel.annotate.call_args_list
    assert (f"{mark.args[0]:%m-%d}", mark.kwargs["color"]) == ("10-13", colour)
    assert (note.args[0], note.kwargs["color"]) == (said, colour)
    assert note.args[1] == (mark.args[0], 1.0)
    assert panel.set_title.call_args.args == (trend.series.key.id,)


def test_what_did_not_change_is_said():
    (trend,) = trends_of_cells([series(nights(0.8), cann="7.0")], {CELL})
    assert trend.changes[0].text.endswith("(no recorded fact changed)")
    # What changed a night before the level did not change it.
    values = nights(0.8)
    (trend,) = trends_of_cells([series([*values[:1], *values[:12], *values[13:]])], {CELL})
    assert (trend.starts, trend.changes[0].facts) == ([13], ())


def test_a_change_is_measured_in_standard_errors_of_the_noise():
    point = ChangePoint(index=14, before=100.0, after=80.0, p_value=0.0)
    # Ten nights before and twenty after: log(100 / 80) / (0.05 * sqrt(1/10 + 1/20)).
    assert _errors(point, 4, 34, 0.05) == pytest.approx(11.523, abs=1e-3)
    assert _errors(point, 4, 34, 0.0) == math.inf


def test_a_steady_series_has_no_change():
    (trend,) = trends_of_cells([series(nights())], {CELL})
    assert trend.changes == ()


def test_only_the_cells_of_the_release_and_each_series_once():
    ratio = series(nights(), metric="device.x_pytorch", last="other")
    accuracy = series([0.7] * 3, metric="top1.kinetics400-19796", check="accuracy")
    found = trends_of_cells([ratio, accuracy], {CELL})
    assert {(trend.unit, len(trend.series.values)) for trend in found} == {
        ("x PyTorch", 24),
        ("", 3),
    }
    assert trends_of_cells([ratio], {"another"}) == ()
