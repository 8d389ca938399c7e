"""The table of faults, and a smoke of it in real runs; benchmarks/kill_table.py plants them all."""

import collections
import re

import pytest

from harness import registry
from harness.__main__ import main
from harness.contract.thresholds import thresholds_from_file
from harness.selftest.faults import MODEL, Fault, NotApplicable, NotPlanted
from harness.selftest.setting import Answer, Bench
from harness.selftest.soak_faults import LIMITS, with_row
from harness.selftest.table import SMOKE, all_faults, chosen_faults, counts_line, plant_all


class NoBench:
    """Makes settings that no fault of these tests looks at."""

    def setting(self, name):
        return None


def fault(answer):
    def trial(setting):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Fault("family", "name", "parity", "too far", trial)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(1, "parity fail: too far"), "caught"),
        (Answer(0, "parity pass: too far"), "escaped"),
        (Answer(1, "parity error: no disk"), "escaped"),
        (NotApplicable("no such part"), "not applicable"),
        (NotPlanted("nothing in the contract matches it"), "escaped"),
    ],
)
def test_a_fault_is_caught_by_its_own_finding_alone(answer, outcome):
    (found,) = plant_all(NoBench(), [fault(answer)])
    assert found.outcome == outcome
    assert f"{outcome.replace('applicable', 'applicable here')} {int(True)}" in counts_line([found])


def test_there_are_enough_faults_and_each_has_a_name_and_a_finding_of_its_own():
    faults = all_faults()
    assert len(faults) >= 150
    assert [
        name for name, n in collections.Counter(one.id for one in faults).items() if n > 1
    ] == []
    # A finding that the empty text matches is none.
    assert [one.id for one in faults if re.search(one.finding, "")] == []
    assert {one.id for one in chosen_faults(is_smoke=True)} == SMOKE
    assert len(SMOKE) == 15


@pytest.mark.parametrize("device", registry.device_specs())
@pytest.mark.parametrize("check", LIMITS)
def test_the_contract_takes_the_limits_of_planted_starts_and_soaks(device, check, tmp_path):
    setting = Bench(device, tmp_path / "bench", tmp_path / "cache").setting("one")
    setting.contract = with_row(setting, check, LIMITS[check])
    cell = setting.cell(MODEL)
    assert getattr(thresholds_from_file(setting.contract_file()).limits(cell), check) is not None


def test_fifteen_faults_in_real_runs_are_caught_by_name(tmp_path, capsys):
    (tmp_path / "site.toml").write_text(
        'cache_dir = "cache"\nrun_root = "runs"\nlock_dir = "locks"\n'
    )
    status = main(["--site", str(tmp_path / "site.toml"), "selftest", "--smoke"])
    out = capsys.readouterr().out
    assert "planted 15, caught 15, escaped 0, not applicable here 0" in out, out
    assert status == 0


def test_the_faults_are_listed_by_family(capsys):
    assert main(["selftest", "--list", "--family", "list"]) == 0
    out = capsys.readouterr().out
    assert "list: one wrong label [accuracy]" in out
    assert out.endswith(f"{len(chosen_faults(['list']))} faults of 1 families\n")


def test_an_unknown_family_is_refused(capsys):
    assert main(["selftest", "--family", "colour"]) == 2
    assert "no family is called 'colour'; there are: pytest, contract" in capsys.readouterr().err


@pytest.mark.parametrize("others", [(), ("list",)])
def test_a_family_of_which_the_smoke_plants_nothing_is_refused(capsys, others):
    named = [word for name in (*others, "record") for word in ("--family", name)]
    assert main(["selftest", "--smoke", "--list", *named]) == 2
    err = capsys.readouterr().err
    assert "--smoke plants no fault of the family 'record', only of: pytest, contract, list" in err
    assert "leave --smoke out" in err


def test_faults_of_which_none_can_be_planted_show_nothing(capsys, monkeypatch):
    monkeypatch.setattr("harness.cli.selftest.without_fault", lambda *_: None)
    monkeypatch.setattr(
        "harness.cli.selftest.chosen_faults",
        lambda *_, **__: (fault(NotApplicable("no such part")),),
    )
    assert main(["selftest", "--family", "list"]) == 2
    said = capsys.readouterr()
    assert "planted 0, caught 0, escaped 0, not applicable here 1" in said.out
    assert "none of these faults can be planted on cpu" in said.err


def test_a_device_that_is_not_here_is_refused(capsys):
    assert main(["selftest", "--device", "ascend310p"]) == 2
    assert "ascend310p cannot be used here" in capsys.readouterr().err
