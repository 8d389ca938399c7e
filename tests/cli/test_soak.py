import json

import pytest

from harness.__main__ import main
from harness.check.suite import Suite
from harness.measure.soak import soak_measurement
from harness.measure.soak_lines import SoakPlan, Stretch
from harness.record.record import RunDirectory
from harness.spec import Status
from tests.made import record


@pytest.fixture
def soaked(monkeypatch, tmp_path, capsys):
    """Return what runs the command over a check that takes no time."""

    def run(*arguments, minutes=2):
        def check(self, cell, name):
            plan = SoakPlan(
                seconds=60.0 * self.thresholds.tier("nightly").soak_minutes, interval_s=1
            )
            stretches = [
                Stretch(start_s=60.0 * n, end_s=60.0 * (n + 1), queries=600, busy_s=60.0)
                for n in range(minutes)
            ]
            measured = soak_measurement([plan, *stretches], cell.batch)
            lines = "\n".join(line.model_dump_json() for line in [plan, *stretches])
            return record(
                name,
                Status.INCONCLUSIVE,
                "measured, not judged",
                run_id=self.run.id,
                tier=self.tier_name,
                measurement=measured,
                raw={"soak": self.run.keep(lines.encode(), ".jsonl")},
            )

        monkeypatch.setattr(Suite, "check", check)
        status = main(["soak", *arguments, "--run-dir", str(tmp_path / "run")])
        return status, capsys.readouterr(), RunDirectory(tmp_path / "run")

    return run


def test_a_soak_is_a_run_with_a_page(soaked):
    status, said, run = soaked("nonlocal_tiny-cpu-bs1", "--minutes", "2")
    assert status == 7
    assert "Retention of speed: 100.0 % (last 0.667 min over the first)" in said.out
    assert "Run report: On this host's CPU: 0 of 1 required checks passed" in said.out
    assert "Write a limit into models.nonlocal_tiny.devices.cpu.soak.bs1 of thresh" in said.out
    (kept,) = run.records()
    assert (kept.id, run.facts().is_over) == ("nonlocal_tiny-cpu-bs1:soak", True)
    page = (run.root / "report" / "report.html").read_text()
    assert "Retention of speed" in page
    assert json.loads((run.root / "report" / "report.json").read_text())["decision"] == "RUN REPORT"


def test_a_soak_speaks_the_language_that_is_asked_for(soaked):
    _status, said, run = soaked("nonlocal_tiny-cpu-bs1", "--minutes", "2", "--language", "zh")
    assert "速度保持率: 100.0 %" in said.out
    assert f"运行：{run.root}" in said.out
    assert said.out.count("运行报告：在本机 CPU 上：") == 2
    assert '<html lang="zh">' in (run.root / "report" / "report.html").read_text("utf-8")


def test_one_that_was_stopped_is_no_run_that_came_to_its_end(soaked):
    status, said, run = soaked("nonlocal_tiny-cpu-bs1", "--minutes", "15")
    assert (status, run.facts().is_over) == (1, False)
    again = "harness soak nonlocal_tiny-cpu-bs1 --tier nightly --minutes 15"
    assert f"$ {again}\n" in said.out
    assert again in (run.root / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resnet-cpu-bs1"], "has no cell resnet-cpu-bs1; there are: nonlocal_r50-cpu-bs1, "),
        (["nonlocal_tiny-cpu-bs1", "--minutes", "0"], "'0' is not a number of minutes"),
        (["nonlocal_tiny-cpu-bs1", "--tier", "yearly"], "has no tier 'yearly'"),
    ],
)
def test_what_cannot_be_soaked_is_told(soaked, arguments, said, capsys):
    try:
        status, captured, _ = soaked(*arguments)
    except SystemExit as error:
        status, captured = error.code, capsys.readouterr()
    assert (status, said in captured.err) == (2, True)


def test_an_offline_model_for_no_cell_is_refused(soaked, tmp_path, monkeypatch):
    (tmp_path / "x.om").touch()
    entry = f"[ascend.models.nonlocal_r50-ascend310p-bs2]\nom = 'x.om'\nsha256 = '{'0' * 64}'\n"
    (tmp_path / "site.toml").write_text(entry)
    monkeypatch.setenv("ACCEPTANCE_SITE", str(tmp_path / "site.toml"))
    status, said, _ = soaked("nonlocal_tiny-cpu-bs1")
    assert (status, "ascend.models.nonlocal_r50-ascend310p-bs2: " in said.err) == (2, True)
