"""Every goal that a benchmark prints counts for its exit status."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Return what imports a script of benchmarks/, with the others beside it, as Python runs it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize(
    ("verify_s", "gate_s", "missed"),
    [(0.7, 5.0, []), (0.71, 5.0, ["verify"]), (0.7, 5.1, ["judge"])],
)
def test_judge_misses_when_either_goal_is_missed(script, capsys, verify_s, gate_s, missed):
    status = script("judge").goals(verify_s, {"judge": 1.0, "gate": gate_s})
    assert (status, missed_of(capsys)) == (int(bool(missed)), missed)


def missed_of(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [line.partition(":")[0] for line in lines if "missed" in line]


@pytest.mark.parametrize(
    ("figures", "missed"),
    [
        ({"warm": 0.33, "busy": 1.6, "cold": 7.0}, []),
        ({"warm": 0.34, "busy": 1.6, "cold": 7.0}, ["warm, of cold"]),
        ({"busy": 1.7, "before": 0.5}, ["busy, of cold"]),
        ({"before": 0.6}, ["first_verdict"]),
    ],
)
def test_first_verdict_misses_when_any_goal_is_missed(script, capsys, figures, missed):
    assert script("first_verdict").goals(figures) == int(bool(missed))
    assert missed_of(capsys) == missed


def test_nights_counts_only_what_is_asked(script, capsys):
    nights = script("nights")
    fine = {"false": (0.0, 0.0, 0.0), "alarms": 0.0, "drift": (1.0, 1.0)}
    fine |= dict.fromkeys(nights.DROPS, (1.0, 1.0))
    found = {noise: dict(fine) for noise in nights.NOISES}
    # Where the gate before found no change, none is asked of this one.
    found["independent, CV 5 %"][0.05] = (np.inf, np.inf)
    assert nights._goals(found, 30) == 0
    out = capsys.readouterr().out
    assert re.search(r"drop of 5 % is not green, CV 5 % +inf \(no goal\)\n", out)
    assert out.endswith("nights: 26 (goal >= 26)\n")
    found["independent, CV 5 %"][0.10] = (7.0, 7.0)
    assert nights._goals(found, 30) == 1
    assert "nights: 25 (goal >= 26, missed)" in capsys.readouterr().out
