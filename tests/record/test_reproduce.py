import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.contract.thresholds import thresholds_from_file
from harness.measure.soak import soak_measurement
from harness.measure.soak_lines import SoakPlan
from harness.record.reproduce import reproduce_cell, reproduce_check, reproduce_checks
from harness.spec import CHECKS, Cell
from tests import made

ROOT = Path(harness.__file__).parent.parent
PARITY = made.record("parity", tier="nightly")


def collected(command):
    """Ids of the tests that a command would run, as a shell takes it."""
    program, *arguments = shlex.split(command)
    assert program == "pytest"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "--collect-only", "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line for line in done.stdout.splitlines() if "::" in line}


def test_the_command_of_a_check_runs_that_check_alone():
    command = reproduce_check(PARITY)
    assert command == (
        "pytest 'acceptance/test_parity.py::test_parity[nonlocal_tiny-cpu-bs1]' "
        "-m 'cpu and parity' --tier nightly --model nonlocal_tiny --batch-size 1"
    )
    assert collected(command) == {"acceptance/test_parity.py::test_parity[nonlocal_tiny-cpu-bs1]"}


def test_the_command_of_a_cell_runs_all_of_its_checks_and_no_other():
    command = reproduce_cell(Cell("timesformer_tiny", "ascend310p", 4), "nightly")
    assert collected(command) == {
        f"acceptance/test_{check}.py::test_{check}[timesformer_tiny-ascend310p-bs4]"
        for check in CHECKS
    }


def test_a_check_of_a_cell_that_names_a_precision_is_run_again_with_its_batch_size():
    found = reproduce_checks([f"{Cell('nonlocal_tiny', 'ascend310p', 4, 'gears').id}:parity"], "x")
    assert found == (
        "pytest acceptance -m 'ascend310p and parity' --tier x --model nonlocal_tiny --batch-size 4"
    )


@pytest.mark.parametrize("name", ["a b", "$(touch x)", "a'b", "-x", "a;b", "😀"])
def test_hostile_names_are_one_word_of_a_shell(name):
    words = shlex.split(reproduce_check(PARITY.model_copy(update={"model": name})))
    assert words[1] == f"acceptance/test_parity.py::test_parity[{name}-cpu-bs1]"
    assert words[7] == name
    assert len(words) == 10


def test_a_check_that_is_run_again_is_all_that_is_required(tmp_path):
    """Its exit status is its outcome: nothing else is missing."""
    from harness.contract.scope import scope_from_options

    thresholds = thresholds_from_file(ROOT / "thresholds.toml")
    words = shlex.split(reproduce_check(PARITY))
    option = dict(zip(words[2::2], words[3::2], strict=True))
    scope = scope_from_options(
        thresholds,
        option["--tier"],
        [option["--model"]],
        [int(option["--batch-size"])],
        option["-m"],
    )
    assert scope.required() == ("nonlocal_tiny-cpu-bs1:parity",)


def test_a_soak_is_run_again_by_its_own_command_for_as_long():
    assert reproduce_check(made.record("soak", tier="weekly")) == (
        "harness soak nonlocal_tiny-cpu-bs1 --tier weekly"
    )
    measured = soak_measurement([SoakPlan(seconds=90.0, interval_s=1.0)], 1)
    assert reproduce_check(made.record("soak", tier="weekly", measurement=measured)) == (
        "harness soak nonlocal_tiny-cpu-bs1 --tier weekly --minutes 1.5"
    )
    assert reproduce_checks(iter(["a-cpu-bs1:soak", "b-cpu-bs4:soak"]), "weekly") == (
        "harness soak a-cpu-bs1 --tier weekly && harness soak b-cpu-bs4 --tier weekly"
    )
