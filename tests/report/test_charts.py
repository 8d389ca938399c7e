import itertools
import xml.etree.ElementTree as ET

import pytest

from harness.measure.parity import EdgeParity
from harness.measure.statistics import Interval
from harness.measure.throughput import session_timing
from harness.report.charts import (
    chain_chart,
    latency_chart,
    margin_chart,
    sessions_chart,
    speed_chart,
    trend_chart,
)
from harness.report.svg import nice_ticks, scale, tag
from harness.report.table_values import SpeedFigure
from harness.report.values import MarginLine


def margin(measured, limit, comparison=">=", interval=None):
    return MarginLine(
        name="top-1",
        measured=measured,
        limit=limit,
        comparison=comparison,
        unit="clips",
        is_met=True,
        interval=interval,
    )


def parsed(picture):
    """Return the picture, which must be well-formed and told in words."""
    root = ET.fromstring(str(picture))
    assert root.get("role") == "img"
    assert root.get("aria-label")
    return root


def x_of(root, kind, class_):
    (found,) = (one for one in root if one.tag == kind and one.get("class") == class_)
    return float(found.get("cx") or found.get("x1"))


def test_a_margin_shows_on_which_side_of_the_limit_it_is():
    for measured, is_above in ((477.0, True), (400.0, False)):
        root = parsed(margin_chart(margin(measured, 466.0)))
        assert (x_of(root, "circle", "dot") > x_of(root, "line", "limit")) is is_above


def test_the_good_side_of_an_upper_limit_is_the_left():
    root = parsed(margin_chart(margin(0.1, 0.5, "<=")))
    good = next(one for one in root if one.get("class") == "good")
    end = float(good.get("x")) + float(good.get("width"))
    assert end == pytest.approx(x_of(root, "line", "limit"), abs=0.2)


def test_an_interval_is_drawn_and_told():
    interval = Interval(low=470.0, high=480.0, confidence=0.95)
    root = parsed(margin_chart(margin(477.0, 466.0, interval=interval)))
    whiskers = [one for one in root if one.get("class") == "whisker"]
    assert len(whiskers) == 3
    assert root.get("aria-label").endswith("interval 470 to 480")


def test_what_is_undefined_has_no_picture():
    assert margin_chart(margin(None, 1.0)) == ""
    assert latency_chart([]) == ""
    assert speed_chart({}) == ""


def test_the_chain_names_every_edge_with_its_limit():
    names = ("torch_to_onnx", "onnx_to_simplified", "simplified_to_device", "torch_to_device")
    errors = (1e-6, 0.0, None, 0.25)
    edges = [
        EdgeParity(name=name, row_count=1, class_count=1, max_abs_error=error)
        for name, error in zip(names, errors, strict=True)
    ]
    root = parsed(chain_chart(edges, {"torch_to_onnx": 1e-3}))
    assert "torch → onnx 1e-06, limit 0.001" in root.get("aria-label")
    assert len([one for one in root if one.get("class") == "limit"]) == 1
    parsed(chain_chart(edges[1:3], {}))


def test_each_session_has_a_histogram_on_one_scale():
    sessions = [session_timing([1.0, 2.0, 9.0]), session_timing([5.0] * 4), session_timing([])]
    root = parsed(latency_chart(sessions))
    assert len([one for one in root if one.get("class") == "fill"]) == 2
    assert "session 2: median 5 ms" in root.get("aria-label")


def test_sessions_are_drawn_with_bounds_and_floor():
    bounds = Interval(low=9.0, high=11.0, confidence=0.95)
    root = parsed(sessions_chart([9.5, 10.5], bounds, 8.0, "clips/s"))
    assert len([one for one in root if one.get("class") == "dot"]) == 2
    said = "Speed of each session in clips/s: 9.5, 10.5, interval 9 to 11; floor 8"
    assert root.get("aria-label") == said
    assert "interval" not in parsed(sessions_chart([8.0], None, 8.0, "")).get("aria-label")


def test_devices_differ_by_shape_and_name_not_by_colour_alone():
    figure = SpeedFigure(per_s=10.0, scope="chip")
    series = {
        name: {1: figure, 4: figure} for name in ("cpu", "cuda", "ascend310", "ascend310p", "x")
    }
    root = parsed(speed_chart(series))
    texts = {one.text: float(one.get("y")) for one in root if one.tag == "text"}
    assert set(series) <= set(texts)
    places = sorted(texts[name] for name in series)
    assert all(b - a >= 12 for a, b in itertools.pairwise(places))
    assert {one.tag for one in root if "mark" in (one.get("class") or "")} == {
        "circle",
        "rect",
        "path",
    }
    parsed(speed_chart({"cpu": {1: figure}}))


def test_a_speed_shows_its_interval_its_references_and_whether_it_is_decided():
    figure = SpeedFigure(
        per_s=10.0,
        scope="chip",
        guide=11.0,
        guide_scope="chip",
        golden=9.0,
        bounds=Interval(low=8.0, high=12.0, confidence=0.95),
        is_decided=False,
    )
    root = parsed(speed_chart({"cpu": {1: figure}}))
    classes = [one.get("class") for one in root]
    assert classes.count("interval s0") == 2
    assert classes.count("golden s0") == 2
    assert "mark s0 hollow" in classes
    of_a_card = figure.model_copy(update={"guide_scope": "card", "bounds": None, "golden": None})
    classes = [one.get("class") for one in parsed(speed_chart({"cpu": {1: of_a_card}}))]
    assert "interval s0" not in classes


def test_a_trend_marks_its_change_points():
    root = parsed(trend_chart([1.0, 1.0, 2.0, 2.0], [2], "a trend"))
    assert len([one for one in root if one.get("class") == "limit"]) == 1
    parsed(trend_chart([1.0], [], "one night"))


def test_text_is_escaped():
    assert str(tag("text", "<b>", aria_label='"')) == '<text aria-label="&#34;">&lt;b&gt;</text>'


def test_scales_and_ticks():
    assert scale((0.0, 10.0), (100.0, 200.0), 5.0) == 150.0
    assert scale((0.0, 10.0), (100.0, 200.0), 50.0) == 200.0
    assert scale((3.0, 3.0), (100.0, 200.0), 3.0) == 150.0
    assert nice_ticks(0.0, 10.0) == [0.0, 5.0, 10.0]
    assert nice_ticks(2.0, 2.0) == [2.0]
