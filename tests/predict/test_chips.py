"""Accuracy over several chips of an emulated host: sharded by clip id, merged and judged once."""

import contextlib
import dataclasses
import os
import pickle
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from harness.errors import DecodeError, DeviceBroken, InvalidMeasurement, RunError
from harness.host.locks import exclusive
from harness.predict.chips import _of_chip, _watched, predict_shard
from harness.predict.device_predictions import plan_from_bench
from harness.predict.shards import shard_of_clips
from harness.registry import device
from harness.spec import Cell, Status

EMULATOR = Path(__file__).parents[1] / "emulator"
CELL = Cell("nonlocal_tiny", "ascend310p", 4)
CHIPS = "npu1-chip0", "npu1-chip1"
ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from harness.host.locks import exclusive
with exclusive("npu1-chip0", Path(sys.argv[1])), exclusive("npu1-chip1", Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
PREDICTOR = """
import pickle, sys
from harness.predict.chips import predict_shard
from harness.host.child_process import run_in_child
if __name__ == "__main__":
    run_in_child(predict_shard, *pickle.load(sys.stdin.buffer))
"""


@pytest.fixture
def two_chips(monkeypatch):
    """A Duo card: one NPU id, two chips."""
    variables = {
        "PATH": os.pathsep.join([str(EMULATOR), os.environ["PATH"]]),
        "PYTHONPATH": str(EMULATOR),
        "EMULATOR_PYTHON": sys.executable,
        "EMULATOR_CHIP_COUNT": "2",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)


@pytest.fixture(scope="module")
def warm(clean, cache):
    """The store after a clean run on the CPU: exported, decoded, with PyTorch's predictions."""
    return cache


@pytest.fixture
def suite(make_suite, warm, two_chips):
    return make_suite(warm)


def notes_of(suite, record):
    return (suite.run.root / "raw" / f"{record.raw['notes']}.txt").read_text(encoding="utf-8")


def test_every_free_chip_takes_its_share_and_the_whole_is_judged_once(suite, clean):
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert record.measurement.top1.k == clean[1]["accuracy"].measurement.top1.k
    assert record.measurement.join == clean[1]["accuracy"].measurement.join
    for unit in CHIPS:
        for when in ("before", "after"):
            assert f"{when}: {unit} 310P3, health OK, 47 °C" in notes_of(suite, record)
    assert record.is_emulated


def test_a_chip_that_somebody_holds_is_left_to_them(suite):
    with exclusive(CHIPS[0], suite.bench.site.lock_dir):
        record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert CHIPS[0] not in notes_of(suite, record)
    assert CHIPS[1] in notes_of(suite, record)


def test_a_crash_names_the_chip_and_a_rerun_continues(suite, clip_set, monkeypatch):
    monkeypatch.setenv("EMULATOR_FAULT", "bench_crash")
    monkeypatch.setenv("EMULATOR_FAULT_CHIP", "1")
    broken = suite.check(CELL, "accuracy")
    assert broken.verdict.status is Status.ERROR
    assert "on npu1-chip1: " in broken.verdict.reason
    assert "the other chips were stopped" in broken.verdict.reason
    partial = suite.bench.site.cache_dir / "partial"
    assert any(path.stat().st_size for path in partial.glob("*.scores"))
    monkeypatch.delenv("EMULATOR_FAULT")
    again = suite.check(CELL, "accuracy")
    assert again.verdict.status is Status.PASS, again.verdict.reason
    assert not list(partial.glob("*.scores"))


def test_the_chips_that_are_visible_are_used(suite, monkeypatch):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1")
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert CHIPS[0] not in notes_of(suite, record)
    assert f"after: {CHIPS[1]} 310P3" in notes_of(suite, record)


def test_the_store_is_filled_for_all_chips_at_once(make_suite, clip_set, warm, two_chips, tmp_path):
    cold = tmp_path / "cache"
    shutil.copytree(warm, cold, ignore=shutil.ignore_patterns("crops", "partial"))
    suite = make_suite(cold)
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert list((cold / "crops").glob("*/journal.jsonl"))


def test_a_decoder_that_dies_stops_the_chips(suite, monkeypatch):
    def dying(store, clips):
        yield None
        raise DecodeError("a decoding process died")

    monkeypatch.setattr("harness.predict.chips.stored_samples", dying)
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.ERROR
    assert "decode: a decoding process died" in record.verdict.reason


def test_a_chip_that_is_not_healthy_afterwards_computed_nothing_that_counts(two_chips, monkeypatch):
    bound = device("ascend310p").on(CHIPS[1])
    notes = []
    words = r"after the run: .*Alarm.*not count"
    with pytest.raises(InvalidMeasurement, match=words), _watched(bound, notes):
        monkeypatch.setenv("EMULATOR_FAULT", "smi_alarm")
    assert notes[0].startswith("before: npu1-chip1 310P3, health OK")
    named = _of_chip(CHIPS[1], InvalidMeasurement("after the run: hot"))
    assert (type(named), str(named)) == (InvalidMeasurement, "on npu1-chip1: after the run: hot")
    # Before the run nothing was measured yet: the chip is just not there.
    with pytest.raises(DeviceBroken, match="Alarm"), _watched(bound, notes):
        pass


def test_shards_are_the_same_everywhere(clip_set):
    parts = [shard_of_clips(clip_set.clips, index, 2) for index in range(2)]
    assert {clip.id for part in parts for clip in part} == {clip.id for clip in clip_set.clips}
    assert all(parts)


def test_a_second_run_waits_for_a_chip_and_says_for_whom(suite, monkeypatch):
    locks, said = suite.bench.site.lock_dir, []
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(locks)], stdin=pipe, stdout=pipe, cwd=ROOT
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"

        def say(text):
            said.append(text)
            first.stdin.close()

        monkeypatch.setattr(suite.bench.progress, "say", say)
        with suite.bench.chips("ascend310p") as chips:
            assert list(chips) == [CHIPS[0]]
    assert said[0].startswith(f"waiting for npu1-chip0 for 3 s: process {first.pid} on")


def test_a_run_that_is_killed_leaves_no_orphan_and_keeps_what_it_did(suite, monkeypatch, tmp_path):
    bench, mark = suite.bench, f"HARNESS_TEST_MARK={uuid.uuid4()}"
    plan = plan_from_bench(CELL, bench)
    plan = dataclasses.replace(plan, cache=tmp_path / "cache")
    plan.cache.mkdir()
    (plan.cache / "crops").symlink_to(bench.site.cache_dir / "crops")
    device, model = bench.device(CELL.device).on(CHIPS[1]), bench.device_model(CELL)
    script = tmp_path / "predictor.py"
    script.write_text(PREDICTOR, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{EMULATOR}"}
    env |= dict([mark.split("=")], EMULATOR_FAULT="bench_hang_late")
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, env=env) as run:
        try:
            pickle.dump((plan, device, model, (0, 1)), run.stdin)
            run.stdin.close()
            assert until(lambda: any(p.stat().st_size for p in journals(plan)))
            assert len(processes_with(mark)) >= 2
        finally:
            run.kill()
    assert until(lambda: not processes_with(mark)), processes_with(mark)
    (journal,) = journals(plan)
    before = journal.stat().st_size
    monkeypatch.setenv("EMULATOR_FAULT", "bench_crash")
    with pytest.raises(RunError, match="SIGSEGV"):
        predict_shard(plan, device, model, (0, 1))
    assert journal.stat().st_size > before
    monkeypatch.delenv("EMULATOR_FAULT")
    preds, notes = predict_shard(plan, device, model, (0, 1))
    assert len(preds.clip_ids) == len(plan.clip_set.clips)
    assert notes[0].startswith(f"before: {CHIPS[1]} ")
    assert journals(plan) == []


def journals(plan):
    return list((plan.cache / "partial").glob("*.scores"))


def processes_with(mark):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def until(condition):
    for _ in range(400):
        if condition():
            return True
        time.sleep(0.05)
    return False
