"""A run of one cell with raw files made by hand; verdicts come from the judges themselves."""

import dataclasses
import datetime
import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.clips import Clip, ClipSet, Predictions
from harness.contract.thresholds import thresholds_from_file
from harness.judge.measurement import judge_measurement
from harness.measure.accuracy import accuracy_measurement
from harness.measure.export import ExportMeasurement
from harness.measure.host_turns import Turns
from harness.measure.parity import ChainScores, InputCounts, parity_measurement
from harness.measure.passport import Passport
from harness.measure.throughput import session_timing, throughput_measurement
from harness.record.npz import npz_from_labels, npz_from_predictions
from harness.record.record import Record, RunFacts, new_run_directory
from harness.sign.bundle import Bundle
from harness.sign.keys import write_key_pair
from harness.sign.sign import sign
from harness.spec import Cell, Status
from tests.made import MOTION8_DIGEST, contract_with, tier

CELL = Cell("nonlocal_tiny", "cpu", 1)
NOW = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
TIER = tier("release", [CELL.id], ["*:*"], sessions=2, queries=2)


def labelled():
    """Clips of motion8 with answers that are all right."""
    clips = tuple(Clip(f"clip-{number:03}", Path(), number % 8) for number in range(480))
    names = tuple(f"class {number}" for number in range(8))
    scores = np.random.default_rng(1).random((480, 1, 8), dtype=np.float32)
    scores[np.arange(480), 0, [clip.label for clip in clips]] += 5.0
    preds = Predictions(tuple(clip.id for clip in clips), scores)
    return ClipSet("motion8", clips, names, MOTION8_DIGEST), preds


def accuracy(spoiled=0):
    clip_set, preds = labelled()
    noise = np.random.default_rng(2).normal(0.0, 1e-5, preds.scores.shape).astype(np.float32)
    reference = dataclasses.replace(preds, scores=preds.scores + noise)
    preds.scores[:spoiled] = preds.scores[:spoiled, :, ::-1]
    raw = {
        "predictions": (npz_from_predictions(preds), ".npz"),
        "reference": (npz_from_predictions(reference), ".npz"),
        "labels": (npz_from_labels(clip_set), ".npz"),
    }
    return accuracy_measurement(preds, clip_set, reference), raw


def parity(offset=0.0):
    exact = np.random.default_rng(3).random((4, 8)) * 4.0
    near = exact.astype(np.float32).astype(np.float64)
    device = near + np.linspace(0.0, offset, 8)
    scores = ChainScores(exact=exact, torch=near, onnx=near, simplified=near, device=device)
    file = io.BytesIO()
    np.savez_compressed(file, **dataclasses.asdict(scores))
    measurement = parity_measurement(scores, list("abcd"), InputCounts(clip=4))
    return measurement, {"scores": (file.getvalue(), ".npz")}


def throughput(factor=3.24):
    base = np.linspace(1.0, 1.1, 70)
    timings = [
        session_timing(
            list(base + tiny),
            list(base + tiny),
            [2.0, 2.1],
            Turns(
                processor_ms=tuple((base + tiny).tolist()),
                unoptimised_processor_ms=tuple((base * factor).tolist()),
            ),
        )
        for tiny in (0.0, 0.001)
    ]
    lines = "\n".join(timing.model_dump_json() for timing in timings).encode()
    return throughput_measurement(timings, 1), {"latencies": (lines, ".jsonl")}


def export():
    facts = {"ops_checked": 3, "opset": 11, "op_counts": {"Conv": 3}, "onnx_bytes": 10}
    facts |= {"multiply_adds": {"torch": 9, "exported": 9, "simplified": 9}}
    passport = Passport(soc_version="Ascend310P3", command="atc --model=x.onnx", memory_bytes=7)
    measured = ExportMeasurement(problems=(), inputs=(), outputs=(), passport=passport, **facts)
    return measured, {}


def record_from(run, thresholds, check, found, **more):
    measurement, raw = found
    tier, limits = thresholds.tier("release"), thresholds.limits(CELL)
    verdict = judge_measurement(measurement, limits, tier.inputs_for(CELL), 2)
    is_green = verdict.status is Status.PASS
    fields = {
        "run_id": run.id,
        "tier": "release",
        "model": CELL.model,
        "device": CELL.device,
        "batch": CELL.batch,
        "check": check,
        "verdict": verdict,
        "measurement": measurement,
        "weights": "checkpoint",
        "subjects": {
            "weights": limits.weights,
            "inputs": limits.inputs or "f" * 64,
            "onnx": "2" * 64,
            "simplified": "3" * 64,
            "device_model": "4" * 64,
            "clips": "c" * 64,
            "thresholds": thresholds.digest,
        },
        "raw": {name: run.keep(*content) for name, content in raw.items()},
        "is_device_present": True,
        "signoff_blockers": () if is_green else (f"the outcome is {verdict.status}",),
        "inputs_min": 4,
        "sessions_min": 2,
        "started": "2026-03-01T00:00:00+00:00",
        "seconds": 0.5,
    }
    return Record.model_validate(fields | more)


def facts_of(run, thresholds, nonce=None, is_closed=False):
    return RunFacts(
        run_id=run.id,
        tier="release",
        started="2026-03-01T00:00:00+00:00",
        command=("pytest", "acceptance"),
        thresholds_digest=thresholds.digest,
        environment={
            "suite.commit": "a" * 40,
            "suite.dirty": "no",
            "contract.dirty": "no",
            "host": "h",
        },
        environment_after={
            "suite.commit": "a" * 40,
            "suite.dirty": "no",
            "contract.dirty": "no",
            "host": "h",
        },
        required=tuple(f"{CELL.id}:{check}" for check in FOUND),
        is_over=True,
        nonce=hashlib.sha256(run.id.encode()).hexdigest() if nonce is None else nonce,
        binds_its_end=is_closed,
    )


FOUND = {"export": export, "parity": parity, "accuracy": accuracy, "throughput": throughput}


def write_run(root, found=(), contract="", nonce=None, is_closed=False, **more):
    """Make a run folder.

    ``found`` replaces what a check found, ``contract`` is added to the thresholds, ``more`` are
    fields of the records. The nonce is made of the name, unless one is given. A run that
    ``is_closed`` takes no more records.
    """
    run = new_run_directory(root)
    path = run.root / "thresholds.toml"
    path.write_text(contract_with(TIER + contract))
    thresholds = thresholds_from_file(path)
    facts = facts_of(run, thresholds, nonce, is_closed)
    run.write_facts(facts.model_copy(update={"is_over": False}))
    for check, one in ({name: make() for name, make in FOUND.items()} | dict(found)).items():
        run.append(record_from(run, thresholds, check, one, **more))
    run.close(facts)
    (run.root / "junit.xml").write_text("<testsuites/>")
    (run.root / "report.html").write_text("<!doctype html>")
    return run


@pytest.fixture(scope="session")
def make_run():
    """Return what makes a run folder."""
    return write_run


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """A folder with two keys, ``ours`` and ``theirs``."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        write_key_pair(folder / name, name, datetime.date(2027, 1, 1))
    return folder


@pytest.fixture(scope="session")
def signed_once(tmp_path_factory, make_run, keys):
    root = tmp_path_factory.mktemp("signed") / "run"
    make_run(root, is_closed=True)
    sign(Bundle(root), keys / "ours", None, "release", NOW)
    return root


@pytest.fixture
def signed(signed_once, tmp_path):
    """A signed SHIP, to be tampered with."""
    return Path(shutil.copytree(signed_once, tmp_path / "elsewhere"))


@pytest.fixture
def run_root(tmp_path, make_run):
    """A run that holds, not signed yet."""
    return make_run(tmp_path / "run").root


@pytest.fixture(scope="session")
def found():
    """What makes the finding of each check, by its name."""
    return FOUND
