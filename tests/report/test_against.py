import json
import math
import shutil

import pytest

from harness.__main__ import main
from harness.nightly.baseline import freeze, write_baseline
from harness.report.against import Sample, changes
from harness.report.comparison_values import Comparison
from harness.spec import CHECKS

CELL = "nonlocal_r50-ascend310p-bs1"


def only(before, after, metric="device.per_s"):
    (found,) = changes({(CELL, metric): before}, {(CELL, metric): after})
    return found


def test_a_speed_that_moved_by_more_than_its_sessions_scatter_is_told_apart():
    before = Sample("throughput", (100.0, 101.0, 99.0, 100.0))
    slower = only(before, Sample("throughput", (90.0, 91.0, 89.0, 90.0)))
    assert slower.change == pytest.approx(-10.0)
    assert slower.low < -10.0 < slower.high < 0.0
    assert (slower.is_told_apart, slower.is_worse, slower.unit) == (True, True, "%")
    noisy = only(before, Sample("throughput", (60.0, 130.0, 80.0, 90.0)))
    assert noisy.low < 0.0 < noisy.high
    assert not noisy.is_told_apart


def test_welch_s_interval_is_the_textbook_s():
    """Two samples of four: means 0 and 0.1 of logarithms, each of standard deviation 0.01."""
    logs = [-0.01, 0.01, -0.01, 0.01]
    values = tuple(math.exp(one) for one in logs)
    found = only(
        Sample("throughput", values),
        Sample("throughput", tuple(one * math.exp(0.1) for one in values)),
    )
    half = 2.446912 * math.sqrt(2 * (4 * 0.01**2 / 3) / 4)
    assert found.low == pytest.approx(100 * math.expm1(0.1 - half), rel=1e-4)
    assert found.high == pytest.approx(100 * math.expm1(0.1 + half), rel=1e-4)


def test_a_latency_that_grows_is_worse_and_an_error_too():
    times = Sample("throughput", (10.0, 10.1), is_higher_better=False)
    assert only(times, Sample("throughput", (12.0, 12.1), is_higher_better=False)).is_worse
    error = Sample("parity", (1e-5,), is_higher_better=False)
    found = only(error, Sample("parity", (2e-5,), is_higher_better=False))
    assert (found.change, found.low, found.is_told_apart) == (pytest.approx(100.0), None, False)


def test_accuracy_is_compared_in_points_by_newcombe():
    """56 of 70 and 48 of 80: 0.20 (0.0524 to 0.3339), Newcombe 1998, table II, method 10."""
    metric = "top1.set-0"
    found = only(Sample("accuracy", (48 / 80,), 80), Sample("accuracy", (56 / 70,), 70), metric)
    assert (found.change, found.low, found.high) == (
        pytest.approx(20.0),
        pytest.approx(5.24, abs=0.01),
        pytest.approx(33.39, abs=0.01),
    )
    assert (found.unit, found.is_worse) == ("points", False)


@pytest.fixture
def other(make_run, release_cells, tmp_path, monkeypatch):
    """Make the report of a release that lacks a cell, with its run inside."""
    monkeypatch.setattr("harness.report.pdf.shutil.which", lambda name: None)
    run = make_run("before", release_cells[1:], environment={"package.torch": "2.12.0"})
    folder = tmp_path / "release-1.3"
    main(["report", str(run.root), "--output", str(folder)])
    (folder / "runs").mkdir()
    shutil.copytree(run.root, folder / "runs" / "before")
    return folder


def compared(run, other, out):
    main(["report", str(run.root), "--output", str(out), "--against", str(other)])
    stored = json.loads((out / "signoff.json").read_text("utf-8"))["against"]
    return Comparison.model_validate(stored, strict=False)


def test_a_release_is_compared_with_the_one_before(
    other, make_run, release_cells, tmp_path, capsys
):
    plans = {f"{release_cells[2].id}:throughput": {"factor": 0.8}}
    found = compared(make_run("now", release_cells, plans), other, tmp_path / "out")
    told = [one for one in found.changes if one.is_told_apart]
    assert {one.id for one in told} == {f"{release_cells[2].id}:throughput"}
    assert found.added == (release_cells[0].id,)
    assert [(one.name, one.before, one.after) for one in found.versions] == [
        ("package.torch", "2.12.0", "2.13.0")
    ]
    page = (tmp_path / "out" / "signoff.html").read_text("utf-8")
    assert "Beside release-1.3" in page


def test_a_frozen_baseline_of_one_run_knows_no_noise(
    make_run, release_cells, tmp_path, today, monkeypatch
):
    monkeypatch.setattr("harness.report.pdf.shutil.which", lambda name: None)
    required = tuple(f"{release_cells[0].id}:{check}" for check in CHECKS)
    before = make_run("before", release_cells[:1], required=required)
    path = tmp_path / "baseline.json"
    write_baseline(freeze([before], "*", "ada", "release 1.3", today), path)
    found = compared(make_run("now", release_cells[:2]), path, tmp_path / "out")
    assert (found.kind, found.name) == ("baseline", "baseline.json")
    assert found.added == (release_cells[1].id,)
    speeds = [one for one in found.changes if one.check == "throughput"]
    assert speeds
    assert not any(one.is_told_apart for one in speeds)


def test_a_folder_without_a_decision_is_refused(make_run, release_cells, tmp_path, capsys):
    run = make_run("now", release_cells[:1])
    words = ["report", str(run.root), "--output", str(tmp_path / "out"), "--against"]
    assert main([*words, str(run.root)]) == 2
    assert "has no signoff.json" in capsys.readouterr().err
