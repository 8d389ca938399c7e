import json
import re
import shutil
import textwrap
import types
import xml.etree.ElementTree as ET

import pytest

from harness import registry
from harness.__main__ import main
from harness.contract.thresholds import thresholds_from_file
from harness.device import DeviceState, Presence
from harness.errors import RecordError, ThresholdsError
from harness.nightly.history import History
from harness.record.record import RunDirectory
from harness.spec import CHECKS, Status
from tests.made import ROOT, measured, small_repository, tier

pytest_plugins = ["pytester"]

ABSENT = DeviceState(Presence.ABSENT, "npu-smi is not on PATH")
CANN = type(registry.device("ascend310p"))

# Four models, batch 1, on the processor and on a chip that is not here: whatever else is declared.
MODELS = ("nonlocal_r50", "nonlocal_tiny", "timesformer", "timesformer_tiny")
CELLS = [f"{model}-{device}-bs1" for device in ("cpu", "ascend310p") for model in MODELS]
TIERS = tier("nightly", CELLS, ["*_tiny-*:*", "timesformer-*:export"]) + tier(
    "smoke", ["*_tiny-cpu-bs1"], ["*_tiny-cpu-bs1:*"]
)

# Stands in for the suite: the outcome of a check is what outcomes.json says, or else a pass.
CONFTEST = """
import json
import os
from pathlib import Path

import pydantic
import pytest

from harness import registry
from harness.judge.verdict import Finding, Verdict
from harness.pytest_plugin.plugin import _run_directory
from harness.record.record import CheckMeasurement, Record
from harness.device import Presence
from harness.spec import Status

HERE = Path(__file__).parent
MEASURED = pydantic.TypeAdapter(CheckMeasurement)


class StubSuite:
    def __init__(self, run_id):
        self.run_id = run_id
        self.outcomes = json.loads((HERE / "outcomes.json").read_text())

    def check(self, cell, check):
        name = f"{cell.id}:{check}"
        state = registry.device(cell.device).probe()
        is_present = state.presence is Presence.PRESENT
        status, reason = "pass", "all is well"
        if not is_present:
            status, reason = "not run", f"{cell.device} is not on this machine: {state.detail}"
        told = self.outcomes.get(name, {})
        status, reason = told.get("status", status), told.get("reason", reason)
        if status == "raise":
            raise RuntimeError("the stub broke")
        if status == "interrupt":
            raise KeyboardInterrupt
        if status == "crash":
            os._exit(3)
        measured = json.loads((HERE / "measured.json").read_text())
        met = Finding(
            name="x", measured=2.0, limit=1.0, comparison=">=", unit="", is_met=status == "pass"
        )
        return Record(
            run_id=told.get("run_id", self.run_id),
            tier="nightly",
            model=cell.model,
            device=cell.device,
            batch=cell.batch,
            check=check,
            verdict=Verdict(status=Status(status), reason=reason, findings=(met,)),
            measurement=MEASURED.validate_json(json.dumps(measured[check])) if status in ("pass", "fail") else None,
            raw=told.get("raw", {}),
            subjects={"inputs": (HERE / "inputs").read_text()},
            device_facts={"process": str(os.getpid())},
            is_device_present=is_present,
            is_emulated=told.get("emulated", False),
            started="2026-01-01T00:00:00+00:00",
            seconds=0.1,
        )


@pytest.fixture(scope="session")
def acceptance_suite(request):
    return StubSuite(_run_directory(request.config).id)
"""


class Site:
    """A small repository with the acceptance tests of this one and a suite of given outcomes."""

    def __init__(self, pytester, monkeypatch):
        self.pytester = pytester
        self.root = pytester.path
        small_repository(self.root, TIERS, CONFTEST, monkeypatch)
        (self.root / "pytest.toml").write_text(
            '[pytest]\nstrict = true\nfilterwarnings = ["error"]\n'
            'addopts = ["-ra", "--import-mode=importlib"]\njunit_family = "xunit2"\n'
        )
        self.outcomes()
        # So that processes of their own take the same harness.
        monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def outcomes(self, **by_check):
        """Tell outcomes by ``model_check`` of the processor, such as ``nonlocal_tiny_export``."""
        told = {}
        for key, outcome in by_check.items():
            model, _, check = key.rpartition("_")
            outcome = outcome if isinstance(outcome, dict) else {"status": outcome}
            told[f"{model}-cpu-bs1:{check}"] = {"reason": f"told so for {check}", **outcome}
        (self.root / "outcomes.json").write_text(json.dumps(told))
        values = {check: json.loads(measured(check).model_dump_json()) for check in CHECKS}
        (self.root / "measured.json").write_text(json.dumps(values))
        inputs = thresholds_from_file(self.root / "thresholds.toml").file.inputs
        (self.root / "inputs").write_text(inputs or "")

    def run(self, *arguments):
        return self.pytester.runpytest_inprocess(*arguments)

    def spawn(self, *arguments):
        return self.pytester.runpytest_subprocess(*arguments)

    @property
    def runs(self):
        folder = self.root / "runs"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    @property
    def the_run(self):
        (only,) = self.runs
        return RunDirectory(only)

    @property
    def statuses(self):
        return {record.id: str(record.verdict.status) for record in self.the_run.records()}


@pytest.fixture
def site(pytester, monkeypatch):
    monkeypatch.setattr(CANN, "probe", lambda self: ABSENT)
    return Site(pytester, monkeypatch)


def summary(result):
    """What stands under the headline of the suite, in one text."""
    text = result.stdout.str()
    (headline,) = re.findall(r"=+ acceptance =+", text)
    return text[text.index(headline) :]


# Outcomes and exit statuses


def test_all_that_is_required_passes(site):
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 0
    text = summary(result)
    assert re.search(r"nonlocal_tiny-cpu-bs1 +pass +pass +pass \+1 clips +pass \+100 %", text)
    assert f"run: {site.the_run.root}" in text
    assert set(site.statuses.values()) == {"pass"}
    assert len(site.statuses) == 16
    assert "FAIL" not in text
    assert "NOT RUN" not in text


@pytest.mark.parametrize(
    ("status", "expected"),
    [("fail", 1), ("invalid", 1), ("error", 1), ("inconclusive", 7), ("not run", 6)],
)
def test_one_check_that_does_not_pass(site, status, expected):
    site.outcomes(nonlocal_tiny_parity=status)
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == expected
    headline = f"{status.upper()}: nonlocal_tiny-cpu-bs1:parity\n    told so for parity"
    assert headline in summary(result)
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 15
    assert outcomes.get("skipped", outcomes.get("failed")) == 1
    assert site.the_run.facts().broken == {}


def test_missing_weights_of_a_required_check_come_first(site):
    site.outcomes(
        timesformer_tiny_accuracy={"status": "not run", "reason": "checkpoint x.pth is missing"},
        nonlocal_tiny_export="fail",
    )
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    text = summary(result)
    assert text.splitlines()[2].split()[:1] == ["timesformer_tiny-cpu-bs1"]
    first = "NOT RUN: timesformer_tiny-cpu-bs1:accuracy\n    checkpoint x.pth is missing"
    assert text.index(first) < text.index("FAIL: nonlocal_tiny-cpu-bs1:export")


def test_what_is_not_required_may_be_missing_and_is_listed(site):
    site.outcomes(timesformer_accuracy={"status": "not run", "reason": "no Kinetics-400"})
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 0
    text = summary(result)
    assert "Not required in this run:\nNOT RUN: timesformer-cpu-bs1:accuracy" in text
    assert "no Kinetics-400" in text


def test_red_that_nobody_required_is_red(site):
    site.outcomes(timesformer_accuracy="fail")
    assert site.run("-m", "cpu", "acceptance").ret == 1


def test_inconclusive_beside_a_failure_is_a_failure(site):
    site.outcomes(nonlocal_tiny_throughput="inconclusive", nonlocal_tiny_export="fail")
    assert site.run("-m", "cpu", "acceptance").ret == 1


def test_a_named_device_that_is_absent_is_red_and_its_probe_is_told(site):
    result = site.run("-m", "ascend310p", "acceptance")
    assert result.ret == 6
    text = summary(result)
    assert "ascend310p is not on this machine: npu-smi is not on PATH" in text
    assert text.count("NOT RUN:") == 2
    assert "Not required in this run:\nNOT RUN: nonlocal_r50-ascend310p-bs1:" in text


def test_a_laptop_judges_its_processor_and_lists_the_rest(site):
    result = site.run("acceptance")
    assert result.ret == 0
    text = summary(result)
    assert re.search(r"nonlocal_tiny-cpu-bs1 +pass +pass", text)
    assert re.search(r"nonlocal_tiny-ascend310p-bs1 +not run", text)
    assert text.index("nonlocal_tiny-ascend310p-bs1") < text.index("nonlocal_tiny-cpu-bs1")
    assert "Not required in this run:\nNOT RUN: nonlocal_tiny-ascend310p-bs1:" in text
    assert "ascend310p is not on this machine: npu-smi is not on PATH" in text
    facts = site.the_run.facts()
    assert "nonlocal_tiny-ascend310p-bs1:export" in facts.excused
    assert all("-cpu-" in name for name in facts.must_pass)


def test_a_required_device_that_is_absent_is_red(site):
    result = site.run("--require-devices", "cpu, ascend310p", "acceptance")
    assert result.ret == 6
    assert re.search(r"NOT RUN: .*nonlocal_tiny-ascend310p-bs1:\S*export", summary(result))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tier", "smoke", "--require-devices", "ascend310p"),
        ("-m", "cpu", "--require-devices", "ascend310p"),
        ("-m", "smoke and (cpu or ascend310p)"),
    ],
)
def test_a_named_device_of_which_nothing_would_run_is_red(site, arguments):
    result = site.run(*arguments, "acceptance")
    assert result.ret == 6
    assert "NOT RUN: *-ascend310p-*:*" in summary(result)


def test_a_broken_device_is_not_excused(site, monkeypatch):
    broken = DeviceState(Presence.BROKEN, "the driver does not answer")
    monkeypatch.setattr(CANN, "probe", lambda self: broken)
    result = site.run("acceptance")
    assert result.ret == 6
    assert "the driver does not answer" in summary(result)


def test_the_tools_of_the_site_decide_whether_a_device_is_excused(site, monkeypatch):
    found = DeviceState(Presence.BROKEN, "the npu-smi of site.toml says so")
    monkeypatch.setattr(CANN, "at", lambda self, _: types.SimpleNamespace(probe=lambda: found))
    assert site.run("acceptance").ret == 6


def test_absent_devices_alone_are_not_green(site):
    result = site.run("-m", "not cpu", "acceptance")
    assert result.ret == 6
    open_part = summary(result).partition("Not required in this run:")[0]
    assert re.search(r"NOT RUN: .*nonlocal_tiny-ascend310p-bs1:\S*export", open_part)
    assert "ascend310p is not on this machine: npu-smi is not on PATH" in open_part


def test_a_run_that_requires_nothing_is_not_green(site):
    result = site.run("-m", "cpu and accuracy", "--model", "timesformer", "acceptance")
    assert result.ret == 6
    assert "NOT RUN: *-cpu-*:*" in summary(result)
    result = site.run("-m", "accuracy", "--model", "timesformer", "acceptance")
    assert result.ret == 6
    assert "no check was required, so nothing was shown" in summary(result)


def test_an_emulator_is_told(site):
    site.outcomes(nonlocal_tiny_export={"status": "pass", "emulated": True})
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 0
    assert "EMULATED: no device was there; this can never be signed off" in summary(result)


# Waivers

WAIVER = """
[[waivers]]
cell = "nonlocal_tiny-cpu-bs1"
check = "parity"
reason = "overflows in fp16"
issue = "NPU-17"
owner = "mei"
expires = 2100-01-01
"""


def waive(site, text=WAIVER):
    path = site.root / "thresholds.toml"
    path.write_text(path.read_text() + text)


def test_a_known_failure_shows_as_waived(site, capsys):
    waive(site)
    site.outcomes(nonlocal_tiny_parity="fail")
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": 15, "xfailed": 1, "deselected": 16}
    text = summary(result)
    assert re.search(r"nonlocal_tiny-cpu-bs1 +pass +waived +pass", text)
    known = "    overflows in fp16 (NPU-17, owner mei, until 2100-01-01)"
    assert f"WAIVED: nonlocal_tiny-cpu-bs1:parity\n{known}" in text
    assert site.statuses["nonlocal_tiny-cpu-bs1:parity"] == "fail"


def test_a_run_speaks_the_language_that_is_asked_for_and_keeps_its_records_in_english(site):
    waive(site)
    site.outcomes(nonlocal_tiny_parity="fail")
    words = ("-m", "cpu", "--language", "zh", "--history", "h.sqlite", "--run-dir", "r1")
    result = site.run(*words, "acceptance")
    text = summary(result)
    assert re.search(r"nonlocal_tiny-cpu-bs1 +通过 +已豁免 +通过", text)
    known = "    overflows in fp16 (NPU-17，负责人 mei，有效期至 2100-01-01)"
    assert f"已豁免: nonlocal_tiny-cpu-bs1:parity\n{known}" in text
    assert "历史：h.sqlite" in text
    assert re.search(r"验收：级别 \w+，thresholds.toml \w+，8 个单元", result.stdout.str())
    assert f"运行：{site.root / 'r1'}" in text
    assert re.search(r"nonlocal_tiny-cpu-bs1 +一致性 +已豁免", result.stdout.str())
    kept = {one.id: one.verdict.status for one in RunDirectory(site.root / "r1").records()}
    assert kept["nonlocal_tiny-cpu-bs1:parity"] == "fail"


def test_a_waived_check_that_passes_is_red_once(site):
    waive(site)
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    assert result.parseoutcomes() == {"passed": 15, "failed": 1, "deselected": 16}
    assert summary(result).count("passes though it is waived: remove the waiver") == 1
    assert "# no [[waivers]] is needed any more" in summary(result)
    assert site.the_run.facts().broken == {}


def test_an_expired_waiver_covers_nothing(site):
    waive(site, WAIVER.replace("2100", "2020"))
    site.outcomes(nonlocal_tiny_parity="fail")
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    assert result.parseoutcomes() == {"passed": 15, "failed": 1, "deselected": 16}
    assert "the waiver expired on 2020-01-01" in summary(result)


def test_a_failing_run_prints_waivers_to_fill_in(site):
    site.outcomes(nonlocal_tiny_parity="fail")
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    text = summary(result)
    table = text[text.index("[[waivers]]\n") : text.index("Run report: ")]
    waive(site, table)
    with pytest.raises(ThresholdsError, match=r"waivers\.0\.issue"):
        thresholds_from_file(site.root / "thresholds.toml")


# Ways to leave something out


@pytest.mark.parametrize(
    "arguments",
    [
        ("-k", "not parity", "acceptance"),
        ("-k", "nothing", "acceptance"),
        ("acceptance/test_export.py",),
        ("acceptance/test_export.py::test_export[nonlocal_tiny-cpu-bs1]",),
        ("--deselect", "acceptance/test_parity.py", "acceptance"),
        ("--ignore", "acceptance/test_parity.py", "acceptance"),
        ("--ignore", "acceptance", "."),
        ("--setup-plan", "acceptance"),
    ],
)
def test_what_was_left_out_is_red(site, arguments):
    result = site.run("-m", "cpu", *arguments)
    assert result.ret == 6
    text = summary(result)
    assert re.search(r"NOT RUN: .*nonlocal_tiny-cpu-bs1:.*parity", text)
    assert "required, but it was not collected or was deselected" in text


def test_a_narrower_expression_asks_for_less(site):
    assert site.run("-m", "cpu and export", "acceptance/test_export.py").ret == 0


def test_nothing_collected_is_red(site):
    for path in (site.root / "acceptance").glob("test_*.py"):
        path.unlink()
    result = site.run("acceptance")
    assert result.ret == 6
    result.stdout.fnmatch_lines(["*no tests ran*"])


def test_the_last_failed_alone_are_red(site):
    site.outcomes(nonlocal_tiny_parity="fail")
    assert site.run("-m", "cpu", "acceptance").ret == 1
    site.outcomes()
    result = site.run("-m", "cpu", "--lf", "acceptance")
    assert result.ret == 6
    assert result.parseoutcomes()["passed"] == 1


@pytest.mark.parametrize(("option", "expected"), [("-x", 1), ("--maxfail=1", 1), ("--sw", 2)])
def test_stopping_at_the_first_failure_is_red(site, option, expected):
    site.outcomes(timesformer_tiny_accuracy="inconclusive")
    result = site.run("-m", "cpu", option, "acceptance")
    # pytest ends with 1 or 2, and what did not run comes before what is inconclusive.
    assert result.ret in (expected, 6)
    assert "NOT RUN: " in summary(result)


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("@pytest.mark.skip(reason='later')", 6),
        ("@pytest.mark.skipif(True, reason='later')", 6),
        ("@pytest.mark.xfail(run=False, reason='known')", 6),
        ("@pytest.mark.xfail(strict=False, reason='known')", 1),
        ("@pytest.mark.xfail(strict=True, reason='known')", 1),
    ],
)
def test_a_marker_makes_nothing_green(site, mark, expected):
    path = site.root / "acceptance" / "test_parity.py"
    path.write_text(path.read_text().replace("@pytest.mark.parity", f"{mark}\n@pytest.mark.parity"))
    site.outcomes(nonlocal_tiny_parity="fail")
    assert site.run("-m", "cpu", "acceptance").ret == expected


def test_an_expected_failure_that_passes_is_red(site):
    path = site.root / "acceptance" / "test_parity.py"
    mark = "@pytest.mark.xfail(reason='known')"
    path.write_text(path.read_text().replace("@pytest.mark.parity", f"{mark}\n@pytest.mark.parity"))
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    assert "XPASS(strict)" in summary(result)
    assert "known" in summary(result)


# Tests that are not as they should be


def write_parity_test(site, body, more=""):
    body = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    (site.root / "acceptance" / "test_parity.py").write_text(
        f"import pytest\n\n{more}\n\n@pytest.mark.parity\ndef test_parity(check, cell):\n{body}\n"
    )


def test_a_test_that_raises_is_red(site):
    site.outcomes(nonlocal_tiny_parity="raise")
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    text = summary(result)
    assert "ERROR: acceptance/test_parity.py::test_parity[nonlocal_tiny-cpu-bs1]" in text
    assert "call failed: " in text
    assert "RuntimeError" in text
    assert "NOT RUN: nonlocal_tiny-cpu-bs1:parity" in text
    assert list(site.the_run.facts().broken) == [
        "acceptance/test_parity.py::test_parity[nonlocal_tiny-cpu-bs1]"
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", 6),
        ("check('export')", 1),
        ("check('parity')\ncheck('parity')", 0),
        ("check('parity')\nassert False", 1),
        ("check('parity')\npytest.skip('hidden')", 0),
        ("pytest.skip('hidden')", 6),
        ("pytest.exit('enough', returncode=0)", 6),
        ("import os\ncheck('accuracy')\ncheck('parity')", 0),
        ("check('none')", 1),
    ],
)
def test_a_careless_test_cannot_be_green_unseen(site, body, expected):
    write_parity_test(site, body)
    assert site.run("-m", "cpu and (parity or export)", "acceptance").ret == expected


def test_a_test_that_hides_its_failure_is_red(site):
    site.outcomes(nonlocal_tiny_parity="fail")
    write_parity_test(site, "try:\n    check('parity')\nexcept BaseException:\n    pass")
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    assert "FAIL: nonlocal_tiny-cpu-bs1:parity" in summary(result)
    assert "failed" not in result.parseoutcomes()


@pytest.mark.parametrize(
    ("fixture", "when", "status"),
    [
        ("def broken():\n    raise RuntimeError('no')", "setup", 1),
        ("def broken():\n    yield\n    raise RuntimeError('no')", "teardown", 1),
    ],
)
def test_a_fixture_that_raises_is_red(site, fixture, when, status):
    write_parity_test(site, "check('parity')", f"@pytest.fixture(autouse=True)\n{fixture}")
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == status
    assert f"{when} failed: " in summary(result)
    assert len(site.the_run.facts().broken) == 4


def test_a_file_that_cannot_be_imported_is_red(site):
    (site.root / "acceptance" / "test_parity.py").write_text("import nothing_of_that_name\n")
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 2
    result = site.run("-m", "cpu", "--continue-on-collection-errors", "acceptance")
    assert result.ret == 1
    assert "ERROR: acceptance/test_parity.py\n    collection failed: " in summary(result)


def test_a_check_that_is_tried_again_is_red(site):
    result = site.run("-m", "cpu", "--keep-duplicates", "acceptance", "acceptance/test_parity.py")
    assert result.ret == 1
    text = summary(result)
    assert re.search(r"ERROR: .*nonlocal_tiny-cpu-bs1:parity", text)
    assert "was run 2 times" in text
    assert len(site.statuses) == 16


def test_a_record_of_another_run_is_red(site):
    site.outcomes(nonlocal_tiny_parity={"status": "pass", "run_id": "yesterday"})
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    text = summary(result)
    assert "ERROR: nonlocal_tiny-cpu-bs1:parity" in text
    assert "its record is of run yesterday, not of this one" in text
    assert "nonlocal_tiny-cpu-bs1:parity" not in site.statuses


def test_a_failing_test_elsewhere_is_red(site):
    (site.root / "test_more.py").write_text("def test_it():\n    assert 1 == 2\n")
    result = site.run("-m", "cpu or not cpu", ".")
    assert result.ret == 1
    assert "ERROR: test_more.py::test_it" in summary(result)


def test_timings_that_cannot_be_read_are_red(site):
    site.outcomes(nonlocal_tiny_throughput={"status": "pass", "raw": {"latencies": "0" * 64}})
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    assert "ERROR: benchmark.json\n    cannot be written: " in summary(result)


def test_a_record_that_cannot_be_kept_is_red(site, monkeypatch):
    keep = RunDirectory.append

    def full(run, record):
        if record.id == "nonlocal_tiny-cpu-bs1:parity":
            raise RecordError("records.jsonl cannot be written: No space left on device")
        keep(run, record)

    monkeypatch.setattr(RunDirectory, "append", full)
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    said = "ERROR: nonlocal_tiny-cpu-bs1:parity\n    records.jsonl cannot be written: No space left"
    assert said in summary(result)
    assert "nonlocal_tiny-cpu-bs1:export" in site.statuses


def test_a_run_whose_end_cannot_be_kept_is_red(site, monkeypatch):
    write = RunDirectory.write_facts

    def full(run, facts):
        if facts.is_over:
            raise RecordError("run.json cannot be written: No space left on device")
        write(run, facts)

    monkeypatch.setattr(RunDirectory, "write_facts", full)
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    assert "ERROR: run.json\n    run.json cannot be written: No space left" in summary(result)
    assert not site.the_run.facts().is_over


def test_a_locale_without_utf8_changes_no_verdict(site, monkeypatch):
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    reason = "zu groß: 大"
    site.outcomes(nonlocal_tiny_parity={"status": "fail", "reason": reason})
    result = site.spawn("-m", "cpu", "acceptance", "--language", "zh")
    assert result.ret == 1
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert reason in {record.verdict.reason for record in site.the_run.records()}


def test_another_plugin_cannot_make_it_green(site):
    site.outcomes(nonlocal_tiny_parity="inconclusive")
    with (site.root / "conftest.py").open("a") as file:
        file.write("\n\ndef pytest_sessionfinish(session):\n    session.exitstatus = 0\n")
    assert site.run("-m", "cpu", "acceptance").ret == 7


def test_a_red_session_without_a_problem_is_kept_as_one(site):
    with (site.root / "conftest.py").open("a") as file:
        file.write(
            "\n\n@pytest.hookimpl(wrapper=True)\ndef pytest_runtestloop(session):\n"
            "    yield\n    session.testsfailed = 1\n    return True\n"
        )
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 1
    assert "ERROR: pytest\n    ended with exit status 1" in summary(result)


def test_a_hook_that_raises_is_red(site):
    with (site.root / "conftest.py").open("a") as file:
        file.write("\n\ndef pytest_runtest_logreport(report):\n    raise RuntimeError('hook')\n")
    result = site.run("-m", "cpu", "acceptance")
    assert result.ret == 3
    facts = site.the_run.facts()
    assert not facts.is_over
    assert "(run)" in facts.faults


def test_the_part_that_decides_cannot_be_blocked(site):
    result = site.run("-p", "no:acceptance-controller", "--setup-plan", "acceptance")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*acceptance-controller decides the outcome; do not block it*"])


@pytest.mark.parametrize("arguments", [(), ("-m", "cpu"), ("-k", "nothing"), ("--setup-plan",)])
def test_without_the_plugin_nothing_is_green(site, arguments):
    assert site.run("-p", "no:acceptance", *arguments, "acceptance").ret != 0


def test_acceptance_tests_of_another_folder_do_not_run(site):
    shutil.copytree(site.root / "acceptance", site.root / "elsewhere")
    result = site.run("-m", "cpu", "elsewhere")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*acceptance checks run from the folder acceptance/ only*"])
    assert site.runs == []


# Options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "resnet"), "*no model resnet; there are: *nonlocal_tiny*"),
        (("--batch-size", "3"), "*no batch size 3; there are: 1*"),
        (("--batch-size", "all"), "*--batch-size: invalid int value: 'all'*"),
        (("--tier", "weekly"), "*no tier 'weekly'; there are: nightly, smoke*"),
        (("--tier", "release"), "*no tier 'release'; there are: nightly, smoke*"),
        (("--require-devices", "tpu"), "*no device is called 'tpu'; there are: ascend310,*"),
        (("-m", "cpu and"), "*wrong expression passed to -m*"),
        (("--thresholds", "none.toml"), "*none.toml cannot be read: No such file*"),
        (("--sessions", "0"), "*--sessions: 0 is not above zero*"),
        (("--sessions", "many"), "*--sessions: invalid int value: 'many'*"),
        (("--budget-minutes", "inf"), "*--budget-minutes: inf is not above zero*"),
        (("--site", "none.toml"), "*cannot read the site file none.toml*"),
    ],
)
def test_options_that_cannot_be_used(site, arguments, words):
    result = site.run(*arguments, "acceptance")
    assert result.ret == 4
    result.stderr.fnmatch_lines([words])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert site.runs == []


def test_malformed_thresholds_are_named_without_a_traceback(site):
    path = site.root / "thresholds.toml"
    text = re.sub(r"bs1 = \{ golden = [\d.]+", 'bs1 = { golden = "fast"', path.read_text(), count=1)
    path.write_text(text)
    result = site.run("acceptance")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*models.nonlocal_r50.devices.cpu.throughput.bs1.golden: *"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert site.runs == []


def test_an_offline_model_for_no_cell_is_named_before_anything_runs(site):
    (site.root / "x.om").touch()
    entry = f"[ascend.models.nonlocal_r50-ascend310p-bs2]\nom = 'x.om'\nsha256 = '{'0' * 64}'\n"
    (site.root / "site.toml").write_text(entry)
    result = site.run("acceptance")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*site.toml: ascend.models.nonlocal_r50-ascend310p-bs2: *"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert site.runs == []


def test_models_and_batches_narrow_the_run(site):
    result = site.run("--model", "timesformer_tiny", "--batch-size", "1", "-m", "cpu", "acceptance")
    assert result.ret == 0
    assert {name.partition(":")[0] for name in site.statuses} == {"timesformer_tiny-cpu-bs1"}


def test_a_tier_is_chosen_by_option_or_marker(site):
    for arguments in (("--tier", "smoke"), ("-m", "smoke")):
        result = site.run(*arguments, "acceptance")
        assert result.ret == 0
        result.stdout.fnmatch_lines(["acceptance: tier smoke, thresholds.toml *, 2 cells"])


def test_more_timing_is_kept_in_the_facts_and_takes_nothing_away(site):
    options = ("-m", "cpu and export", "--sessions", "9", "--budget-minutes", "2.5")
    assert site.run(*options, "acceptance").ret == 0
    facts = site.the_run.facts()
    assert (facts.sessions, facts.budget_minutes) == (9, 2.5)
    whole = thresholds_from_file(site.root / "thresholds.toml")
    cell = whole.cells()[0]
    plan = whole.with_more_timing(9, 2.5).tier("smoke").timing_for(cell)
    assert (plan.sessions_min, plan.sessions_max, plan.budget_minutes) == (1, 9, 2.5)
    same = plan.with_more(2, 0.0)
    assert same == plan
    assert [plan.is_spent(*spent) for spent in ((9, 150.0), (9, 149.0), (8, 150.0))] == [
        True,
        False,
        False,
    ]


def test_tiers_are_declared_in_the_thresholds_alone(site):
    path = site.root / "thresholds.toml"
    path.write_text(path.read_text().replace("[tiers.smoke", "[tiers.hourly"))
    for arguments in (("--tier", "hourly"), ("-m", "hourly")):
        result = site.run(*arguments, "acceptance")
        assert result.ret == 0
        result.stdout.fnmatch_lines(["acceptance: tier hourly, thresholds.toml *, 2 cells"])
    result = site.run("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.hourly: cells of the hourly tier"])
    assert "smoke" not in result.stdout.str()


def test_a_run_starts_with_the_floors_that_are_within_noise(site):
    result = site.run("-m", "cpu", "acceptance")
    warning = "acceptance: warning: models.nonlocal_r50.devices.cpu.top1: the floor of 14,174 of*"
    result.stdout.fnmatch_lines([warning])
    assert "warning: models" not in site.run("-m", "smoke", "acceptance").stdout.str()


# Exports alone: the stand-in measures nothing else by its schema.
@pytest.mark.parametrize(("outcome", "status"), [("pass", 0), ("fail", 1)])
def test_every_run_is_added_to_the_history_where_one_is_kept(site, outcome, status):
    site.outcomes(nonlocal_tiny_export=outcome)
    words = ("-m", "cpu and export", "--history", "h.sqlite", "--run-dir", "r1", "acceptance")
    result = site.run(*words)
    assert result.ret == status
    assert "history: h.sqlite" in summary(result)
    (night,) = History(site.root / "h.sqlite").nights()
    assert night.run_id == "r1"


def test_the_site_may_name_the_history(site):
    (site.root / "site.toml").write_text('history = "kept.sqlite"\n')
    site.run("-m", "cpu and export", "acceptance")
    assert len(History(site.root / "kept.sqlite").nights()) == 1


def test_a_run_that_the_history_does_not_take_is_red(site):
    (site.root / "h.sqlite").write_bytes(b"something else" * 100)
    result = site.run("-m", "cpu and export", "--history", "h.sqlite", "acceptance")
    assert result.ret == 1
    assert "NOT IN THE HISTORY: the history h.sqlite cannot be used" in summary(result)


def test_a_run_folder_is_taken_once(site):
    arguments = ("-m", "cpu", "--run-dir", "mine/run", "acceptance")
    assert site.run(*arguments).ret == 0
    held = {path: path.read_bytes() for path in (site.root / "mine").rglob("*") if path.is_file()}
    site.outcomes(nonlocal_tiny_parity="fail")
    result = site.run(*arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*holds a run already; name another folder, nothing was changed"])
    after = {path: path.read_bytes() for path in (site.root / "mine").rglob("*") if path.is_file()}
    assert after == held


def test_what_only_lists_probes_nothing_and_makes_no_folder(site, monkeypatch):
    probes = []
    for device in ("cpu", "ascend310p"):
        kind = type(registry.device(device))
        monkeypatch.setattr(kind, "probe", lambda self: probes.append(self))
    result = site.run("--collect-only", "-q", "acceptance")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["acceptance/test_parity.py::test_parity?nonlocal_tiny-cpu-bs1?"])
    options = ("--markers", "--fixtures", "--fixtures-per-test", "--cache-show", "--help")
    for option in (*options, "--version"):
        assert site.run(option, "acceptance").ret == 0
    assert probes == []
    assert site.runs == []


def test_markers_are_told_and_strict(site):
    result = site.run("--markers", "acceptance")
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.ascend310p: cells on an Ascend 310P*",
            "@pytest.mark.export: the export check of a cell",
            "@pytest.mark.smoke: cells of the smoke tier",
        ]
    )


def test_other_tests_are_left_alone(site):
    folder = site.root / "tests"
    folder.mkdir()
    (folder / "test_other.py").write_text("def test_it():\n    pass\n")
    (folder / "test_own.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('cell', ['a'])\ndef test_own(cell):\n    pass\n"
    )
    (site.root / "thresholds.toml").write_text("broken")
    result = site.run("tests")
    assert result.ret == 0
    assert "acceptance:" not in result.stdout.str()
    assert "= acceptance =" not in result.stdout.str()
    assert site.run("-k", "nothing", "tests").ret == 5
    (folder / "test_other.py").write_text("def test_it():\n    assert False\n")
    assert site.run("tests").ret == 1
    assert site.runs == []


def test_without_arguments_inside_the_folder(site, monkeypatch):
    monkeypatch.chdir(site.root / "acceptance")
    result = site.run("-m", "cpu", "--run-dir", "../mine")
    assert result.ret == 0
    assert (site.root / "mine" / "records.jsonl").exists()


# What a run leaves


def test_the_folder_of_a_run(site):
    site.outcomes(nonlocal_tiny_parity="fail")
    site.run("-m", "cpu", "acceptance")
    run = site.the_run
    assert {path.name for path in run.root.iterdir()} == {
        "run.json",
        "records.jsonl",
        "thresholds.toml",
        "junit.xml",
    }
    facts = run.facts()
    assert (facts.run_id, facts.tier, facts.is_over) == (run.id, "nightly", True)
    assert facts.environment.keys() >= {"suite.commit", "package.torch", "cpu.model", "python"}
    assert "timesformer-cpu-bs1:export" in facts.required
    assert "timesformer-cpu-bs1:parity" not in facts.required
    copied = (run.root / "thresholds.toml").read_bytes()
    assert copied == (site.root / "thresholds.toml").read_bytes()
    assert len((run.root / "records.jsonl").read_text().splitlines()) == 16


def junit_case(path, name):
    return next(case for case in ET.parse(path).iter("testcase") if case.get("name") == name)


def test_junit_has_the_numbers(site):
    site.outcomes(nonlocal_tiny_parity="fail")
    site.run("-m", "cpu", "acceptance")
    case = junit_case(site.the_run.root / "junit.xml", "test_parity[nonlocal_tiny-cpu-bs1]")
    properties = {one.get("name"): one.get("value") for one in case.iter("property")}
    command = (
        "pytest 'acceptance/test_parity.py::test_parity[nonlocal_tiny-cpu-bs1]' "
        "-m 'cpu and parity' --tier nightly --model nonlocal_tiny --batch-size 1"
    )
    told = {"status": "fail", "reason": "told so for parity", "x": "2.0", "reproduce": command}
    assert properties == told
    message = f"Failed: fail: told so for parity\nReproduce: {command}"
    assert case.find("failure").get("message") == message


def test_junit_goes_where_it_is_asked_to(site):
    site.run("-m", "cpu", "--junitxml", "mine.xml", "acceptance")
    assert (site.root / "mine.xml").exists()
    assert not (site.the_run.root / "junit.xml").exists()


@pytest.mark.parametrize("option", ["-q", "-qq", "-v", "--no-summary", "--tb=no"])
def test_how_much_is_shown_changes_no_status(site, option):
    site.outcomes(nonlocal_tiny_parity="inconclusive")
    assert site.run(option, "-m", "cpu", "acceptance").ret == 7


@pytest.mark.parametrize("plugin", ["terminal", "junitxml", "cacheprovider", "xdist"])
def test_other_plugins_may_be_missing(site, plugin):
    site.outcomes(nonlocal_tiny_parity="fail")
    # Without options that only those plugins know.
    (site.root / "pytest.toml").write_text('[pytest]\naddopts = ["--import-mode=importlib"]\n')
    result = site.spawn("-p", f"no:{plugin}", "-m", "cpu", "acceptance")
    assert result.ret == 1
    assert site.statuses["nonlocal_tiny-cpu-bs1:parity"] == "fail"
    assert "Traceback" not in result.stderr.str()


def test_after_ctrl_c_the_records_so_far_are_kept(site):
    site.outcomes(nonlocal_tiny_parity="interrupt")
    result = site.spawn("-m", "cpu", "acceptance")
    assert result.ret == 2
    assert "nonlocal_tiny-cpu-bs1:export" in site.statuses
    assert "nonlocal_tiny-cpu-bs1:parity" not in site.statuses
    text = summary(result)
    assert re.search(r"NOT RUN: .*nonlocal_tiny-cpu-bs1:parity", text)


@pytest.mark.parametrize(
    ("expression", "status", "expected"),
    [
        ("export", "pass", 0),
        ("export and cpu", "not run", 6),
        ("export and (cpu or ascend310p)", "pass", 6),
        ("export", "raise", 1),
    ],
)
def test_judging_a_run_again_ends_as_the_run(site, expression, status, expected):
    site.outcomes(nonlocal_tiny_export=status)
    assert site.run("-m", expression, "acceptance").ret == expected
    contract = str(site.root / "thresholds.toml")
    assert main(["judge", str(site.the_run.root), "--thresholds", contract]) == expected


@pytest.mark.parametrize("arguments", [(), ("-p", "no:terminal")])
def test_the_suite_itself_says_that_a_device_is_absent(site, arguments):
    (site.root / "conftest.py").unlink()
    (site.root / "pytest.toml").write_text("[pytest]\nstrict = true\n")
    places = "".join(f'{name} = "{name}"\n' for name in ("cache_dir", "run_root", "lock_dir"))
    (site.root / "mine.toml").write_text(places)
    options = ("--site", "mine.toml", "-m", "ascend310p and export", "--model", "timesformer_tiny")
    assert site.run(*arguments, *options, "acceptance").ret == 6
    (root,) = (site.root / "run_root").iterdir()
    (record,) = RunDirectory(root).records()
    assert record.verdict.status is Status.NOT_RUN
    assert record.verdict.reason.endswith("npu-smi is not on PATH")
    assert not record.is_device_present
    assert record.signoff_blockers[0] == "the outcome is not run"


# In several processes


def test_workers_give_the_same_verdicts_once_each(site):
    site.outcomes(nonlocal_tiny_parity="fail", timesformer_accuracy="not run")
    result = site.spawn("-n", "2", "-m", "cpu", "acceptance")
    assert result.ret == 1
    assert "FAIL: nonlocal_tiny-cpu-bs1:parity\n    told so for parity" in summary(result)
    assert len(site.statuses) == 16
    assert site.statuses["timesformer-cpu-bs1:accuracy"] == "not run"
    assert site.the_run.facts().broken == {}
    workers, firsts = {}, {}
    for record in site.the_run.records():
        worker = record.device_facts["process"]
        workers.setdefault(record.cell, set()).add(worker)
        firsts.setdefault(worker, record.model)
    assert {*firsts.values()} == {"nonlocal_tiny", "timesformer"}, (
        "not the cheapest and the dearest"
    )
    assert {len(used) for used in workers.values()} == {1}, "a cell was spread over workers"
    assert len(set.union(*workers.values())) == 2
    site.outcomes()
    assert site.spawn("-n", "2", "-m", "cpu", "--run-dir", "second", "acceptance").ret == 0


def test_a_crashed_worker_is_red(site):
    site.outcomes(nonlocal_tiny_parity="crash")
    result = site.spawn("-n", "2", "-m", "cpu", "acceptance")
    assert result.ret == 1
    text = summary(result)
    assert "crashed while running" in text
    assert "NOT RUN: nonlocal_tiny-cpu-bs1:parity" in text
    assert len(site.statuses) == 15


def test_every_worker_running_everything_is_red(site):
    result = site.spawn("-n", "2", "--dist", "each", "-m", "cpu and export", "acceptance")
    assert result.ret == 1
    assert "was run 2 times" in summary(result)
    assert len(site.statuses) == 4
