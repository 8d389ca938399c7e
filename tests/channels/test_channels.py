import re
import xml.etree.ElementTree as ET

import pytest

from harness.__main__ import main
from harness.channels.gate_report import gate_suites
from harness.channels.junit import junit_from_suites
from harness.channels.markdown import BYTES_MAX, append_job_summary
from harness.nightly.comparison import Kind, Notice
from harness.nightly.gate import GateReport
from harness.record.record import RunDirectory
from harness.selftest.bends import bind
from harness.spec import Status

CELL = "nonlocal_tiny-cpu-bs1"
HOSTILE = "<script>alert('x')</script> | \x00\x1b\ud800 \u202e 😀 ]]> " + "long " * 100

# The junit-10 schema of Jenkins' xunit plugin: of each element its children and its attributes,
# those that must be there marked by *.
SCHEMA = {
    "testsuites": ({"testsuite"}, "name time tests failures errors"),
    "testsuite": (
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
        "name* tests* failures* errors* group time skipped timestamp hostname id package file log url",
    ),
    "properties": ({"property"}, ""),
    "property": (set(), "name* value*"),
    "testcase": (
        {"skipped", "error", "failure", "system-out", "system-err"},
        "name* time classname group",
    ),
    "skipped": (set(), "type message"),
    "error": (set(), "type message"),
    "failure": (set(), "type message"),
    "system-out": (set(), ""),
}
TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def schema_problems(element):
    children, names = SCHEMA[element.tag]
    attributes = {name.rstrip("*"): name.endswith("*") for name in names.split()}
    for name in element.keys() - attributes.keys():
        yield f"{element.tag} has the attribute {name}"
    for name, is_needed in attributes.items():
        if is_needed and name not in element.attrib:
            yield f"{element.tag} has no {name}"
    if element.tag != "testcase" and not TIME.fullmatch(element.get("time", "")):
        yield f"{element.tag} has the time {element.get('time')}"
    for child in element:
        if child.tag not in children:
            yield f"{element.tag} has a {child.tag}"
        yield from schema_problems(child)


def junit(root, tmp_path):
    path = tmp_path / "results.xml"
    assert main(["export-results", str(root), "--junit", str(path)]) == 0
    tree = ET.parse(path).getroot()
    assert list(schema_problems(tree)) == []
    return tree


def case(tree, check):
    return tree.find(f"testsuite[@name='{CELL}']/testcase[@name='{check}']")


def told(record, **verdict):
    """Rewrite the outcome of a record."""
    findings = () if verdict["status"] in ("not run", "error") else record.verdict.findings
    new = {**verdict, "findings": findings}
    measurement = record.measurement if findings else None
    values = {**record.model_dump(), "verdict": new, "measurement": measurement}
    return type(record).model_validate(values, strict=False)


def rewrite(root, **by_check):
    run = RunDirectory(root)
    records = [
        told(record, **by_check[record.check]) if record.check in by_check else record
        for record in run.records()
    ]
    (root / "records.jsonl").write_text("")
    for record in records:
        run.append(record)


def test_junit_of_a_green_run(run_root, tmp_path):
    tree = junit(run_root, tmp_path)
    assert tree.attrib.items() >= {"tests": "5", "failures": "0", "errors": "0"}.items()
    assert [element.tag for element in case(tree, "parity")] == ["system-out"]
    properties = {
        one.get("name"): one.get("value") for one in tree.find("testsuite").iter("property")
    }
    assert properties["parity.torch_to_device cosine"] == "1"
    assert properties["accuracy.status"] == "pass"
    assert properties["sha256.onnx"] == "2" * 64
    assert properties["emulated"] == "no"


def test_junit_of_every_outcome(run_root, tmp_path):
    rewrite(
        run_root,
        export={"status": "fail", "reason": "a bad node"},
        parity={"status": "error", "reason": "build: atc said no"},
        accuracy={"status": "not run", "reason": "no checkpoint"},
        throughput={"status": "inconclusive", "reason": "the floor lies between the bounds"},
    )
    tree = junit(run_root, tmp_path)
    kinds = {
        check: [(one.tag, one.get("type"), one.get("message")) for one in case(tree, check)]
        for check in ("export", "parity", "accuracy", "throughput")
    }
    assert kinds == {
        "export": [("failure", "fail", "a bad node")],
        "parity": [("error", "error", "build: atc said no")],
        "accuracy": [("skipped", "not run", "no checkpoint")],
        "throughput": [("failure", "inconclusive", "the floor lies between the bounds")],
    }
    assert tree.attrib.items() >= {"tests": "5", "failures": "3", "errors": "1"}.items()
    assert tree.find("testsuite").get("skipped") == "1"
    assert (
        f"Reproduce: pytest 'acceptance/test_export.py::test_export[{CELL}]' -m 'cpu and export'"
        in case(tree, "export").find("failure").text
    )


def test_a_required_check_that_did_not_run_turns_the_gate_red(run_root, tmp_path):
    rewrite(run_root, accuracy={"status": "not run", "reason": "no checkpoint"})
    gate = junit(run_root, tmp_path).find("testsuite[@name='acceptance gate']/testcase/failure")
    assert gate.get("type") == "incomplete"
    assert gate.get("message").endswith("3 of 4 required checks passed; 1 check needs a data set")
    assert f"NOT RUN: {CELL}:accuracy\n    no checkpoint" in gate.text


def test_every_notice_of_the_nightly_gate_is_a_failure():
    notices = [Notice(Kind.NO_NIGHT, "(night)", status, HOSTILE, ("a: b",)) for status in Status]
    report = GateReport("night", tuple(notices), ())
    tree = ET.fromstring(junit_from_suites("harness gate", gate_suites(report)))
    assert list(schema_problems(tree)) == []
    assert len(tree.findall("testsuite/testcase/failure")) == len(Status)
    assert tree.find("testsuite/testcase").get("classname") == "gate.missing night"


def test_seeded_and_emulated_are_told(make_run, tmp_path):
    blockers = ("seeded weights", "an emulator answered in the device's place")
    more = {"weights": "seeded", "is_emulated": True, "signoff_blockers": blockers}
    root = make_run(tmp_path / "run", **more).root
    tree = junit(root, tmp_path)
    assert "CANNOT BE SIGNED OFF: seeded weights" in case(tree, "parity").find("system-out").text
    assert tree.find("testsuite//property[@name='emulated']").get("value") == "yes"
    assert "**EMULATED: no device was there" in summary(root, tmp_path)
    assert "seeded weights" in summary(root, tmp_path)
    assert 'emulated="yes"' in metrics_text(root, tmp_path)


def test_a_chinese_job_summary_and_junit_keep_the_words_for_machines(run_root, tmp_path):
    rewrite(run_root, accuracy={"status": "not run", "reason": "no checkpoint"})
    files = [tmp_path / "results.xml", tmp_path / "zh.md"]
    options = ["--junit", str(files[0]), "--job-summary", str(files[1]), "--language", "zh"]
    assert main(["export-results", str(run_root), *options]) == 0
    text = files[1].read_text("utf-8")
    assert text.startswith("## 验收: 不完整\n\n运行报告：")
    assert "| 单元 | 导出 | 一致性 | 精度 | 吞吐率 |" in text
    assert f"- **未运行** {CELL.replace('_', chr(92) + '_')}:accuracy: no checkpoint" in text
    tree = ET.fromstring(files[0].read_bytes())
    gate = tree.find("testsuite[@name='acceptance gate']/testcase/failure")
    assert (gate.get("type"), gate.get("message")[:5]) == ("incomplete", "运行报告：")
    assert "重新运行：pytest" in case(tree, "accuracy").find("skipped").text


def test_hostile_text_stays_text(run_root, tmp_path):
    path = run_root / "records.jsonl"
    hostile = HOSTILE.replace("\ud800", "")
    rewrite(run_root, parity={"status": "fail", "reason": hostile})
    failure = case(junit(run_root, tmp_path), "parity").find("failure")
    assert failure.get("message").startswith("<script>alert('x')</script> | \ufffd\ufffd")
    text = summary(run_root, tmp_path)
    assert "<script>" not in text
    assert "\\|" in text
    assert path.exists()


def summary(root, tmp_path):
    path = tmp_path / "summary.md"
    path.unlink(missing_ok=True)
    assert main(["export-results", str(root), "--job-summary", str(path)]) == 0
    return path.read_text()


def test_job_summary_says_what_is_open_and_how_to_repeat_it(run_root, tmp_path):
    assert summary(run_root, tmp_path).startswith("## Acceptance: PASSED\n")
    rewrite(run_root, parity={"status": "fail", "reason": "too far"})
    text = summary(run_root, tmp_path)
    assert text.startswith("## Acceptance: FAILED\n")
    assert "- **FAIL** nonlocal\\_tiny-cpu-bs1:parity: too far" in text
    assert "| nonlocal\\_tiny-cpu-bs1 | pass | fail" in text
    assert "Run report: On this host's CPU: 3 of 4 required checks passed; 1 check failed" in text
    assert (
        "pytest acceptance -m 'cpu and parity' --tier release --model nonlocal\\_tiny" not in text
    )
    assert "pytest acceptance -m 'cpu and parity' --tier release --model nonlocal_tiny" in text


def test_the_summary_of_github_is_appended_to(run_root, tmp_path, monkeypatch, capsys):
    path = tmp_path / "github.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    assert main(["export-results", str(run_root)]) == 0
    assert path.read_text().startswith("before\n## Acceptance: PASSED")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert main(["export-results", str(run_root)]) == 2
    assert "name --junit, --job-summary or --openmetrics" in capsys.readouterr().err


@pytest.mark.parametrize("taken", [0, 1000, BYTES_MAX - 300, BYTES_MAX - 50, BYTES_MAX])
def test_a_job_summary_stays_under_the_limit_of_github(tmp_path, taken):
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * taken)
    append_job_summary(path, ["— a line"] * 200_000)
    size = path.stat().st_size
    assert size == taken if taken >= BYTES_MAX - 50 else taken < size < BYTES_MAX
    text = path.read_bytes()[taken:].decode()
    assert text == "" or "Cut here" in text


def metrics_text(root, tmp_path):
    path = tmp_path / "metrics.txt"
    assert main(["export-results", str(root), "--openmetrics", str(path)]) == 0
    return path.read_text()


def samples(root, tmp_path):
    """Values by metric and the labels that tell them apart, as a scraper reads them."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    apart = ("check", "finding", "definition", "percentile", "top", "acceptance_check_outcome")
    return {
        (one.name, *(one.labels[name] for name in apart if name in one.labels)): one.value
        for family in text_string_to_metric_families(metrics_text(root, tmp_path))
        for one in family.samples
    }


def test_openmetrics_is_read_by_a_scraper(run_root, tmp_path):
    found = samples(run_root, tmp_path)
    assert found["acceptance_gate_exit_status",] == 0
    assert found["acceptance_check_outcome", "parity", "pass"] == 1
    assert found["acceptance_check_outcome", "parity", "fail"] == 0
    assert found["acceptance_accuracy_ratio", "accuracy", "1"] == 1.0
    assert found["acceptance_throughput", "throughput", "device_io"] == pytest.approx(952, abs=1)
    assert found["acceptance_latency_seconds", "throughput", "device_io", "50"] == pytest.approx(
        0.00105, abs=1e-5
    )
    assert found["acceptance_limit", "accuracy", "top-1"] == 466
    assert found["acceptance_run_started_seconds",] == 1772323200


def test_openmetrics_of_a_red_run_and_of_hostile_text(run_root, tmp_path):
    path = run_root / "run.json"
    path.write_text(path.read_text().replace('"h"', '"a\\"b\\\\n{}=,😀"'))
    bind(run_root)
    rewrite(
        run_root,
        parity={"status": "fail", "reason": "off"},
        accuracy={"status": "not run", "reason": "no checkpoint"},
    )
    found = samples(run_root, tmp_path)
    assert found["acceptance_gate_exit_status",] == 1
    assert found["acceptance_check_outcome", "parity", "fail"] == 1
    assert found["acceptance_check_outcome", "accuracy", "not run"] == 1
    assert ("acceptance_accuracy_ratio", "accuracy", "1") not in found


def test_what_cannot_be_written_or_read_is_told(run_root, tmp_path, capsys):
    for option in ("--junit", "--openmetrics", "--job-summary"):
        target = tmp_path / "nowhere" / "file"
        assert main(["export-results", str(run_root), option, str(target)]) == 2
        assert "cannot be written" in capsys.readouterr().err
    assert main(["export-results", str(tmp_path), "--junit", str(tmp_path / "x")]) == 2
    assert "is it a run folder?" in capsys.readouterr().err
