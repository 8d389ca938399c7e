import contextlib
import dataclasses
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.__main__ import main
from harness.cli import contract
from harness.contract.calibrate import (
    calibrated_row,
    calibration_from_runs,
    calibration_source,
)
from harness.contract.thresholds import thresholds_from_file
from harness.errors import InvalidMeasurement
from harness.judge.limits import ThroughputReference
from harness.judge.throughput import judge_throughput
from harness.measure.host_turns import HostUse, Turns
from harness.measure.throughput import SessionTiming, throughput_measurement
from harness.spec import Cell, Status

CONTRACT = Path(harness.__file__).parent.parent / "thresholds.toml"
CELL = Cell("nonlocal_tiny", "cpu", 1)
REFERENCE = ThroughputReference(
    golden=4.5,
    tolerance=0.5,
    unit="x unoptimised",
    definition="processor",
    scope="host",
    against="unoptimised",
    implausible=4.0,
    source="by hand",
)
ABSOLUTE = REFERENCE.model_copy(
    update={"unit": "clips/s", "definition": "device", "scope": "chip", "against": "absolute"}
)


def session(ratio, **more):
    turns = Turns(
        processor_ms=(10.0,) * 4,
        unoptimised_processor_ms=(10.0 * ratio,) * 4,
        wall_ms=(10.0,) * 4,
        waiting_ms=(0.0,) * 4,
    )
    values = {"device_ms": (9.0,) * 4, "device_io_ms": (5.0,) * 4, "is_output_same": True}
    return SessionTiming(**{**values, "turns": turns, **more})


def absolute(*runs):
    return [[SessionTiming(device_ms=(1000.0 / one,) * 4) for one in run] for run in runs]


def runs_of(*runs):
    return [[session(ratio) for ratio in run] for run in runs]


HALF = Turns(processor_ms=(10.0,) * 4)


def noisy(count, sessions, spread, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(2.0, 2.0 * spread, size=(count, sessions)).tolist()


def ends_in_a_pass(run, reference, sessions_min):
    """The rule of the suite, written once more."""
    for count in range(sessions_min, len(run) + 1):
        measurement = throughput_measurement(run[:count], 1)
        status = judge_throughput(measurement, reference, sessions_min).status
        if status is not Status.INCONCLUSIVE:
            return status is Status.PASS
    return False


def test_sessions_that_agree_need_no_tolerance():
    found = calibration_from_runs(absolute([2.0, 2.0], [2.0, 2.0]), 1, ABSOLUTE, 2)
    assert (found.golden, found.tolerance, found.spread) == (2.0, 0.0, 0.0)
    assert (found.run_count, found.session_count) == (2, 4)


@pytest.mark.parametrize("spread", [0.01, 0.03, 0.08])
def test_the_tolerance_is_the_least_without_an_alarm(spread):
    runs = absolute(*noisy(10, 6, spread))
    found = calibration_from_runs(runs, 1, ABSOLUTE, 3)
    assert found.golden == pytest.approx(2.0, rel=2 * spread)
    assert found.spread == pytest.approx(spread, rel=0.3)

    def alarms(tolerance):
        changed = ABSOLUTE.model_copy(update={"golden": found.golden, "tolerance": tolerance})
        return sum(not ends_in_a_pass(run, changed, 3) for run in runs)

    assert found.tolerance > 0.0
    assert alarms(found.tolerance) == 0
    assert alarms(found.tolerance - 0.01) > 0
    assert alarms(0.99) == 0


def test_one_slow_run_widens_the_tolerance():
    found = calibration_from_runs(absolute(*[[2.0, 2.0]] * 5, [1.5, 1.5]), 1, ABSOLUTE, 2)
    assert (found.golden, found.tolerance) == (2.0, 0.25)


def test_a_host_s_tolerance_lies_between_the_same_build_and_a_slow_one():
    found = calibration_from_runs(runs_of(*noisy(10, 2, 0.02)), 1, REFERENCE, 2)
    assert 0.07 <= found.tolerance <= 0.12
    row = calibrated_row({}, found, REFERENCE, "today")
    assert f"spread = {float(f'{found.spread:.4g}')}" in row
    assert "speedup_min" not in row


def test_a_host_that_scatters_too_much_to_find_a_slowdown_proposes_nothing():
    found = calibration_from_runs(runs_of(*noisy(10, 2, 0.12)), 1, REFERENCE, 2)
    with pytest.raises(
        InvalidMeasurement, match=r"is above 0\.12, so a build 15 % slower could pass"
    ):
        calibrated_row({}, found, REFERENCE, "today")


def test_quiet_sessions_say_what_every_thread_must_be_worth():
    use = HostUse(usable=2, used=1.9, is_quiet=True)
    runs = [[session(2.0, host_use=use)] * 2] * 2
    found = calibration_from_runs(runs, 1, REFERENCE, 2)
    assert found.speedup == 2.0
    assert "speedup_min = 1.4" in calibrated_row({}, found, REFERENCE, "today")


def test_a_golden_of_another_processor_gets_one_of_this_beside_it():
    use = HostUse(usable=2, used=1.9, is_quiet=False, processor="this one")
    elsewhere = {"processor": "the golden's", "tolerance_elsewhere": 0.5}
    runs = [[session(ratio, host_use=use) for ratio in (2.0, 1.8)]] * 2
    found = calibration_from_runs(runs, 1, REFERENCE, 2)
    reference = REFERENCE.model_copy(update=elsewhere)
    assert 'processor = "this one"' in calibrated_row({}, found, reference, "today")
    old = {"golden": 3.0, "tolerance": 0.1, "golden_on": {"a third": {"golden": 2.5}}}
    row = tomllib.loads(f"row = {calibrated_row(old, found, reference, 'today')}")["row"]
    here = {"golden": 1.9, "tolerance": found.tolerance, "spread": 0.06083, "source": "today"}
    assert row == {**old, "golden_on": {**old["golden_on"], "this one": here}}
    # The tolerance that holds for another processor plays no part in it.
    assert calibration_from_runs(runs, 1, reference, 2) == found
    assert found.tolerance not in (None, 0.07)


def test_the_largest_tolerance_that_a_host_may_have_is_one():
    use = HostUse(usable=2, used=1.9, is_quiet=True)
    found = calibration_from_runs([[session(2.0, host_use=use)] * 2] * 2, 1, REFERENCE, 2)
    most = dataclasses.replace(found, tolerance=0.12, spread=0.034)
    assert "tolerance = 0.12" in calibrated_row({}, most, REFERENCE, "today")
    with pytest.raises(InvalidMeasurement, match=r"is above 0\.12, .* \(spread 3\.4 %\)"):
        calibrated_row({}, dataclasses.replace(most, tolerance=0.13), REFERENCE, "today")


def test_an_absolute_speed_is_of_its_own_definition():
    runs = runs_of([2.0, 2.0], [2.0, 2.0])
    assert calibration_from_runs(runs, 4, ABSOLUTE, 2).golden == pytest.approx(444.4)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        (runs_of([2.0, 2.0]), "1 A/A runs of 2 sessions show no spread"),
        (runs_of([2.0], [2.0]), "time at least 2 runs of 2 sessions"),
        ([], "0 A/A runs of 0 sessions"),
        ([[session(2.0)] * 2, [session(2.0, is_output_same=False)] * 2], "does not count: session"),
        ([[session(0.0)] * 2] * 2, "times in unoptimised_processor_ms are zero"),
        ([[session(2.0, nonfinite_count=1)] * 2] * 2, "1 times are not finite"),
        ([[session(2.0, turns=None)] * 2] * 2, "no processor times"),
        ([[session(2.0, turns=HALF)] * 2] * 2, "it was not timed beside what"),
    ],
)
def test_runs_that_show_nothing_are_refused(runs, words):
    with pytest.raises(InvalidMeasurement, match=words):
        calibration_from_runs(runs, 1, REFERENCE, 2)


def test_noise_that_no_tolerance_covers_proposes_nothing():
    found = calibration_from_runs(absolute([1.0, 3.9], [0.4, 3.0]), 1, ABSOLUTE, 2)
    assert found.tolerance is None
    with pytest.raises(InvalidMeasurement, match="no tolerance below 1 lets all 2 A/A runs pass"):
        calibrated_row({}, found, ABSOLUTE, "today")


def row_from(row, reference, runs=((2.0, 2.0), (2.0, 2.0))):
    found = calibration_from_runs(runs_of(*runs), 1, reference, 2)
    return tomllib.loads(f"row = {calibrated_row(row, found, reference, 'today')}")["row"]


def test_a_row_keeps_what_else_is_written_in_it_the_guide_too():
    row = {"guide": 78.25, "golden": 78.25, "tolerance": 0.05, "implausible": 2.0, "source": "old"}
    assert row_from(row, ABSOLUTE) == {
        "guide": 78.25,
        "golden": 111.1,
        "tolerance": 0.0,
        "implausible": 2.0,
        "source": "today",
    }


@pytest.mark.parametrize(
    ("named", "chip", "written"),
    [(None, "310P3", "310P3"), ("T4", "Tesla T4", None), ("T4", "NVIDIA H200", "NVIDIA H200")],
)
def test_a_golden_is_bound_to_the_chip_it_was_taken_on(named, chip, written):
    reference = ABSOLUTE.model_copy(update={"chip": named})
    found = calibration_from_runs(runs_of((2.0, 2.0), (2.0, 2.0)), 1, reference, 2)
    row = calibrated_row({}, dataclasses.replace(found, chip=chip), reference, "today")
    assert tomllib.loads(f"row = {row}")["row"].get("chip") == written


def test_a_golden_of_a_card_with_several_chips_becomes_one_of_a_chip():
    card = ABSOLUTE.model_copy(update={"scope": "card", "chips": 4})
    assert row_from({"golden": 50.0, "tolerance": 0.1}, card)["scope"] == "chip"
    row = row_from({"guide": 50.0}, card.model_copy(update={"guide": 50.0}))
    assert (row["scope"], row["chips"], row["guide_scope"]) == ("chip", 1, "card")
    assert row["guide"] == 50.0


def test_a_cell_without_a_golden_gets_a_row_that_says_how_it_was_measured():
    row = row_from({}, ABSOLUTE)
    assert (row["unit"], row["definition"], row["scope"]) == ("clips/s", "device", "chip")


# The commands


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Let a double time the sessions; it notes the cells and how many it was asked for."""
    monkeypatch.setenv("ACCEPTANCE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("ACCEPTANCE_SITE", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked = []

    def timed_sessions(context):
        while True:
            asked.append(context.cell.id)
            yield session(2.0 + 0.01 * (len(asked) % 3))

    monkeypatch.setattr(contract, "timed_sessions", timed_sessions)
    return asked


def pasted(printed):
    """Return the contract with what was printed in its place, as a person would paste it."""
    text, head = CONTRACT.read_text(), ""
    for line in filter(None, printed.splitlines()):
        key = line.partition(" = ")[0]
        if line.startswith("["):
            head = line
        elif head == "[sources]":
            text = text.replace(f"{head}\n", f"{head}\n{line}\n")
        else:
            before, _, rest = text.partition(f"{head}\n")
            text = (
                before
                + f"{head}\n"
                + re.sub(rf"(?m)^{key} = .*", lambda _, line=line: line, rest, count=1)
            )
    return text


def test_what_calibrate_prints_can_be_pasted_and_keeps_the_guide(timed, capsys, tmp_path):
    before = CONTRACT.read_bytes()
    cells = ["nonlocal_tiny-cpu-*", "nonlocal_r50-ascend310p-bs4", "nonlocal_r50-ascend310-bs8"]
    assert main(["calibrate", *cells, "--runs", "3", "--sessions", "4"]) == 0
    assert len(timed) == 5 * 12
    assert CONTRACT.read_bytes() == before
    printed = capsys.readouterr().out
    assert printed.count("[models.nonlocal_tiny.devices.cpu.throughput]") == 1
    path = tmp_path / "thresholds.toml"
    path.write_text(pasted(printed))
    old, new = thresholds_from_file(CONTRACT).references(), thresholds_from_file(path).references()
    changed = [cell.id for cell in old if old[cell] != new[cell]]
    assert sorted(changed) == [
        "nonlocal_r50-ascend310-bs8",
        "nonlocal_r50-ascend310p-bs4",
        *(f"nonlocal_tiny-cpu-bs{batch}" for batch in (1, 4, 8)),
    ]
    mine = new[CELL]
    assert (mine.golden, mine.unit, mine.implausible) == (pytest.approx(2.01), "x unoptimised", 4.0)
    assert "median of the sessions of 3 A/A runs" in mine.source
    assert "# 12 sessions, spread 0.4" in printed
    chip, card = (
        new[Cell("nonlocal_r50", *more)] for more in (("ascend310p", 4), ("ascend310", 8))
    )
    assert (chip.guide, chip.golden) == (78.2537, pytest.approx(444.4))
    assert (card.guide, card.guide_scope, card.scope) == (53.1328, "card", "chip")


def test_the_source_says_how_sure_the_tolerance_is():
    text = calibration_source('2026-11-26, "a CPU"', 10)
    assert text.startswith(
        'harness calibrate, 2026-11-26, "a CPU": median of the sessions of 10 A/A'
    )
    assert "(95 % sure of fewer than 26 in 100)" in text


def test_calibrate_times_as_the_tier_says(timed, capsys):
    assert main(["calibrate", "nonlocal_tiny-cpu-bs1", "--runs", "2", "--tier", "smoke"]) == 0
    assert len(timed) == 2 * 6
    assert "of 2 A/A runs" in capsys.readouterr().out


def test_a_cell_that_is_too_noisy_takes_nothing_from_the_others(timed, capsys, monkeypatch):
    noise = iter([1.0, 3.9, 2.0, 0.4, 3.0, 0.5])

    def timed_sessions(context):
        while True:
            yield session(next(noise) if context.cell.batch == 1 else 2.0)

    monkeypatch.setattr(contract, "timed_sessions", timed_sessions)
    cells = ["nonlocal_tiny-cpu-bs1", "nonlocal_tiny-cpu-bs4"]
    assert main(["calibrate", *cells, "--runs", "2", "--sessions", "2", "--tier", "nightly"]) == 1
    shown = capsys.readouterr().out
    assert "# nonlocal_tiny-cpu-bs1: a tolerance of 0.87 is above 0.12" in shown
    assert "# 4 sessions, spread 0.00 %" in shown
    speeds = tomllib.loads(shown)["models"]["nonlocal_tiny"]["devices"]["cpu"]["throughput"]
    assert speeds.keys() == {"bs4"}


def test_every_second_run_is_beside_busy_processes(timed, capsys, monkeypatch):
    loads = []

    @contextlib.contextmanager
    def busy_processes(count):
        loads.append(count)
        yield

    monkeypatch.setattr(contract, "busy_processes", busy_processes)
    arguments = ["nonlocal_tiny-cpu-bs1", "--runs", "4", "--sessions", "2", "--load", "2"]
    assert main(["calibrate", *arguments]) == 0
    assert loads == [0, 2, 0, 2]
    assert "every second run beside 2 busy process(es)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet-cpu-bs1"], "tier nightly has no cell 'resnet-cpu-bs1'; there are: nonlocal_r50"),
        (["*", "--tier", "yearly"], "has no tier 'yearly'"),
        (["*", "--thresholds", "none.toml"], "none.toml cannot be read"),
    ],
)
def test_what_cannot_be_calibrated_is_named(timed, capsys, arguments, words):
    assert main(["calibrate", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert timed == []


@pytest.mark.parametrize("count", ["1", "0", "many", "-3"])
def test_one_run_shows_no_spread(capsys, count):
    with pytest.raises(SystemExit):
        main(["calibrate", "*", f"--runs={count}"])
    assert "shows no spread; give a whole number above 1" in capsys.readouterr().err


def test_lint_warns_and_is_red_for_what_has_expired_only(tmp_path, capsys):
    assert main(["thresholds", "lint"]) == 0
    shown = capsys.readouterr().out
    assert "warning: models.nonlocal_r50.devices.cpu.top1: the floor of 14,174" in shown
    assert f"can be used; {shown.count('warning: ')} remark(s)" in shown
    waiver = 'cell = "nonlocal_tiny-cpu-bs1"\ncheck = "parity"\nreason = "r"\nissue = "NPU-17"\n'
    path = tmp_path / "thresholds.toml"
    tail = f'\n[[waivers]]\n{waiver}owner = "mei"\nexpires = 2020-01-01\n'
    path.write_text(CONTRACT.read_text() + tail)
    assert main(["thresholds", "lint", "--thresholds", str(path)]) == 1
    assert "expired: the waiver of nonlocal_tiny-cpu-bs1:parity" in capsys.readouterr().out
