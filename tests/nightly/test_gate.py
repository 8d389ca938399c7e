import dataclasses
import datetime
import json
import random
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

import harness
from benchmarks.simulated import START, SimulatedNight, simulated_run
from harness.__main__ import main
from harness.channels.gate_report import gate_lines
from harness.contract.tables import Waiver
from harness.contract.thresholds import thresholds_from_file
from harness.decide.problems import ExitStatus
from harness.nightly.absences import gaps, missing_night
from harness.nightly.comparison import Kind, Notice
from harness.nightly.gate import GateReport, gate_run
from harness.nightly.history import History
from harness.selftest.bends import bind
from harness.spec import Cell, Status
from tests.made import wide

ROOT = Path(harness.__file__).parent.parent
THRESHOLDS = wide(thresholds_from_file(ROOT / "thresholds.toml"))
CELL, OTHER = Cell("nonlocal_tiny", "cpu", 1), Cell("timesformer_tiny", "cpu", 1)
FAR = datetime.date(2100, 1, 1)
NAME = "nonlocal_tiny-cpu-bs1:throughput"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ACCEPTANCE_SITE", raising=False)
    monkeypatch.setenv("ACCEPTANCE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "history.sqlite")


class Nights:
    """Runs of one cell at 1 % noise, some of them frozen, all of them in the history."""

    def __init__(self, folder, history):
        self.folder, self.history, self.random = folder, history, random.Random(1)
        self.count = 0

    def run(self, speed=1.0, cells=(CELL,), **more):
        number = more.pop("number", self.count)
        night = SimulatedNight(number, speed * self.random.gauss(1.0, 0.01), **more)
        self.count = number + 1
        return simulated_run(self.folder, THRESHOLDS, cells, night)

    def add(self, count, speed=1.0, **more):
        runs = [self.run(speed, **more) for _ in range(count)]
        for run in runs:
            self.history.append(run)
        return runs

    def freeze(self, runs, folder=Path()):
        names = [str(run.root) for run in runs]
        words = ["--output", str(folder / "baseline.json"), "--reviewer", "R", "--reason", "1.0"]
        assert main(["baseline", "freeze", *names, *words]) == 0

    def gate(self, run, baseline=Path("baseline.json"), **more):
        return gate_run(run, THRESHOLDS, self.history, baseline, **more)


@pytest.fixture
def nights(tmp_path, history):
    return Nights(tmp_path / "runs", history)


@pytest.fixture(scope="module")
def twenty_nights(tmp_path_factory):
    """A folder with a baseline of five runs, and fifteen nights after it."""
    folder = tmp_path_factory.mktemp("settled")
    nights = Nights(folder / "runs", History(folder / "history.sqlite"))
    nights.freeze(nights.add(5), folder)
    nights.add(15)
    return folder


@pytest.fixture
def settled(nights, twenty_nights, tmp_path):
    shutil.copytree(twenty_nights, tmp_path, dirs_exist_ok=True)
    nights.random, nights.count = random.Random(2), 20
    return nights


@pytest.fixture(autouse=True)
def wide_contract(monkeypatch):
    """Let the command judge by the contract that the nights are made with."""
    monkeypatch.setattr("harness.cli.nightly.thresholds_from_file", lambda path: THRESHOLDS)


def kinds(report):
    return [notice.kind for notice in report.notices]


# Green


def test_a_night_like_the_others_is_green(settled):
    report = settled.gate(settled.run())
    assert (report.notices, report.status) == ((), ExitStatus.PASSED)
    assert (report.series_count, report.compared_count) == (1, 1)
    assert (
        "gate PASSED: run night-0020, 1 series, 1 of them in the baseline" in gate_lines(report)[0]
    )


def test_the_gate_adds_the_run_to_the_history_once(settled):
    run = settled.run()
    settled.gate(run)
    settled.gate(run)
    assert [night.run_id for night in settled.history.nights()][-1] == "night-0020"
    assert len(settled.history.nights()) == 21


# The contract


def test_a_floor_that_is_missed_is_red_whatever_the_nights_say(settled):
    report = settled.gate(settled.run(speed=0.2))
    assert Kind.CONTRACT in kinds(report)
    assert report.status is ExitStatus.FAILED


def test_an_edited_verdict_is_judged_by_what_was_measured(settled):
    run = settled.run(speed=0.2)
    path = run.root / "records.jsonl"
    record = json.loads(path.read_text())
    finding = {"name": "x", "measured": 1.0, "limit": 1.0, "comparison": ">=", "unit": ""}
    record["verdict"] = {
        "status": "pass",
        "reason": "fine",
        "findings": [finding | {"is_met": True}],
    }
    path.write_text(json.dumps(record) + "\n")
    bind(run.root)
    assert Kind.CONTRACT in kinds(settled.gate(run))


def test_a_run_that_was_stopped_is_red_and_not_in_the_history(settled):
    run = settled.run()
    run.write_facts(run.facts().model_copy(update={"is_over": False}))
    report = settled.gate(run)
    assert [notice.id for notice in report.notices] == ["(run)"]
    assert report.status is ExitStatus.FAILED
    assert len(settled.history.nights()) == 20


def test_a_waived_check_is_not_compared_and_shows_as_waived(settled):
    waiver = Waiver(
        cell=CELL.id, check="throughput", reason="slow", issue="#1", owner="O", expires=FAR
    )
    file = THRESHOLDS.file.model_copy(update={"waivers": (waiver,)})
    waiving = dataclasses.replace(THRESHOLDS, file=file)
    run = settled.run(speed=0.2)
    told = {one.kind for one in settled.gate(run).notices if one.id.startswith(NAME)}
    assert told == {Kind.CONTRACT, Kind.SUSPECT}
    report = gate_run(run, waiving, settled.history, Path("baseline.json"))
    # Of a run in which everything is waived nothing was shown, and it is not green.
    assert [one.id for one in report.notices] == ["(nothing)"]
    assert any(note.startswith(f"waived: {NAME} (#1, owner O") for note in report.notes)


# Worse than the baseline


def test_one_bad_night_is_a_suspect_and_says_what_changed_and_how_to_go_on(settled):
    settled.add(1, device_facts={"driver": "1.0"})
    report = settled.gate(settled.run(speed=0.88, device_facts={"driver": "2.0"}))
    assert report.status is ExitStatus.INCONCLUSIVE
    (notice,) = report.notices
    assert notice.kind is Kind.SUSPECT
    assert "2022-01-22 device.driver: 1.0 -> 2.0" in notice.changes
    text = "\n".join(gate_lines(report))
    assert "INCONCLUSIVE (suspect night): nonlocal_tiny" in text
    assert "one night alone is not red" in text
    assert "note: run it again: `pytest acceptance/`, then `harness gate`" in text


def test_a_suspect_is_run_again_as_it_was_but_in_a_folder_of_its_own(settled):
    run = settled.run(speed=0.88)
    command = ("pytest", "--run-dir", "a", "-k", "x y", "--run-dir=b", "acceptance/")
    run.write_facts(run.facts().model_copy(update={"command": command}))
    bind(run.root)
    (note,) = settled.gate(run).notes
    assert note.startswith(
        "run it again: `pytest -k 'x y' acceptance/`, then `harness gate`: twice"
    )


def test_a_second_run_confirms_a_suspect_or_clears_it(settled):
    assert settled.gate(settled.run(speed=0.88)).status is ExitStatus.INCONCLUSIVE
    assert settled.gate(settled.run()).status is ExitStatus.PASSED
    assert settled.gate(settled.run(speed=0.88)).status is not ExitStatus.PASSED
    assert settled.gate(settled.run(speed=0.88)).status is ExitStatus.FAILED


def test_one_drop_is_one_report(settled):
    settled.add(1, speed=0.88, device_facts={"driver": "2.0"})
    report = settled.gate(settled.run(speed=0.88, device_facts={"driver": "2.0"}))
    (notice,) = report.notices
    assert (notice.kind, notice.status) == (Kind.LOSS, Status.FAIL)
    assert re.search(
        r"the last \d+ nights: -\d+\.\d % against the frozen baseline, ", notice.reason
    )
    assert ", since 2022-01-21" in notice.reason
    assert "less than once in 200 simulated nights without a change" in notice.reason
    assert notice.changes == ("2022-01-21 device.driver: absent -> 2.0",)


def test_the_other_numbers_of_a_check_that_dropped_stand_in_its_report(nights):
    chip = (Cell("nonlocal_r50", "ascend310p", 1),)
    nights.freeze(nights.add(5, speed=1.3, cells=chip))
    nights.add(15, speed=1.3, cells=chip)
    nights.add(1, speed=1.14, cells=chip)
    (notice,) = nights.gate(nights.run(speed=1.14, cells=chip)).notices
    assert notice.kind is Kind.LOSS
    assert "; also device" in notice.reason


def test_where_nothing_changed_that_is_said(settled):
    text = "\n".join(gate_lines(settled.gate(settled.run(speed=0.88))))
    assert "nothing that is recorded changed about then" in text


def test_a_slow_drift_does_not_clear_itself(settled):
    for night in range(20):
        settled.add(1, speed=1.0 - 0.005 * night)
    report = settled.gate(settled.run(speed=0.9))
    assert kinds(report) == [Kind.LOSS]
    assert report.status is ExitStatus.FAILED


def test_a_faster_night_is_a_note(settled):
    settled.add(10, speed=1.05)
    report = settled.gate(settled.run(speed=1.05))
    assert report.status is ExitStatus.PASSED
    assert any("is better since 2022-01-2" in note for note in report.notes)


def test_a_cliff_before_the_noise_is_known_is_not_green(nights):
    nights.freeze(nights.add(3))
    report = nights.gate(nights.run(speed=0.85))
    assert kinds(report) == [Kind.SUSPECT]
    assert report.status is ExitStatus.INCONCLUSIVE
    reason = report.notices[0].reason
    assert "; the noise between nights is not known yet: run it again" in reason
    assert re.search(r"tonight: -\d+\.\d % against ", reason)


def test_a_loss_stays_red_until_it_is_back(settled):
    settled.add(70, speed=0.95, device_facts={"cann": "8"})
    report = settled.gate(settled.run(speed=0.95, device_facts={"cann": "8"}))
    (notice,) = report.notices
    assert ", since 2022-01-2" in notice.reason
    assert notice.changes == ("2022-01-21 device.cann: absent -> 8",)
    settled.add(15)
    assert settled.gate(settled.run()).status is ExitStatus.PASSED


def test_a_level_that_was_frozen_since_is_the_new_one(nights):
    nights.add(20)
    nights.freeze(nights.add(10, speed=0.9))
    assert nights.gate(nights.run(speed=0.9)).notices == ()


def test_the_first_nights_stand_in_for_a_baseline(nights):
    nights.add(20)
    nights.add(5, speed=0.9)
    report = nights.gate(nights.run(speed=0.9), None, has_baseline=False)
    (notice,) = report.notices
    assert notice.kind is Kind.LOSS
    assert "against the first nights, " in notice.reason
    assert "the ratio to a frozen baseline was left out, as asked" in report.notes


def test_a_new_class_of_hosts_cannot_be_judged_without_a_baseline(nights):
    nights.add(20)
    other = {"environment": {"cpu.model": "New CPU"}}
    nights.add(1, **other)
    report = nights.gate(nights.run(speed=0.8, **other), None, has_baseline=False)
    (notice,) = report.notices
    assert (notice.kind, notice.id, notice.status) == (Kind.NO_PAST, NAME, Status.NOT_RUN)
    assert "cannot be judged: 2 night(s) of it on this class of hosts, 12 are" in notice.reason
    nights.add(9, **other)
    assert nights.gate(nights.run(**other), None, has_baseline=False).notices == ()


# What is missing


def test_no_baseline_is_a_verdict_of_its_own(nights):
    nights.add(3)
    report = nights.gate(nights.run(), None)
    assert [(one.kind, one.id, one.status) for one in report.notices] == [
        (Kind.NO_BASELINE, NAME, Status.NOT_RUN)
    ]
    assert report.notices[0].reason.startswith(
        "no frozen baseline has it: `harness baseline freeze`"
    )
    assert report.status is ExitStatus.INCOMPLETE


def test_a_cell_that_the_baseline_lacks_is_named(settled):
    report = settled.gate(settled.run(cells=(CELL, OTHER)))
    assert [(one.kind, one.id) for one in report.notices] == [
        (Kind.NO_BASELINE, "timesformer_tiny-cpu-bs1:throughput")
    ]


@pytest.mark.parametrize("more", [{"weights": "seeded"}, {"is_emulated": True}])
def test_what_can_have_no_baseline_is_a_note(settled, tmp_path, more):
    run = settled.run(cells=(CELL, OTHER))
    path = run.root / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1] |= more
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bind(run.root)
    report = settled.gate(run)
    assert report.notices == ()
    assert any("1 check(s) of seeded weights or an emulator" in note for note in report.notes)


@pytest.mark.parametrize("is_in_history", [True, False])
def test_a_cell_that_is_gone_is_a_verdict_of_its_own(nights, is_in_history):
    frozen = [nights.run(cells=(CELL, OTHER)) for _ in range(5)]
    for run in frozen if is_in_history else ():
        nights.history.append(run)
    nights.freeze(frozen)
    report = nights.gate(nights.run())
    assert [(one.kind, one.id, one.status) for one in report.notices] == [
        (Kind.NO_CELL, "timesformer_tiny-cpu-bs1:throughput", Status.NOT_RUN)
    ]
    assert report.status is ExitStatus.INCOMPLETE


def test_a_cell_that_the_contract_misses_is_told_once(nights):
    nights.freeze(nights.add(5, cells=(CELL, OTHER)))
    run = nights.run(cells=(CELL, OTHER))
    path = run.root / "records.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    report = nights.gate(run)
    assert kinds(report) == [Kind.CONTRACT]


def test_a_night_without_a_run_is_a_verdict_of_its_own():
    now = START + datetime.timedelta(hours=30)
    (notice,) = missing_night(START.isoformat(), now, 26.0)
    assert (notice.kind, notice.status) == (Kind.NO_NIGHT, Status.NOT_RUN)
    assert "30 hours ago" in notice.reason
    assert list(missing_night(START.isoformat(), now, 31.0)) == []
    reason = "the history holds no run"
    assert list(missing_night(None, now, 26.0)) == [
        Notice(Kind.NO_NIGHT, "(night)", Status.NOT_RUN, reason)
    ]
    assert GateReport("", (notice,), ()).status is ExitStatus.INCOMPLETE


def test_nights_that_were_missed_before_are_noted(settled):
    report = settled.gate(settled.run(number=23))
    assert "no run between 2022-01-20 02:00 and 2022-01-24 02:00 UTC" in report.notes
    assert gaps(["2022-01-01T00:00:00+00:00"], 36.0) == []


def test_an_old_run_is_judged_in_its_own_time(settled):
    settled.add(5, speed=0.8)
    settled.add(1, tier="smoke")
    old = settled.folder / "night-0019"
    report = settled.gate(type(settled.run())(old))
    assert report.notices == ()
    assert "the history has 5 newer run(s), which were left out" in report.notes


# The command


def gate(*words):
    return main(["gate", *map(str, words), "--history", "history.sqlite"])


def test_the_command_ends_as_the_night_does(settled, capsys):
    assert gate(settled.run().root, "--baseline", "baseline.json") == 0
    assert gate(settled.run(speed=0.85).root, "--baseline", "baseline.json") == 7
    assert gate(settled.run(speed=0.85).root, "--baseline", "baseline.json") == 1
    assert gate(settled.run().root) == 6
    assert gate(settled.run().root, "--without-baseline") == 0


def test_the_site_names_history_and_baseline(settled, capsys):
    Path("site.toml").write_text('history = "history.sqlite"\nbaseline = "baseline.json"\n')
    assert main(["gate", str(settled.run().root)]) == 0
    assert "1 of them in the baseline" in capsys.readouterr().out


def test_the_site_names_the_language_of_the_gate(settled, capsys):
    Path("site.toml").write_text('baseline = "baseline.json"\nlanguage = "zh"\n')
    assert gate(settled.run(speed=0.88).root, "--markdown", "summary.md") == 7
    said = capsys.readouterr().out
    assert said.startswith("门禁无结论：运行 night-0020，1 个序列，其中 1 个在基线中，1 个问题")
    assert "无结论 (可疑夜次): nonlocal_tiny" in said
    assert "单独一夜不判为不通过；请重新运行" in said
    assert "当时前后没有记录到任何变化" in said
    assert "备注：请重新运行：`pytest acceptance/`" in said
    assert Path("summary.md").read_text("utf-8").startswith("## 门禁无结论")
    assert gate(settled.run(speed=0.88).root, "--language", "en") == 1
    assert capsys.readouterr().out.startswith("gate FAILED")


def test_without_a_run_the_newest_counts(settled, capsys):
    hours = 1e6
    words = ("--baseline", "baseline.json", "--night-hours", hours)
    assert gate(*words) == 0
    assert "gate PASSED: run night-0019" in capsys.readouterr().out
    assert gate("--night-hours", 26) == 6
    assert "NOT RUN (missing night): (night)" in capsys.readouterr().out
    settled.folder.rename("elsewhere")
    assert gate(*words) == 2
    assert "night-0019, is not in" in capsys.readouterr().err


def test_reports_go_where_they_are_asked_for(settled, capsys):
    run = settled.run(speed=0.85, device_facts={"driver": "<b>|2</b>"})
    words = ("--baseline", "baseline.json", "--markdown", "summary.md", "--junit", "gate.xml")
    Path("summary.md").write_text("before\n")
    assert gate(run.root, *words) == 7
    text = Path("summary.md").read_text()
    assert text.startswith("before\n## gate INCONCLUSIVE: run night-0020")
    assert "device.driver: absent -&gt; &lt;b&gt;\\|2&lt;/b&gt;" in text
    suite = ElementTree.parse("gate.xml").getroot()
    assert int(suite.get("failures")) == len(suite.findall("testsuite/testcase/failure")) > 0
    assert gate(settled.run().root, *words) == 0
    suite = ElementTree.parse("gate.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")
    assert gate(settled.run().root, *words[:2], "--junit", "nowhere/gate.xml") == 2


def test_a_baseline_of_another_tier_is_refused(settled, capsys):
    run = settled.run(tier="smoke")
    assert gate(run.root, "--baseline", "baseline.json") == 2
    assert "this run is of tier smoke" in capsys.readouterr().err


def test_a_history_has_to_be_named(settled, capsys):
    assert main(["gate", "runs/night-0000"]) == 2
    assert "no history is named: give --history FILE" in capsys.readouterr().err


def test_history_commands(settled, capsys):
    run = settled.run()
    assert main(["history", "add", str(run.root), "--history", "history.sqlite"]) == 0
    assert main(["history", "add", str(run.root), "--history", "history.sqlite"]) == 0
    shown = capsys.readouterr().out
    assert "added      night-0020" in shown
    assert "was there  night-0020" in shown
    settled.add(10, speed=0.9, device_facts={"cann": "8"})
    words = ["history", "show", "*processor*", "--history", "history.sqlite"]
    assert main([*words, "--picture", "trend.svg"]) == 0
    shown = capsys.readouterr().out
    assert "nonlocal_tiny-cpu-bs1:throughput:processor.x_unoptimised@Simulated-CPU-8cpu" in shown
    assert "    device.cann: absent -> 8" in shown
    assert "|" in shown
    picture = Path("trend.svg").read_text()
    assert "processor.x_unoptimised" in picture or "<path" in picture
    assert main([*words, "--picture", "trend.bmp"]) == 2
    assert main([*words, "--picture", "nowhere/trend.png"]) == 2
    assert main(["history", "show", "resnet*", "--history", "history.sqlite"]) == 2
    assert "has no series that fits 'resnet*'" in capsys.readouterr().err


def test_a_baseline_is_shown(settled, capsys):
    assert main(["baseline", "show", "baseline.json"]) == 0
    shown = capsys.readouterr().out
    assert "by R: 1.0" in shown
    assert "(5 run(s))" in shown
