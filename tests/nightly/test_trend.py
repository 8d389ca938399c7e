import math
from unittest import mock

import pytest

from harness.errors import InputError
from harness.nightly.change_points import ChangePoint
from harness.nightly.comparison import _errors
from harness.nightly.series import Point, Series, SeriesKey
from harness.nightly.trend import BARS, MARK, _draw_one, draw, trend_lines, trends_of_cells
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
    title, bars, summary = trend_lines(trend)[:3]
    assert (title, bars.strip()) == (trend.series.key.id, 12 * BARS[-1] + MARK + 12 * BARS[0])
    assert summary == "  24 nights, 80 to 100.2, last 80.16 on 2026-10-24"
    assert trend_lines(trend)[-2:] == [
        "  2026-10-13  -20.0 %  100.1 -> 80.08  (p < 0.001)",
        "    device.cann: 7.0 -> 8.0",
    ]


def test_bars_show_the_last_nights_from_the_lowest_to_the_highest():
    (trend,) = trends_of_cells([series([9.0, *range(8), 0.0, 7.0, 3.5])], {CELL})
    found = trend_lines(trend, nights=11)
    assert found[1:] == [
        f"  {BARS}{BARS[0]}{BARS[-1]}{BARS[4]}",
        "  12 nights, 0 to 7, last 3.5 on 2026-10-12",
    ]
    assert trend_lines(trend)[2].startswith("  12 nights, 0 to 9, ")
    (flat,) = trends_of_cells([series([2.0] * 3)], {CELL})
    assert trend_lines(flat)[1] == f"  {BARS[4] * 3}"


def test_a_picture_is_the_same_each_time_and_as_high_as_its_trends(tmp_path):
    trends = trends_of_cells([series(nights()), series([0.7] * 3, check="accuracy")], {CELL})
    sizes = []
    for count, name in ((1, "one.png"), (2, "two.png"), (2, "a.svg"), (2, "b.svg")):
        draw(trends[:count], tmp_path / name)
    for name in ("one.png", "two.png"):
        content = (tmp_path / name).read_bytes()
        sizes.append((int.from_bytes(content[16:20]), int.from_bytes(content[20:24])))
    assert sizes == [(990, 253), (990, 462)]
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(InputError, match=r"^no series to draw; .* lists them$"):
        draw((), tmp_path / "none.svg")
    with pytest.raises(InputError, match=r"ends in \.svg, \.png, \.pdf$"):
        draw(trends, tmp_path / "a.bmp")


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
    # Nor does what changed a night after.
    (trend,) = trends_of_cells([series([*values[:11], *values[12:], values[-1]])], {CELL})
    assert (trend.starts, trend.changes[0].facts) == ([11], ())


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
