"""What tests of several parts make up: records, tiers, and a small repository of the suite."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np

import harness
from harness.clips import Clip, ClipSet, Predictions
from harness.contract.thresholds import thresholds_from_file
from harness.judge.verdict import Finding, Verdict
from harness.measure.accuracy import accuracy_measurement
from harness.measure.export import ExportMeasurement
from harness.measure.parity import InputCounts, ParityMeasurement
from harness.measure.throughput import session_timing, throughput_measurement
from harness.record.record import Record, RunFacts
from harness.spec import Status

ROOT = Path(harness.__file__).parent.parent
# Of the set that accuracy must have been measured on.
MOTION8_DIGEST = thresholds_from_file(ROOT / "thresholds.toml").file.clip_sets["motion8"].digest
MET = Finding(name="x", measured=1.0, limit=1.0, comparison=">=", unit="", is_met=True)
# What of the machine must not reach a small repository.
FOREIGN = ("ACCEPTANCE_SITE", "ACCEPTANCE_CACHE_DIR", "PYTEST_ADDOPTS", "CI")


def record(check="parity", status=Status.FAIL, reason="off", **more):
    """Make a record: of nonlocal_tiny on the processor, where ``more`` does not say otherwise."""
    is_green = status is Status.PASS
    facts = {
        "run_id": "r",
        "tier": "smoke",
        "model": "nonlocal_tiny",
        "device": "cpu",
        "batch": 1,
        "check": check,
        "verdict": Verdict(status=status, reason=reason, findings=(MET,) if is_green else ()),
        "measurement": measured(check) if is_green else None,
        "is_device_present": True,
        "started": "now",
        "seconds": 0.0,
    }
    return Record(**facts | more)


def run_facts(run, thresholds):
    """Make what a run is started with."""
    return RunFacts(
        run_id=run.id,
        tier="nightly",
        started="2026-01-01T00:00:00+00:00",
        command=("pytest",),
        thresholds_digest=thresholds.digest,
        environment={},
        nonce="ab" * 16,
    )


def measured(check):
    """Make a measurement of a check, of next to nothing."""
    match check:
        case "export":
            facts = {"ops_checked": 3, "opset": 11, "op_counts": {"Conv": 3}, "onnx_bytes": 10}
            facts |= {"multiply_adds": {"torch": 9, "exported": 9, "simplified": 9}}
            return ExportMeasurement(problems=(), inputs=(), outputs=(), **facts)
        case "parity":
            return ParityMeasurement(input_ids=(), input_counts=InputCounts(), edges=())
        case "accuracy":
            preds = Predictions(("a",), np.array([[[0.0, 1.0]]], np.float32))
            return accuracy_measurement(
                preds, ClipSet("s", (Clip("a", Path("a"), 1),), ("x", "y"), "d" * 64)
            )
        case _:
            return throughput_measurement([session_timing([1.0])], 1)


def tier(name, cells, required, *, inputs=4, sessions=1, queries=1):
    """Make the tables of a tier that asks for little."""
    lists = [", ".join(f'"{pattern}"' for pattern in patterns) for patterns in (cells, required)]
    return f"""
[tiers.{name}]
cells = [{lists[0]}]
required = [{lists[1]}]
parity_inputs = {{ default = {inputs} }}
[tiers.{name}.timing.default]
sessions_min = {sessions}
sessions_max = {sessions}
warmup_queries = 1
min_queries = {queries}
min_seconds = 0.0
"""


def contract_with(tiers):
    """Return the contract of this repository with other tiers."""
    text = (ROOT / "thresholds.toml").read_text("utf-8")
    return text[: text.index("[tiers.")] + tiers


def small_repository(folder, tiers, conftest, monkeypatch):
    """Make a repository with the acceptance tests and the contract of this one, and other tiers."""
    shutil.copytree(ROOT / "acceptance", folder / "acceptance", ignore=lambda *_: {"__pycache__"})
    (folder / "thresholds.toml").write_text(contract_with(tiers))
    (folder / "conftest.py").write_text(conftest)
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)


def wide(thresholds):
    """Return a contract whose floors of a host let through what these tests let the nights find."""
    file = thresholds.file
    models = {
        name: model.model_copy(update={"devices": {**model.devices, "cpu": _wide(model)}})
        for name, model in file.models.items()
    }
    return dataclasses.replace(thresholds, file=file.model_copy(update={"models": models}))


def _wide(model):
    cpu = model.devices["cpu"]
    rows = {
        batch: row.model_copy(update={"tolerance": 0.5}) for batch, row in cpu.throughput.items()
    }
    return cpu.model_copy(update={"throughput": rows})
