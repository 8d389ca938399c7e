"""A run that an earlier suite has stored is still judged as it was then."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.contract.thresholds import stored_thresholds
from harness.decide.rejudge import judged_today
from harness.record.record import RunDirectory
from tests.made import ROOT

# One cell with all four checks, as the suite stored it before its records were bound to their run.
BEFORE = Path(__file__).parents[1] / "record" / "run_before_binding"


def test_a_run_of_an_earlier_suite_gets_the_verdicts_that_it_had():
    stored = [json.loads(line) for line in (BEFORE / "records.jsonl").read_text().splitlines()]
    thresholds = stored_thresholds(BEFORE / "thresholds.toml")
    facts, records, decision = judged_today(RunDirectory(BEFORE), thresholds)
    now = {record.check: str(record.verdict.status) for record in records}
    assert now == {one["check"]: one["verdict"]["status"] for one in stored}
    assert sorted(now.values()) == ["inconclusive", "pass", "pass", "pass"]
    assert facts.is_over
    assert [problem.id for problem in decision.problems] == ["timesformer_tiny-cpu-bs1:throughput"]


HEAVY = ("torch", "onnx", "onnxruntime", "mmaction", "decord", "cv2", "av", "pytest")
ABOVE = tuple(f"harness.{name}" for name in ("build", "predict", "check", "runtimes", "data"))
# What verify and judge do without, so that they start quickly.
SLOW = ("scipy", "harness.host.site", "harness.nightly", "harness.report.page")


@pytest.mark.parametrize("command", ["verify", "judge", "gate", "report", "export-results"])
def test_what_reads_stored_runs_needs_neither_models_nor_devices(command, tmp_path):
    """Each command is called on the stored run, so that what it imports on its way counts too."""
    arguments = {
        "verify": [str(BEFORE), "--key", str(tmp_path / "none.pub.json")],
        "judge": [str(BEFORE)],
        "gate": [str(BEFORE), "--history", str(tmp_path / "history"), "--without-baseline"],
        "report": [str(BEFORE), "--output", str(tmp_path / "report")],
        "export-results": [str(BEFORE), "--junit", str(tmp_path / "junit.xml")],
    }
    code = (
        "import sys\n"
        "from harness.__main__ import main\n"
        f"main({[command, *arguments[command]]!r})\n"
        "print(*sys.modules, sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = set(done.stdout.splitlines())
    assert {"harness.record.record"} <= names, done.stderr
    above = (*ABOVE, *SLOW) if command in ("verify", "judge") else ABOVE
    wrong = [name for name in names if name.split(".")[0] in HEAVY or name.startswith(above)]
    assert wrong == []
