"""A whole cell from files to verdicts, then every planted fault, each red and by its name."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest

from harness.build import simplify
from harness.check.checks import check_throughput
from harness.check.context import Context
from harness.check.divergence import divergence
from harness.contract.thresholds import thresholds_from_file
from harness.data.loading import sample_from_clip
from harness.decide.rejudge import rejudged
from harness.device import DeviceState, Presence
from harness.errors import BuildError, DeviceAbsent, DeviceError, InvalidMeasurement, RunError
from harness.judge.limits import EveryClipLimits
from harness.measure.accuracy import accuracy_measurement
from harness.measure.parity import ChainScores
from harness.record.npz import labels_from_npz, npz_from_predictions, predictions_from_npz
from harness.record.record import RunDirectory
from harness.registry import device, device_spec
from harness.spec import CHECKS, Cell, Status
from harness.testing import FakeDevice, FaultyDevice
from tests.limited import full_disk

CELL = Cell("nonlocal_tiny", "cpu", 4)
CUDA = dataclasses.replace(CELL, device="cuda")
SCORED = ("parity", "accuracy")


def test_a_clean_run_is_green(clean):
    _, records = clean
    for check, record in records.items():
        assert record.verdict.status is Status.PASS, record.verdict.reason
        assert record.id == f"nonlocal_tiny-cpu-bs4:{check}"
        assert record.signoff_blockers == ()
        assert record.weights == "checkpoint"
        assert (record.is_device_present, record.is_emulated) == (True, False)
        assert record.device_facts["provider"] == "CPUExecutionProvider"
        assert record.stage is None
        assert record.seconds > 0.0


def test_a_record_names_what_its_verdict_rests_on(clean):
    suite, records = clean
    weights = suite.bench.weights("nonlocal_tiny").digest
    for record in records.values():
        assert record.subjects.keys() == {
            "weights",
            "onnx",
            "simplified",
            "thresholds",
            "device_model",
            "clips",
        }
        assert record.subjects["weights"] == weights
        assert record.subjects["thresholds"] == suite.thresholds.digest
        assert record.subjects == records["export"].subjects


def test_the_work_of_the_files_is_held_against_pytorch(clean):
    export = clean[1]["export"]
    assert export.verdict.reason.endswith("; multiply-adds as in PyTorch")
    counts = export.measurement.multiply_adds
    assert counts.torch == counts.exported == counts.simplified > 1e6


def test_stages_stand_once_with_what_they_took(clean):
    _, records = clean
    stages = {stage.name: stage for stage in records["export"].stages}
    assert [stage.name for stage in records["export"].stages] == ["onnx", "simplified", "device"]
    assert stages["onnx"].was_cached is False
    assert stages["onnx"].peak_bytes == 4096
    names = [stage.name for stage in records["parity"].stages]
    assert sorted(names) == [
        *("device", "onnx", "onnx-scores", "reference-scores", "simplified", "simplified-scores")
    ]
    assert all(stage.was_cached for stage in records["throughput"].stages)


def test_the_raw_results_can_be_read_again(clean):
    suite, records = clean
    for record in records.values():
        suite.run.append(record)
    stored = RunDirectory(suite.run.root).records()
    assert [one.model_copy(update={"binding": ""}) for one in stored] == list(records.values())
    raw = suite.run.root / "raw"
    preds = predictions_from_npz(raw / f"{records['accuracy'].raw['predictions']}.npz")
    assert preds.clip_ids == tuple(clip.id for clip in suite.bench.clip_set("nonlocal_tiny").clips)
    with np.load(raw / f"{records['parity'].raw['scores']}.npz") as scores:
        assert {name: scores[name].shape for name in scores} == dict.fromkeys(
            ("exact", "torch", "onnx", "simplified", "device"), (8, 8)
        )
    lines = (raw / f"{records['throughput'].raw['latencies']}.jsonl").read_text().splitlines()
    # On a busy host a second session has to confirm what the first one saw.
    session, *_ = sessions = list(map(json.loads, lines))
    assert len(sessions) == records["throughput"].measurement.session_count
    for name in ("device_ms", "device_io_ms", "e2e_ms"):
        assert session[name]
    for name in ("processor_ms", "unoptimised_processor_ms", "wall_ms"):
        assert len(session["turns"][name]) >= 2
    assert session["is_output_same"] is True


def test_the_same_run_again_builds_nothing_and_agrees(clean, make_suite, cache, in_process):
    _, records = clean
    suite = make_suite(cache)
    for check in ("export", *SCORED):
        record = suite.check(CELL, check)
        assert record.verdict == records[check].verdict
        assert record.raw == records[check].raw
        assert all(stage.was_cached for stage in record.stages)


def every_output(change):
    """Return what makes a fault that changes the rows of probabilities."""

    def fault(outputs):
        return {name: np.asarray(change(rows), np.float32) for name, rows in outputs.items()}

    return lambda: fault


def same_row(rows):
    return np.broadcast_to(np.linspace(0.1, 0.15, rows.shape[1]), rows.shape)


def one_value(value):
    def change(rows):
        spoilt = rows.copy()
        spoilt[0, 0] = value
        return spoilt

    return change


def coarse(rows):
    return (rows + np.float16(0.01)).astype(np.float16)


class FirstAnswerForEver:
    def __init__(self):
        self.answer = None

    def __call__(self, outputs):
        self.answer = self.answer or outputs
        return self.answer


OUTPUT_FAULTS = {
    "permuted rows": (
        every_output(lambda rows: rows[::-1]),
        (Status.FAIL, r"simplified_to_device"),
        (Status.FAIL, r"top-1 is \d+ clips"),
    ),
    "labels rolled by one": (
        every_output(lambda rows: np.roll(rows, 1, axis=1)),
        (Status.FAIL, r"simplified_to_device"),
        (Status.FAIL, r"top-1 is 0 clips"),
    ),
    "NaN": (
        every_output(one_value(np.nan)),
        (Status.FAIL, r"simplified_to_device: non-finite output"),
        (Status.FAIL, r"non-finite output: NaN or Inf for 4 clips"),
    ),
    "Inf": (
        every_output(one_value(np.inf)),
        (Status.FAIL, r"simplified_to_device: non-finite output"),
        (Status.FAIL, r"non-finite output: NaN or Inf for 4 clips"),
    ),
    "negative probability": (
        every_output(one_value(-0.1)),
        (Status.FAIL, r"simplified_to_device: non-finite output"),
        (Status.FAIL, r"non-finite output"),
    ),
    "constant row": (
        every_output(same_row),
        (Status.FAIL, r"simplified_to_device: constant output"),
        (Status.FAIL, r"constant output: the same scores for all 16 clips"),
    ),
    "one class like the other": (
        every_output(lambda rows: np.full_like(rows, 0.125)),
        (Status.FAIL, r"simplified_to_device: constant output"),
        (Status.FAIL, r"constant output"),
    ),
    "rounded and shifted": (
        every_output(coarse),
        (Status.FAIL, r"simplified_to_device (rmse|max abs error|p99\.9)"),
        None,
    ),
    "a class less": (
        every_output(lambda rows: rows[:, :-1]),
        (Status.ERROR, r"run: .*\(4, 7\).*wrong shape"),
        (Status.ERROR, r"run: .*\(4, 7\).*wrong shape"),
    ),
    "a clip less": (
        every_output(lambda rows: rows[:-1]),
        (Status.ERROR, r"run: .*\(3, 8\).*wrong shape"),
        (Status.ERROR, r"run: .*\(3, 8\).*wrong shape"),
    ),
    "transposed": (
        every_output(lambda rows: rows.T),
        (Status.ERROR, r"run: .*\(8, 4\).*wrong shape"),
        (Status.ERROR, r"run: .*\(8, 4\).*wrong shape"),
    ),
    "the first answer for ever": (
        FirstAnswerForEver,
        (Status.FAIL, r"simplified_to_device"),
        (Status.FAIL, r"top-1 is \d+ clips"),
    ),
}


@pytest.mark.parametrize("name", OUTPUT_FAULTS)
def test_a_device_that_computes_something_else(
    clean, make_suite, cache, in_process, monkeypatch, name
):
    # Looking for a node takes seconds, and a faulty device has none.
    for search in ("first_divergent_module", "first_divergent_node", "first_divergent_operator"):
        monkeypatch.setattr(f"harness.check.divergence.{search}", lambda *_: None)
    make_fault, *outcomes = OUTPUT_FAULTS[name]
    suite = make_suite(cache, {"cpu": FaultyDevice(device("cpu"), make_fault)})
    for check, outcome in zip(SCORED, outcomes, strict=True):
        if outcome is not None:
            assert_red(suite.check(CELL, check), *outcome)


def assert_red(record, status, reason):
    assert record.verdict.status is status, record.verdict.reason
    assert re.search(reason, record.verdict.reason, re.DOTALL), record.verdict.reason
    assert record.signoff_blockers[0] == f"the outcome is {status}"


class OneBatchFlipped:
    """Swaps two rows of the second batch, once."""

    def __init__(self):
        self.batches = 0

    def __call__(self, outputs):
        self.batches += 1
        order = [0, 2, 1, 3] if self.batches == 2 else [0, 1, 2, 3]
        return {name: rows[order] for name, rows in outputs.items()}


def with_model(suite, **update):
    """Return the suite under a contract that says more about its model."""
    file = suite.thresholds.file
    table = file.models[CELL.model].model_copy(update=update)
    changed = file.model_copy(update={"models": {CELL.model: table}})
    return dataclasses.replace(
        suite, thresholds=dataclasses.replace(suite.thresholds, file=changed)
    )


def test_two_clips_of_one_batch_swapped_are_red_by_name(clean, make_suite, cache, in_process):
    limits = EveryClipLimits(
        max_abs_error=0.005, p999_abs_error=0.005, relative_l2=1e-3, source="test"
    )
    bounds = {"every_clip": {"fp32": limits, "fp16": limits}}
    suite = with_model(make_suite(cache), **bounds)
    verdict = suite.check(CELL, "accuracy").verdict
    assert verdict.status is Status.PASS, verdict.reason
    faulty = {"cpu": FaultyDevice(device("cpu"), OneBatchFlipped)}
    record = with_model(make_suite(cache, faulty), **bounds).check(CELL, "accuracy")
    # Which of the two is worse depends on the processor that trained the model.
    both = "clips/0005; clips/0006|clips/0006; clips/0005"
    assert_red(record, Status.FAIL, rf"relative L2 of every clip is .* .({both}).$")
    assert all(finding.is_met for finding in record.verdict.findings[:3])


@pytest.fixture(scope="module")
def other_checkpoint(fitted, torch):
    """Return what writes a changed checkpoint beside the fitted one; the spec names the new file."""
    spec, path = fitted

    def write(change):
        buffer = io.BytesIO()
        torch.save({name: change(name, w) for name, w in torch.load(path).items()}, buffer)
        content = buffer.getvalue()
        name = f"narrow-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        path.with_name(name).write_bytes(content)
        return dataclasses.replace(spec, checkpoint=name)

    return write


def scaled_channel(name, weight):
    if name.endswith("conv1.conv.weight"):
        weight = weight.clone()
        weight[0] *= 1.1
    return weight


def half_and_back(_, weight):
    return weight.half().to(weight.dtype) if weight.is_floating_point() else weight


@pytest.mark.parametrize("change", [scaled_channel, half_and_back])
def test_another_checkpoint_than_the_contract_s_is_invalid_in_every_check(
    clean, make_suite, cache, in_process, other_checkpoint, fitted, change
):
    own = clean[0].bench.weights(CELL.model).digest
    suite = with_model(make_suite(cache, model=other_checkpoint(change)), weights=own[:8])
    digest = suite.bench.weights(CELL.model).digest
    for check in CHECKS:
        record = suite.check(CELL, check)
        assert_red(
            record, Status.INVALID, f'put .* below .models.nonlocal_tiny.: weights = "{digest}"'
        )
        assert record.subjects.keys() == {"weights", "thresholds"}
    # The contract's own checkpoint is accepted, and seeded weights are not asked for.
    assert with_model(make_suite(cache), weights=own).check(CELL, "export").verdict.status == "pass"
    seeded = dataclasses.replace(fitted[0], checkpoint="none-12345678.pth")
    record = with_model(make_suite(cache, model=seeded), weights=own).check(CELL, "export")
    assert record.verdict.status is Status.PASS


def test_a_stored_run_of_another_checkpoint_is_invalid_when_judged_again(clean):
    suite, records = clean
    own = suite.bench.weights(CELL.model).digest
    for check, record in records.items():
        same = rejudged(record, with_model(suite, weights=own[:8]).thresholds)
        assert same.verdict == record.verdict
        other = rejudged(record, with_model(suite, weights="0" * 8).thresholds)
        assert other.verdict.status is Status.INVALID, check


def test_the_speed_of_another_chip_than_the_golden_s_is_invalid(clean, monkeypatch):
    suite, records = clean
    limits = suite.thresholds.limits(CELL)
    of_t4 = limits.throughput.model_copy(update={"chip": "T4"})
    limits = limits.model_copy(update={"throughput": of_t4})
    monkeypatch.setattr(type(suite.thresholds), "limits", lambda self, cell: limits)
    known = {"device_facts": {"chip": "Tesla T4"}}
    here = rejudged(records["throughput"].model_copy(update=known), suite.thresholds)
    assert here.verdict.status is Status.PASS
    other = rejudged(records["throughput"], suite.thresholds)
    assert other.verdict.status is Status.INVALID
    context = Context(CELL, suite.bench, suite.thresholds.tier(suite.tier_name), limits)
    with pytest.raises(InvalidMeasurement, match="of the chip T4, and this one is unknown"):
        check_throughput(context)


def uniform(feed):
    """Stand in for a model: probabilities of eight classes."""
    return {"class": np.full((len(feed["video"]), 8), 0.125, np.float32)}


def double(**options):
    state = DeviceState(Presence.PRESENT, "a double", {"double": str(options)}, ("fake0",))
    return FakeDevice(device_spec("cuda"), uniform, **{"state": state, **options})


class Drifting:
    """An output that is another one with each query."""

    def __init__(self):
        self.queries = 0

    def __call__(self, outputs):
        self.queries += 1
        return {name: rows + self.queries for name, rows in outputs.items()}


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ({"latency_s": 0.040}, Status.PASS, r"device speed is 100 clips/s, must be >= 95"),
        ({"latency_s": 0.0425}, Status.FAIL, r"too slow: .* is 94\.1\d* clips/s, must be >= 95"),
        ({"latency_s": 0.001}, Status.FAIL, r"implausibly fast: mean speed is 4000 clips/s"),
        ({"latency_s": 0.0}, Status.INVALID, r"does not count: .*times in device_ms are zero"),
        ({"latency_s": float("nan")}, Status.INVALID, r"times are not finite"),
    ],
    ids=str,
)
def test_speed_is_held_against_the_contract(
    clean, make_suite, cache, in_process, monkeypatch, fault, status, reason
):
    monkeypatch.setattr("harness.testing.time.sleep", lambda seconds: None)
    record = make_suite(cache, {"cuda": double(**fault)}).check(CUDA, "throughput")
    assert record.verdict.status is status, record.verdict.reason
    assert re.search(reason, record.verdict.reason), record.verdict.reason
    assert record.sessions_min == 2


def test_timed_queries_that_compute_something_else_do_not_count(
    clean, make_suite, cache, in_process
):
    faulty = FaultyDevice(double(latency_s=0.04), Drifting)
    record = make_suite(cache, {"cuda": faulty}).check(CUDA, "throughput")
    assert_red(record, Status.INVALID, "did not compute what untimed ones compute")


@pytest.fixture
def after_accuracy(clean, make_suite, cache, in_process):
    """Return what times a cell of the processor after its accuracy check, both in one run."""

    def time_it(fault=None):
        suite = make_suite(cache)
        accuracy = suite.check(CELL, "accuracy")
        path = suite.run.root / "raw" / f"{accuracy.raw['predictions']}.npz"
        preds = predictions_from_npz(path)
        raw = dict(accuracy.raw)
        if fault is not None:
            spoiled = dataclasses.replace(preds, scores=fault(preds.scores))
            raw["predictions"] = suite.run.keep(npz_from_predictions(spoiled), ".npz")
        suite.run.append(accuracy.model_copy(update={"raw": raw}))
        with (suite.run.root / "records.jsonl").open("a") as file:
            file.write('{"half a ')
        return suite.check(CELL, "throughput")

    return time_it


def test_timed_answers_are_held_against_the_accuracy_run(after_accuracy):
    record = after_accuracy()
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert record.measurement.clips_compared == 8
    assert "answers as in the accuracy run on 8 clips" in record.verdict.reason


@pytest.mark.parametrize(
    "fault",
    [lambda scores: np.roll(scores, 1, axis=0), lambda scores: scores + np.float32(0.01)],
    ids=["of another clip", "off by more than the contract allows"],
)
def test_timed_answers_that_differ_from_the_accuracy_run_do_not_count(after_accuracy, fault):
    record = after_accuracy(fault)
    assert_red(record, Status.INVALID, "did not compute what the accuracy run computed, of 8 of")


def test_accuracy_keeps_all_that_its_verdict_rests_on(clean, clip_set):
    suite, records = clean
    raw = {
        what: suite.run.root / "raw" / f"{digest}.npz"
        for what, digest in records["accuracy"].raw.items()
    }
    assert raw.keys() == {"predictions", "reference", "labels"}
    labels = labels_from_npz(raw["labels"])
    assert [clip.id for clip in labels.clips] == [clip.id for clip in clip_set.clips]
    measured = records["accuracy"].measurement
    both = [predictions_from_npz(raw[name]) for name in ("predictions", "reference")]
    lowest = measured.every_clip.lowest_score
    assert accuracy_measurement(both[0], labels, both[1], lowest) == measured


def test_a_tier_may_measure_accuracy_on_a_subset(make_suite, cache, clean, in_process, thresholds):
    suite = make_suite(cache)
    tier = thresholds.tier("nightly").model_copy(update={"clips": {"nonlocal_tiny-cpu": 12}})
    tiers = {**thresholds.file.tiers, "nightly": tier}
    file = thresholds.file.model_copy(update={"tiers": tiers})
    suite = dataclasses.replace(suite, thresholds=dataclasses.replace(thresholds, file=file))
    record = suite.check(CELL, "accuracy")
    measured = record.measurement
    assert (measured.is_whole, measured.clip_count, measured.top1.k) == (False, 12, 12)
    # Twelve of twelve bound the share at 76 %, below the floor of 90 %.
    assert record.verdict.status is Status.INCONCLUSIVE
    assert "12 clips are too few to decide" in record.verdict.reason
    assert "accuracy on a subset of 12 clips" in record.signoff_blockers
    assert record.subjects["clips"] == measured.clip_set_digest
    assert record.subjects["clips"] != clean[1]["accuracy"].subjects["clips"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        (
            DeviceState(Presence.ABSENT, "npu-smi is not on PATH"),
            Status.NOT_RUN,
            "cuda is not on this machine: npu-smi is not on PATH",
        ),
        (
            DeviceState(Presence.BROKEN, "npu-smi hangs", {"driver": "1.0"}),
            Status.ERROR,
            "DeviceBroken: cuda does not work: npu-smi hangs",
        ),
        (
            DeviceState(Presence.PRESENT, "two chips"),
            Status.ERROR,
            "DeviceBroken: cuda was found .two chips., but site.toml allows none of its units",
        ),
    ],
    ids=["absent", "broken", "without a unit"],
)
def test_a_device_that_cannot_be_used(make_suite, cache, check, state, status, reason):
    record = make_suite(cache, {"cuda": double(state=state)}).check(CUDA, check)
    assert_red(record, status, reason)
    assert record.is_device_present is (state.presence is Presence.PRESENT)
    assert record.device_facts == state.facts
    assert record.measurement is None
    assert record.subjects == {}
    assert record.stages == ()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DeviceAbsent("no card"), Status.NOT_RUN),
        (DeviceError("the lock folder is gone"), Status.ERROR),
    ],
)
def test_a_probe_that_raises(make_suite, cache, monkeypatch, error, status):
    def probe():
        raise error

    faulty = double()
    monkeypatch.setattr(faulty, "probe", probe)
    assert_red(make_suite(cache, {"cuda": faulty}).check(CUDA, "export"), status, str(error))


@pytest.mark.parametrize("check", ["parity", "accuracy", "throughput"])
def test_a_compiler_that_refuses_the_model(clean, make_suite, cache, in_process, check):
    faulty = double(fault=BuildError("atc refused it: E10001"))
    record = make_suite(cache, {"cuda": faulty}).check(CUDA, check)
    assert_red(record, Status.ERROR, "build: atc refused it: E10001")
    assert record.stage == "build"


@pytest.mark.parametrize("is_limited", [True, False], ids=["limited", "free"])
def test_a_broken_build_is_what_it_is_where_the_contract_limits_the_device_model(
    clean, make_suite, cache, in_process, thresholds, tmp_path, is_limited
):
    path = tmp_path / "thresholds.toml"
    limits = 'cuda.device_model = { memory_max_mb = 100.0, source = "double" }\n'
    path.write_text(
        thresholds.path.read_text("utf-8").replace(
            "cuda.throughput.bs4", limits * is_limited + "cuda.throughput.bs4"
        )
    )
    suite = make_suite(cache, {"cuda": double(fault=BuildError("atc refused it: E10001"))})
    suite = dataclasses.replace(suite, thresholds=thresholds_from_file(path))
    record = suite.check(CUDA, "export")
    if is_limited:
        assert_red(record, Status.ERROR, "build: atc refused it: E10001")
    else:
        assert record.verdict.status is Status.PASS, record.verdict.reason


def test_a_compiler_that_is_killed(clean, make_suite, cache):
    faulty = double(fault=signal.SIGKILL)
    record = make_suite(cache, {"cuda": faulty}).check(CUDA, "throughput")
    assert_red(record, Status.ERROR, r"build: .*log: .*build-nonlocal_tiny.*killed by SIGKILL")
    assert record.stage == "build"
    assert leftovers(cache) == []


def leftovers(cache):
    return [path.name for path in cache.glob("*/??/.*") if path.suffix != ".lock"]


@dataclasses.dataclass
class Hanging(FaultyDevice):
    """A device that never opens a model."""

    def open(self, model, threads=None):
        time.sleep(3600.0)
        return super().open(model, threads)


def test_a_device_that_hangs_in_a_timing_is_killed_and_named(clean, make_suite, cache, monkeypatch):
    monkeypatch.setattr("harness.check.checks.HANG_S", 3.0)
    suite = make_suite(cache, {"cpu": Hanging(device("cpu"))})
    assert_red(suite.check(CELL, "throughput"), Status.ERROR, "run: time_session: .* 6 s")


def looks_for_ever(*_):
    time.sleep(3600.0)


def test_an_onnx_file_that_is_looked_at_for_too_long_is_an_error(
    clean, make_suite, cache, monkeypatch
):
    monkeypatch.setattr("harness.check.checks.HANG_S", 3.0)
    monkeypatch.setattr("harness.check.checks.measure_export", looks_for_ever)
    record = make_suite(cache).check(CELL, "export")
    assert_red(record, Status.ERROR, "export: looks_for_ever: .* 3 s")


@pytest.mark.parametrize("check", SCORED)
def test_a_device_that_hangs_in_this_process_is_given_up_and_named(
    clean, make_suite, cache, in_process, monkeypatch, released, check
):
    suite = make_suite(cache, {"cpu": FaultyDevice(device("cpu"), lambda: lambda outputs: wait())})
    wait = released.wait
    monkeypatch.setattr("harness.host.patience.HANG_S", 3.0)
    assert_red(suite.check(CELL, check), Status.ERROR, "run: FaultySession.run did not .* 3 s")
    # What else runs in a process with a device that may answer at any time does not count.
    assert_red(make_suite(cache).check(CELL, check), Status.ERROR, "an earlier call .* hangs")


@pytest.mark.parametrize("check", SCORED)
def test_a_decoder_that_hangs_in_this_process_is_given_up_and_named(
    make_suite, own_cache, in_process, monkeypatch, released, check
):
    shutil.rmtree(own_cache / "crops")
    monkeypatch.setattr("harness.data.loading.decode_frames", lambda *_: released.wait())
    monkeypatch.setattr("harness.data.streaming.usable_processors", lambda: 0)
    monkeypatch.setattr("harness.host.patience.HANG_S", 3.0)
    record = make_suite(own_cache).check(CELL, check)
    assert_red(record, Status.ERROR, r"decode: reading clip .*\.mp4 did not return within 3 s")


def test_a_file_that_never_loads_is_given_up_and_named(
    make_suite, own_cache, in_process, monkeypatch, released
):
    shutil.rmtree(own_cache / "onnx-scores")
    monkeypatch.setattr(
        "harness.predict.host_scores.unoptimised_session", lambda _: released.wait()
    )
    monkeypatch.setattr("harness.host.patience.HANG_S", 3.0)
    record = make_suite(own_cache).check(CELL, "parity")
    assert_red(record, Status.ERROR, r"run: loading .*_bs4\.onnx did not return within 3 s")


def test_a_probe_that_hangs_is_a_broken_device(make_suite, cache, monkeypatch, released):
    faulty = double()
    monkeypatch.setattr(faulty, "probe", released.wait)
    monkeypatch.setattr("harness.host.patience.HANG_S", 0.1)
    record = make_suite(cache, {"cuda": faulty}).check(CUDA, "export")
    assert_red(record, Status.ERROR, "DeviceBroken: cuda does not work: .* within 0.1 s")


def test_a_model_that_cannot_be_opened(clean, make_suite, cache, in_process):
    suite = make_suite(cache, {"cuda": double()})
    suite.bench.device_model(CUDA)
    suite.bench.device("cuda").fault = RunError("the driver is too old")
    record = suite.check(CUDA, "accuracy")
    assert_red(record, Status.ERROR, "run: the driver is too old")
    assert record.stage == "run"


def test_ctrl_c_in_the_middle_of_a_build(clean, make_suite, cache, in_process):
    faulty = double(fault=KeyboardInterrupt(), latency_s=0.040)
    suite = make_suite(cache, {"cuda": faulty})
    with pytest.raises(KeyboardInterrupt):
        suite.check(CUDA, "throughput")
    assert leftovers(cache) == []
    faulty.fault = None
    record = suite.check(CUDA, "throughput")
    assert record.verdict.status is Status.PASS
    built = suite.bench.device_model(CUDA).artifact
    assert built.path.stat().st_size == suite.bench.simplified(CUDA).artifact.path.stat().st_size


def test_seeded_weights_have_no_accuracy_and_are_never_signed_off(
    make_suite, cache, narrow_spec, in_process
):
    seeded = dataclasses.replace(narrow_spec, checkpoint="nowhere-00000000.pth")
    suite = make_suite(cache, model=seeded)
    record = suite.check(CELL, "accuracy")
    assert_red(record, Status.NOT_RUN, "checkpoint nowhere-00000000.pth is not on this machine")
    record = suite.check(CELL, "export")
    assert record.verdict.status is Status.PASS
    assert record.weights == "seeded"
    assert record.signoff_blockers == ("seeded weights",)


def test_a_damaged_checkpoint_is_an_error_and_no_seeded_run(make_suite, cache, fitted, tmp_path):
    _, path = fitted
    damaged = tmp_path / path.name
    damaged.write_bytes(path.read_bytes()[:-1])
    suite = make_suite(cache)
    suite.bench.site = suite.bench.site.model_copy(update={"checkpoints": (tmp_path,)})
    for check in CHECKS:
        record = suite.check(CELL, check)
        assert_red(record, Status.ERROR, f"CheckpointError: .*{path.name} is damaged or renamed")
        assert record.weights is None


def test_an_emulator_is_never_signed_off(clean, make_suite, cache, in_process):
    state = DeviceState(Presence.PRESENT, "emulated", {}, ("davinci0",), emulated=True)
    npu = FakeDevice(device_spec("ascend310p"), uniform, state=state)
    record = make_suite(cache, {"ascend310p": npu}).check(
        dataclasses.replace(CELL, device="ascend310p"), "export"
    )
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert record.is_emulated
    assert record.signoff_blockers == ("an emulator answered in the device's place",)


@pytest.fixture
def broken_clips(clip_set, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    broken = dataclasses.replace(clip_set.clips[0], path=path)
    return dataclasses.replace(clip_set, clips=(broken, *clip_set.clips[1:]), digest="broken")


def test_an_unreadable_clip(clean, make_suite, cache, in_process, broken_clips):
    suite = make_suite(cache, clips=broken_clips)
    name = broken_clips.clips[0].id
    record = suite.check(CELL, "accuracy")
    assert_red(record, Status.INVALID, f"1 clips could not be read .*{name}")
    assert record.measurement.join.unreadable.keys() == {name}
    for check in ("parity", "throughput"):
        assert_red(suite.check(CELL, check), Status.ERROR, f"ClipError: .* needs clip {name}")


def test_a_clip_set_that_is_smaller_than_the_contract(
    clean, make_suite, cache, in_process, clip_set
):
    fewer = dataclasses.replace(clip_set, clips=clip_set.clips[:-1], digest="fifteen")
    record = make_suite(cache, clips=fewer).check(CELL, "accuracy")
    assert_red(record, Status.INVALID, "has 15 clips, the contract says 16")


def test_too_few_clips_for_parity(clean, make_suite, cache, in_process, clip_set):
    fewer = dataclasses.replace(clip_set, clips=clip_set.clips[:3], digest="three")
    record = make_suite(cache, clips=fewer).check(CELL, "parity")
    assert_red(record, Status.ERROR, "needs 8 inputs, but clip set motion8 has only 3")


@pytest.fixture
def own_cache(clean, cache, tmp_path):
    """A copy of the cache that a test may harm."""
    return shutil.copytree(cache, tmp_path / "cache", ignore=shutil.ignore_patterns("*.lock"))


def test_the_node_that_a_stage_changed_is_named(make_suite, own_cache, in_process, monkeypatch):
    write, tampered = simplify.write_simplified, []

    def tampering(spec, batch, source, target):
        import onnx
        from onnx import numpy_helper

        facts = write(spec, batch, source, target)
        model = onnx.load(target)
        conv = [node for node in model.graph.node if node.op_type == "Conv"][20]
        weight = next(one for one in model.graph.initializer if one.name == conv.input[1])
        weight.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.5), weight.name)
        )
        onnx.save(model, target)
        tampered.append(conv.name)
        return facts

    monkeypatch.setattr(simplify, "write_simplified", tampering)
    for kind in ("simplified", "device"):
        shutil.rmtree(own_cache / kind)
    record = make_suite(own_cache).check(CELL, "parity")
    assert_red(record, Status.FAIL, "onnx_to_simplified .*; first divergent node: ")
    assert tampered[0] in record.verdict.reason
    assert tampered[0] in record.measurement.first_divergent_node


def test_a_simplified_file_that_does_not_load(make_suite, own_cache, in_process, monkeypatch):
    def write(spec, batch, source, target):
        target.write_bytes(b"no ONNX")
        return {}

    monkeypatch.setattr(simplify, "write_simplified", write)
    shutil.rmtree(own_cache / "simplified")
    suite = make_suite(own_cache)
    assert_red(suite.check(CELL, "parity"), Status.ERROR, "run: ONNX Runtime cannot load .*_sim")
    assert_red(suite.check(CELL, "accuracy"), Status.ERROR, "build: ONNX Runtime cannot load")
    assert_red(
        suite.check(CELL, "export"),
        Status.ERROR,
        "export: the model .*_sim.onnx is not a whole ONNX file .*delete it and run again",
    )


def test_a_stage_that_can_compare_nothing_leaves_a_record(
    make_suite, own_cache, in_process, monkeypatch
):
    def write(*_):
        raise InvalidMeasurement("nothing to compare with")

    monkeypatch.setattr(simplify, "write_simplified", write)
    shutil.rmtree(own_cache / "simplified")
    record = make_suite(own_cache).check(CELL, "parity")
    assert_red(record, Status.INVALID, "nothing to compare with")
    assert record.subjects.keys() == {"weights", "thresholds", "onnx", "clips"}


def test_a_check_that_ends_before_its_build_names_what_is_there_and_builds_nothing(
    make_suite, own_cache, in_process, monkeypatch
):
    def refuses(*_):
        raise InvalidMeasurement("mmaction2 reads the clips differently")

    monkeypatch.setattr("harness.check.checks.inputs_read_again", refuses)
    shutil.rmtree(own_cache / "device")
    suite = make_suite(own_cache)
    record = suite.check(CELL, "accuracy")
    assert_red(record, Status.INVALID, "mmaction2 reads the clips differently")
    assert record.subjects.keys() == {"weights", "thresholds", "onnx", "simplified", "clips"}
    assert "device" not in {entry.kind for entry in suite.bench.workshop.store.entries()}


def test_a_search_that_breaks_leaves_the_verdict(clean, make_suite, cache, in_process, monkeypatch):
    def breaks(*args):
        raise RunError("out of memory")

    monkeypatch.setattr("harness.check.divergence.first_divergent_module", breaks)
    make_fault = OUTPUT_FAULTS["NaN"][0]
    suite = make_suite(cache, {"cpu": FaultyDevice(device("cpu"), make_fault)})
    record = suite.check(CELL, "parity")
    assert_red(record, Status.FAIL, "non-finite output.*the search broke: out of memory")
    assert record.raw.keys() == {"scores", "repeats"}


@pytest.mark.parametrize("search", ["first_divergent_module", "first_divergent_operator"])
def test_a_search_that_hangs_is_given_up_and_named(
    clean, make_suite, cache, in_process, monkeypatch, released, search
):
    def hangs(*_):
        released.wait()

    for other in ("first_divergent_module", "first_divergent_node", "first_divergent_operator"):
        monkeypatch.setattr(
            f"harness.check.divergence.{other}", hangs if other == search else lambda *_: None
        )
    monkeypatch.setattr("harness.check.divergence.SEARCH_TIMES", 0.1)
    monkeypatch.setattr("harness.host.patience.HANG_S", 3.0)
    suite = make_suite(cache, {"cpu": FaultyDevice(device("cpu"), OUTPUT_FAULTS["NaN"][0])})
    record = suite.check(CELL, "parity")
    assert_red(record, Status.FAIL, r"broke: .*(hangs|search_inside) did not return within 0\.3 s")


def test_nothing_is_searched_where_the_shapes_differ():
    two, three = np.zeros((2, 8)), np.zeros((3, 8))
    scores = ChainScores(exact=two, torch=two, onnx=two, simplified=two, device=three)
    assert divergence(None, scores, None) is None


def test_the_search_begins_with_the_input_that_is_off_most(
    clean, make_suite, cache, in_process, monkeypatch
):
    feeds = []
    monkeypatch.setattr("harness.check.divergence.first_divergent_module", lambda *_: None)
    for search in ("first_divergent_node", "first_divergent_operator"):
        monkeypatch.setattr(
            f"harness.check.divergence.{search}",
            lambda source, target, feed, _: feeds.append(feed),
        )

    class WrongOnceInTheSecondBatch:
        def __init__(self):
            self.batches = 0

        def __call__(self, outputs):
            self.batches += 1
            rows = outputs["class"].copy()
            if self.batches == 2:
                rows[1] = rows[1, ::-1]
            return {"class": rows}

    suite = make_suite(cache, {"cpu": FaultyDevice(device("cpu"), WrongOnceInTheSecondBatch)})
    record = suite.check(CELL, "parity")
    assert_red(record, Status.FAIL, "simplified_to_device")
    fifth = suite.bench.clip_set("nonlocal_tiny").clips[5]
    assert record.measurement.input_ids[5] == fifth.id
    expected = sample_from_clip(fifth, suite.bench.model("nonlocal_tiny").protocol).tensor
    assert len(feeds) == 2
    for feed in feeds:
        np.testing.assert_array_equal(feed["video"], np.broadcast_to(expected, (4, 8, 3, 32, 32)))


@pytest.mark.parametrize("kind", ["onnx", "simplified", "device"])
def test_a_corrupted_artifact_is_noticed_and_built_again(
    clean, make_suite, cache, own_cache, in_process, caplog, kind
):
    bench = clean[0].bench
    models = {
        "onnx": bench.exported(CELL),
        "simplified": bench.simplified(CELL),
        "device": bench.device_model(CELL),
    }
    payload = own_cache / models[kind].artifact.path.relative_to(cache)
    content = payload.read_bytes()
    payload.write_bytes(content[:-9] + bytes(9))
    suite = make_suite(own_cache)
    suite.bench.device_model(CELL)
    record = suite.check(CELL, "export")
    assert record.verdict.status is Status.PASS
    hits = {event.kind: event.hit for event in reversed(suite.bench.workshop.store.events)}
    assert hits == {name: name != kind for name in ("onnx", "simplified", "device")}
    assert "is damaged and will be built again" in caplog.text
    # ONNX Runtime numbers what it fuses differently each time; the others write the same bytes.
    assert kind == "device" or payload.read_bytes() == content


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only"), (errno.EACCES, "Permission")],
)
def test_a_cache_that_cannot_be_written(
    clean, make_suite, tmp_path, in_process, monkeypatch, number, said
):
    def write(*args):
        args[-1].write_bytes(b"half")
        raise OSError(number, os.strerror(number), str(args[-1]))

    monkeypatch.setattr("harness.build.onnx_export.write_onnx", write)
    record = make_suite(tmp_path / "small").check(CELL, "export")
    assert_red(record, Status.ERROR, rf"ArtifactError: cannot write .*{said}.*harness cache prune")
    assert record.stage == "ArtifactError"
    assert leftovers(tmp_path / "small") == []


def test_a_disk_without_room_for_raw_files(clean, make_suite, cache, in_process):
    suite = make_suite(cache)
    with full_disk(1000):
        record = suite.check(CELL, "parity")
    assert_red(record, Status.ERROR, r"RecordError: .*\.npz cannot be written: .*; make room")
    assert (record.raw, record.measurement) == ({}, None)
    assert suite.check(CELL, "parity").verdict.status is Status.PASS


def test_a_cache_below_a_file(make_suite, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    record = make_suite(tmp_path / "file" / "cache").check(CELL, "export")
    assert_red(record, Status.ERROR, "ArtifactError: cannot write .*ACCEPTANCE_CACHE_DIR")
