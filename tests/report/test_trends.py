import pytest

from harness.__main__ import main
from harness.nightly.series import Point, Series, SeriesKey
from harness.report import pdf
from harness.report.trends import trends_from_series
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
    (trend,) = trends_from_series([series(nights(0.8))], {CELL})
    assert trend.changes == (12,)
    assert (trend.unit, trend.days[0], len(trend.values)) == ("clips/s", "2026-10-01", 24)
    assert trend.notes == ("2026-10-13: 100.1 to 80.08 (device.cann: 7.0 -> 8.0)",)


def test_what_did_not_change_is_said():
    (trend,) = trends_from_series([series(nights(0.8), cann="7.0")], {CELL})
    assert trend.notes[0].endswith("(no recorded fact changed)")


def test_a_steady_series_has_no_change():
    (trend,) = trends_from_series([series(nights())], {CELL})
    assert (trend.changes, trend.notes) == ((), ())


def test_only_the_cells_of_the_release_and_each_series_once():
    ratio = series(nights(), metric="device.x_pytorch", last="other")
    accuracy = series([0.7] * 3, metric="top1.kinetics400-19796", check="accuracy")
    found = trends_from_series([ratio, accuracy], {CELL})
    assert {(trend.unit, len(trend.values)) for trend in found} == {("x PyTorch", 24), ("", 3)}
    assert trends_from_series([ratio], {"another"}) == ()


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    return tmp_path / "out"


def test_the_page_draws_the_history_it_is_given(make_run, release_cells, tmp_path, out):
    run, history = make_run("run", release_cells[:1]), tmp_path / "history.sqlite"
    assert main(["history", "add", str(run.root), "--history", str(history)]) == 0
    told = ["report", str(run.root), "--output", str(out)]
    assert main([*told, "--history", str(history)]) == 1
    assert 'id="trend"' in (out / "signoff.html").read_text("utf-8")
    assert main(told) == 1
    assert 'id="trend"' not in (out / "signoff.html").read_text("utf-8")


def test_a_history_that_is_not_there_is_an_error(make_run, release_cells, tmp_path, out, capsys):
    run = make_run("run", release_cells[:1])
    absent = str(tmp_path / "absent.sqlite")
    assert main(["report", str(run.root), "--output", str(out), "--history", absent]) == 2
    assert "absent.sqlite" in capsys.readouterr().err
