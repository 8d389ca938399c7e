"""Every goal that a benchmark prints counts for its exit status; the kill table says how it was planted."""

import importlib
import json
import re
import subprocess
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
    status = script("judge").goals(verify_s, gate_s)
    assert (status, missed_of(capsys)) == (int(bool(missed)), missed)


def test_judge_times_no_command_that_gives_up(script, tmp_path, capsys):
    with pytest.raises(SystemExit, match="exit status 2"):
        script("judge").timed(["judge", str(tmp_path / "no-run")])
    assert "cannot be read" in capsys.readouterr().err


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


def test_the_mutation_score_counts_each_folder_by_its_size(script, capsys):
    mutants = script("mutants")
    judge = {f"judge.{n}": "survived" if n == 3 else "killed" for n in range(10)}
    decide = {"decide.0": "killed", "decide.1": "timeout"}
    assert mutants.report({"judge": judge, "decide": decide}, {"judge": 300, "decide": 100}) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == [
        "  survived   judge.3",
        "judge      9 of 10, drawn from 300: 59.6 to 98.2 % (95 %)",
        "  timeout    decide.1",
    ]
    # The variance is that of 14 draws from all mutants alike.
    assert told[-2:] == ["  68.5 to 98.7 % (95 %)", "mutants killed, %: 92.5 (goal >= 90)"]
    judge["judge.4"] = "no tests"
    assert mutants.report({"judge": judge}, {"judge": 300}) == 1


def test_the_kill_table_says_how_its_faults_were_planted(script, tmp_path, capsys):
    table, page = script("kill_table"), tmp_path / "page.md"
    notes = table.with_conditions(
        {"false reds": "False reds: 0."}, [], 37.2, [9.9, 5.0], "One *was* slow."
    )
    row = {
        "family": "list",
        "name": "a clip twice",
        "by": "run",
        "outcome": "caught",
        "said": "twice",
    }
    known = {"rows": {"list: a clip twice": row}, "notes": notes}
    for _ in range(2):
        table.report(known, page, 40.0)
        lines = page.read_text().splitlines()
        assert "False reds: 0." in lines
        (said,) = [line for line in lines if line.startswith("Planted")]
        assert re.fullmatch(
            r"Planted on \d+ cores, at a load of 5.0 to 9.9, in 37 min. One \*was\* slow.", said
        )
    # A part adds how it was planted, and planting everything replaces what was said before.
    notes = table.with_conditions(notes, ["time"], 3.0, [1.0, 1.2], "")
    assert [name for name in notes if name.startswith("Planted")] == ["Planted", "Planted time"]
    assert notes["Planted time"].startswith("Planted (time) on ")
    notes = table.with_conditions(notes, [], 30.0, [1.0], "")
    assert list(notes) == ["false reds", "Planted"]
    assert notes["Planted"].endswith("in 30 min.")


def test_readers_are_fuzzed_in_parts_until_each_has_its_minutes(script, tmp_path, monkeypatch):
    fuzz = script("fuzz")
    broken, asked = {"history"}, []

    def child(command, **_):
        options = fuzz._options(command[2:])
        asked.append((options.child, options.minutes))
        said = "ValueError: x\n" if options.child in broken else "Done 400\npeak_rss_mb: 90\n"
        return subprocess.CompletedProcess(command, int(options.child in broken), said, "")

    monkeypatch.setattr(fuzz.subprocess, "run", child)
    words = ["--engine", "hypothesis", "--jobs", "2", "--results", str(tmp_path / "results.jsonl")]
    words += ["--only", "manifest", "history", "--minutes"]
    assert fuzz.main([*words, "4"]) == 1
    assert sorted(asked) == [("history", 4.0), ("manifest", 4.0)]
    broken.clear()
    asked.clear()
    assert fuzz.main([*words, "10"]) == 0
    # What a reader bore before it broke does not count.
    assert sorted(asked) == [("history", 10.0), ("manifest", 6.0)]
    assert fuzz.main([*words, "10"]) == 0
    assert len(asked) == 2
    kept = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert sorted((one["reader"], one["minutes"], one["outcome"]) for one in kept) == [
        ("history", 4.0, "broken, status 1"),
        ("history", 10.0, "nothing"),
        ("manifest", 4.0, "nothing"),
        ("manifest", 6.0, "nothing"),
    ]
    assert {(one["files"], one["peak_mb"], one["engine"]) for one in kept[-2:]} == {
        (400, 90, "hypothesis")
    }
