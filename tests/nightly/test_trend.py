from harness.nightly.series import Point, Series, SeriesKey
from harness.nightly.trend import trend_lines, trends_of_cells
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
    assert trend_lines(trend)[-2:] == [
        "  2026-10-13  -20.0 %  100.1 -> 80.08  (p < 0.001)",
        "    device.cann: 7.0 -> 8.0",
    ]


def test_what_did_not_change_is_said():
    (trend,) = trends_of_cells([series(nights(0.8), cann="7.0")], {CELL})
    assert trend.changes[0].text.endswith("(no recorded fact changed)")


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
