import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import harness
from harness import registry
from harness.__main__ import main
from harness.cli import models as command_line
from harness.cli.arguments import site_of
from harness.clips import Clip, ClipSet, Predictions
from harness.contract.thresholds import thresholds_from_file
from harness.device import DeviceState, Presence, ToolState
from harness.errors import BuildError
from harness.host.artifacts import ArtifactStore
from harness.host.progress import Progress
from harness.host.site import SITE_VARIABLE
from harness.judge.measurement import judge_measurement
from harness.measure.accuracy import accuracy_measurement
from harness.measure.export import ExportMeasurement, MultiplyAdds
from harness.measure.host_turns import Turns
from harness.measure.measurement import json_lines
from harness.measure.parity import ChainScores, InputCounts, parity_measurement
from harness.measure.passport import Passport
from harness.measure.throughput import session_timing, throughput_measurement
from harness.record.record import Record, RunDirectory, RunFacts, new_run_directory
from harness.record.stints import HOSTS, Stint
from harness.spec import CHECKS, Cell, Status
from tests.made import MOTION8_DIGEST

ROOT = Path(harness.__file__).parent.parent
CELL = Cell("nonlocal_tiny", "cpu", 1)
GOLDEN = thresholds_from_file(ROOT / "thresholds.toml").limits(CELL).throughput.golden
COMMANDS = (
    *("doctor", "model", "models", "export", "build", "run", "judge", "cache", "om"),
    *("history", "baseline", "gate", "bisect"),
)


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A machine without a site file, whose cache is its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ACCEPTANCE_SITE", raising=False)
    monkeypatch.delenv("ACCEPTANCE_CHECKPOINTS", raising=False)
    monkeypatch.setenv("ACCEPTANCE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


# Help and usage


def test_a_newcomer_can_read_the_help():
    done = subprocess.run(
        [sys.executable, "-m", "harness", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "pytest -m cpu acceptance/" in done.stdout
    for name in COMMANDS:
        assert re.search(rf"^    {name} +\w+", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(capsys, name):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"usage: harness {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["export"], "required: model"),
        (["export", "nonlocal_tiny", "--batch-size", "0"], "'0' is not a whole number above 0"),
        (["build", "nonlocal_tiny", "--batch-size", "x"], "'x' is not a whole number above 0"),
        (["judge"], "required: run"),
        (["cache", "empty"], "invalid choice: 'empty'"),
        (["cache", "prune", "--max-gb", "all"], "'all' is not a number"),
        (["cache", "prune", "--max-gb", "-1"], "'-1' is not a number from 0"),
        (["cache", "prune", "--older-than-days", "nan"], "'nan' is not a number"),
        (["cache", "prune", "--older-than-days", "1e9"], "'1e9' is not a number"),
    ],
)
def test_wrong_usage_is_explained(capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "resnet"], "harness export: no model is called 'resnet'; there are: nonlocal_"),
        (["build", "nonlocal_tiny", "--device", "tpu"], "no device is called 'tpu'; there are: "),
        (["--site", "none.toml", "doctor"], "cannot read the site file none.toml"),
        (["run", "nonlocal_tiny", "--clips", "none.txt"], "none.txt"),
    ],
)
def test_what_cannot_be_used_is_named(capsys, arguments, words):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert "Traceback" not in shown.err


def test_ctrl_c_is_an_answer_too(capsys, monkeypatch):
    def interrupt(site):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "doctor_lines", interrupt)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "harness doctor: stopped; what was finished is kept\n"


# Looking


def test_doctor_says_what_works_and_why_not_the_rest(capsys, monkeypatch):
    absent = DeviceState(Presence.ABSENT, "npu-smi is not on PATH")
    monkeypatch.setattr(type(registry.device("ascend310p")), "probe", lambda self: absent)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^  cpu +present ", shown, re.MULTILINE)
    assert re.search(r"^  ascend310p +absent +npu-smi is not on PATH", shown, re.MULTILINE)
    assert re.search(r"^  site file +none; all defaults", shown, re.MULTILINE)
    assert re.search(r"^  locks +.*: private; runs of other users .* not seen", shown, re.MULTILINE)
    assert re.search(r"^  timesformer  .*data set kinetics400 is not on", shown, re.MULTILINE)
    assert re.search(r"^  nonlocal_tiny .*480 clips of motion8; ", shown, re.MULTILINE)


def test_doctor_without_the_shipped_weights_says_no(capsys, monkeypatch, tmp_path):
    (shipped,) = (ROOT / "fixtures/checkpoints").glob("nonlocal_tiny*.pth")
    (tmp_path / shipped.name).write_bytes(shipped.read_bytes()[:-100])
    monkeypatch.setenv("ACCEPTANCE_CHECKPOINTS", str(tmp_path))
    assert main(["doctor"]) == 1
    assert "damaged or renamed" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "harness", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        told = process.stderr.read().decode()
    assert process.returncode == 141
    assert told.splitlines()[-1] == "harness models: nobody reads its output any more"
    assert "Traceback" not in told


def test_output_that_cannot_be_written_is_told_and_is_no_answer(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "harness", "models"],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    said = "harness models: its output cannot be written: No space left on device\n"
    assert done.stderr == said
    assert list(tmp_path.iterdir()) == []


def test_doctor_without_a_working_processor_says_no(capsys, monkeypatch):
    state = DeviceState(Presence.BROKEN, "onnxruntime cannot be imported")
    monkeypatch.setattr(type(registry.device("cpu")), "probe", lambda self: state)
    assert main(["doctor"]) == 1
    assert "onnxruntime cannot be imported" in capsys.readouterr().out


def test_doctor_says_no_when_a_device_that_is_there_cannot_be_used(capsys, monkeypatch):
    state = DeviceState(Presence.BROKEN, "dcmi ... ret is -8005")
    monkeypatch.setattr(type(registry.device("ascend310p")), "probe", lambda self: state)
    assert main(["doctor"]) == 1
    assert "ascend310p  broken" in capsys.readouterr().out


def test_doctor_probes_with_the_tools_of_the_site(capsys, monkeypatch, tmp_path):
    smi, site = tmp_path / "my-smi", tmp_path / "site.toml"
    smi.write_text("#!/bin/sh\necho 'dcmi module initialize failed. ret is -8005'\n")
    smi.chmod(0o755)
    site.write_text(f'[ascend]\nnpu_smi = "{smi}"\n')
    assert main(["--site", str(site), "doctor"]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"^  ascend310p +broken .*-8005", shown, re.MULTILINE)
    assert re.search(r"^  npu-smi .*no answer", shown, re.MULTILINE)


def test_doctor_checks_an_ascend_host_alone(capsys, monkeypatch):
    cann = type(registry.device("ascend310p"))
    present = DeviceState(Presence.PRESENT, "one chip")
    states = {"ascend310": DeviceState(Presence.ABSENT, "none"), "ascend310p": present}
    monkeypatch.setattr(cann, "probe", lambda self: states[self.spec.name])
    monkeypatch.setattr(cann, "toolchain", lambda self: (ToolState("atc", "any", "here"),))
    monkeypatch.setattr(cann, "host_checks", lambda self: (ToolState("user", "any", "ann"),))
    assert main(["doctor", "--ascend"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^  user +any +ann$", shown, re.MULTILINE)
    assert "nothing to mend" in shown
    assert "nonlocal" not in shown
    monkeypatch.setattr(cann, "host_checks", lambda self: (ToolState("u", "any", "x", "do y"),))
    assert main(["doctor", "--ascend"]) == 1
    assert "      do y\n" in capsys.readouterr().out
    states["ascend310p"] = states["ascend310"]
    assert main(["doctor", "--ascend"]) == 1
    assert "no Ascend device can be used" in capsys.readouterr().out


def test_an_offline_model_is_shown(capsys, monkeypatch, tmp_path):
    (tmp_path / "x.om").write_bytes(b"om")
    said = Passport(soc_version="Ascend310P3", command="atc --model=x", memory_bytes=2_000_000)
    monkeypatch.setattr(
        "harness.runtimes.ascend.foreign.passport_from_file", lambda path, tools: said
    )
    assert main(["om", "show", str(tmp_path / "x.om")]) == 0
    shown = capsys.readouterr().out
    assert "chip              Ascend310P3" in shown
    assert "memory            2.0 MB" in shown
    assert re.search("^sha256 +[0-9a-f]{64}$", shown, re.MULTILINE)


def test_an_offline_model_that_is_not_there_is_said(capsys, tmp_path):
    assert main(["om", "show", str(tmp_path / "x.om")]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_models_are_listed_with_what_they_take_and_give(capsys, tmp_path):
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if not line.startswith(" ")] == list(
        registry.model_names()
    )
    assert "  input   video [1, 8, 3, 224, 224] float32" in shown
    assert "seeded; tsm_nl_" in shown


# The store


@pytest.fixture
def store(tmp_path):
    kept = ArtifactStore(tmp_path / "cache")
    for kind in ("onnx", "simplified"):

        def write(target):
            target.write_bytes(b"x" * 1_000_000)
            return {}

        kept.get_or_build(kind, "m.onnx", {"kind": kind}, write)
    return kept


def test_the_store_is_listed(capsys, store):
    assert main(["cache", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines[:2]) == ["onnx", "simplified"]
    assert lines[2] == "2 artifacts, 2.0 MB"
    assert main(["cache", "list", "--kind", "onnx"]) == 0
    assert "1 artifacts, 1.0 MB" in capsys.readouterr().out


def test_pruning_can_be_tried_first(capsys, store):
    assert main(["cache", "prune", "--max-gb", "0.0015", "--dry-run"]) == 0
    assert "would remove 1 artifacts, 1.0 MB" in capsys.readouterr().out
    assert len(store.entries()) == 2
    assert main(["cache", "prune", "--kind", "onnx", "--older-than-days", "0"]) == 0
    assert "removed 1 artifacts, 1.0 MB" in capsys.readouterr().out
    assert [entry.kind for entry in store.entries()] == ["simplified"]


def test_pruning_asks_for_what_to_remove(capsys, store):
    for options in ([], ["--dry-run"]):
        assert main(["cache", "prune", *options]) == 2
        assert "needs --max-gb, --older-than-days or --kind" in capsys.readouterr().err
    assert len(store.entries()) == 2


# Building and running


class Bench:
    """Stands for the workbench: every file is there already, and the processor is free."""

    def __init__(self, options):
        self.site, self.progress = site_of(options), Progress()

    def exported(self, cell):
        return self._file(f"{cell.id}.onnx")

    def simplified(self, cell):
        return self._file(f"{cell.id}_sim.onnx")

    def device_model(self, cell):
        return self._file(f"{cell.id}.om")

    def weights(self, name):
        return SimpleNamespace(path=None if name == "timesformer_tiny" else Path(f"{name}.pth"))

    @contextlib.contextmanager
    def beside_others(self):
        self.is_beside_others = True
        yield
        self.is_beside_others = False

    def _file(self, name):
        return SimpleNamespace(artifact=SimpleNamespace(path=Path("cache", name)))


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(command_line, "workbench_of", Bench)
    return Bench


def test_export_tells_both_files(capsys, bench):
    assert main(["export", "nonlocal_tiny", "--batch-size", "4"]) == 0
    assert capsys.readouterr().out.split() == [
        *("exported", "cache/nonlocal_tiny-cpu-bs4.onnx"),
        *("simplified", "cache/nonlocal_tiny-cpu-bs4_sim.onnx"),
    ]


def test_build_tells_the_device_model(capsys, bench):
    assert main(["build", "timesformer", "--device", "ascend310p"]) == 0
    assert capsys.readouterr().out.split() == ["built", "cache/timesformer-ascend310p-bs1.om"]


def test_a_build_that_breaks_is_told(capsys, bench, monkeypatch):
    def refuse(self, cell):
        raise BuildError("atc refused m.onnx; log in logs/m.log")

    monkeypatch.setattr(Bench, "device_model", refuse)
    assert main(["build", "timesformer"]) == 2
    assert capsys.readouterr().err == "harness build: atc refused m.onnx; log in logs/m.log\n"


@pytest.fixture
def clips(monkeypatch):
    """Three clips, of which the second cannot be read and the third is taken for another."""

    def answer(cell, bench, wanted, whole):
        assert bench.is_beside_others
        assert wanted is whole is listed
        scores = np.zeros((2, 1, 8), np.float32)
        scores[[0, 1], 0, [0, 5]] = 9.0
        return Predictions(("c0", "c2"), scores, {"c1": "no frames"}), ("a note",)

    monkeypatch.setattr(command_line, "chip_predictions", answer)
    clips = tuple(Clip(f"c{number}", Path(f"c{number}.mp4"), number) for number in range(3))
    listed = ClipSet("motion8", clips, tuple("abcdefgh"), MOTION8_DIGEST)
    return listed


def test_run_counts_what_is_right_and_keeps_the_predictions(
    capsys, bench, clips, monkeypatch, tmp_path
):
    monkeypatch.setattr(bench, "clip_set", lambda self, name: clips, raising=False)
    # One of them could not be read.
    assert main(["run", "nonlocal_tiny", "--output", "preds.npz"]) == 1
    shown = capsys.readouterr().out
    assert "seeded" not in shown
    assert "nonlocal_tiny-cpu-bs1: 1 of 3 clips right (top-1)" in shown
    assert "unreadable: c1: no frames" in shown
    with np.load(tmp_path / "preds.npz") as kept:
        assert kept["scores"].shape == (2, 1, 8)


def test_run_takes_a_list_of_clips(capsys, bench, clips, monkeypatch):
    asked = []

    def read(path, names, name):
        asked.append((path.name, len(names), name))
        return clips

    monkeypatch.setattr(command_line, "clip_set_from_list", read)
    assert main(["run", "nonlocal_tiny", "--clips", "few.txt"]) == 1
    assert asked == [("few.txt", 8, "few")]
    assert "predictions" not in capsys.readouterr().out


def test_seeded_weights_are_told(capsys, bench, clips, monkeypatch):
    monkeypatch.setattr(bench, "clip_set", lambda self, name: clips, raising=False)
    main(["run", "timesformer_tiny"])
    shown = capsys.readouterr().out
    assert "is not on this machine: how many are right says nothing" in shown


def test_predictions_that_cannot_be_written_are_told_before_the_work(
    capsys, bench, clips, monkeypatch
):
    monkeypatch.setattr(bench, "clip_set", lambda self, name: clips, raising=False)
    monkeypatch.setattr(command_line, "chip_predictions", None)
    assert main(["run", "nonlocal_tiny", "--output", "/nonexistent/x.npz"]) == 2
    assert "cannot write predictions to /nonexistent/x.npz" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["export", "build", "run"])
def test_a_batch_that_a_model_does_not_take_is_refused(capsys, bench, command):
    assert main([command, "timesformer", "--batch-size", "4"]) == 2
    assert "timesformer supports bs1 only, not bs4" in capsys.readouterr().err


# Judging again


def measurements():
    """What the four checks of a good cell measure."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(64, 8))
    near = scores + 1e-7 * rng.normal(size=scores.shape)
    chain = ChainScores(exact=scores, torch=near, onnx=near, simplified=near, device=near)
    ids = [f"c{number}" for number in range(64)]
    labels = rng.integers(0, 8, size=480)
    classes = labels.copy()
    classes[:4] = (classes[:4] + 1) % 8
    logits = rng.uniform(size=(480, 1, 8)).astype(np.float32)
    logits[np.arange(480), 0, classes] += 3.0
    names = tuple(f"c{number}" for number in range(480))
    clips = tuple(
        Clip(name, Path(name), int(label)) for name, label in zip(names, labels, strict=True)
    )
    clip_set = ClipSet("motion8", clips, tuple("abcdefgh"), MOTION8_DIGEST)
    preds = Predictions(names, logits)
    # A little slower beside the unoptimised graph than the contract's golden, and well within its tolerance.
    turns = Turns(processor_ms=(10.0,) * 40, unoptimised_processor_ms=(0.99 * GOLDEN * 10.0,) * 40)
    times = [session_timing([9.0] * 40, [10.0] * 40, (), turns) for _ in range(3)]
    return {
        "export": ExportMeasurement(
            problems=(),
            ops_checked=3,
            opset=11,
            op_counts={"Conv": 3},
            inputs=(),
            outputs=(),
            onnx_bytes=10,
            multiply_adds=MultiplyAdds(torch=9, exported=9, simplified=9),
        ),
        "parity": parity_measurement(chain, ids, InputCounts(clip=48, noise=12, constant=4)),
        "accuracy": accuracy_measurement(preds, clip_set, preds),
        "throughput": throughput_measurement(times, 1),
    }


@pytest.fixture(scope="module")
def verdicts():
    thresholds = thresholds_from_file(ROOT / "thresholds.toml")
    limits = thresholds.limits(CELL)
    return {
        check: (measured, judge_measurement(measured, limits, 64, 2))
        for check, measured in measurements().items()
    }


@pytest.fixture
def run(tmp_path, verdicts, monkeypatch):
    """A stored run of the smoke tier with one cell, all of it green.

    Its measurements have no raw files; what recomputing finds, tests/record/ shows.
    """
    monkeypatch.setattr("harness.decide.rejudge.founded_records", RunDirectory.records)
    found = new_run_directory(tmp_path / "r1")
    found.write_facts(facts())
    for check, (measured, verdict) in verdicts.items():
        raw = {"times": found.keep(check.encode(), ".bin")}
        found.append(record(check, verdict, measured, raw=raw))
    return found


def facts(**more):
    thresholds = thresholds_from_file(ROOT / "thresholds.toml")
    fields = {
        "run_id": "r1",
        "tier": "smoke",
        "started": "now",
        "command": ("pytest",),
        "thresholds_digest": thresholds.digest,
        "environment": {},
        "required": tuple(f"{CELL.id}:{check}" for check in CHECKS),
        "is_over": True,
    }
    return RunFacts.model_validate(fields | more)


def record(check, verdict, measurement, **more):
    return Record(
        run_id="r1",
        tier="smoke",
        model=CELL.model,
        device=CELL.device,
        batch=CELL.batch,
        check=check,
        verdict=verdict,
        measurement=measurement,
        is_device_present=True,
        subjects={"inputs": thresholds_from_file(ROOT / "thresholds.toml").limits(CELL).inputs},
        started="now",
        seconds=0.0,
        **more,
    )


def judge(run, *arguments):
    return main(["judge", str(run.root), *arguments])


def other_thresholds(tmp_path, old, new):
    text = (ROOT / "thresholds.toml").read_text()
    head, key, rest = text.partition("[models.nonlocal_tiny]")
    assert old in rest
    path = tmp_path / "other.toml"
    path.write_text(head + key + rest.replace(old, new, 1))
    return str(path)


def test_the_measurements_here_pass(verdicts):
    assert {check: verdict.status for check, (_, verdict) in verdicts.items()} == dict.fromkeys(
        CHECKS, Status.PASS
    )


def test_a_stored_run_gets_the_same_verdict(capsys, run):
    assert judge(run) == 0
    shown = capsys.readouterr().out
    assert re.search(r"nonlocal_tiny-cpu-bs1 +pass +pass \d+ % of limit +pass \+10 clips", shown)
    assert "which is not what the run was judged by" not in shown
    assert "Speed by batch size" not in shown
    assert judge(run, "--language", "zh") == 0
    said = capsys.readouterr().out
    assert re.search(r"nonlocal_tiny-cpu-bs1 +通过 +通过 限值的 \d+ % +通过 \+10 个片段", said)


def test_a_stored_run_is_judged_in_the_language_of_the_site(capsys, run, tmp_path, monkeypatch):
    (tmp_path / "here.toml").write_text('language = "zh"\nshare_locks_as_root = true\n')
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "here.toml"))
    assert judge(run) == 0
    assert "运行报告：" in capsys.readouterr().out
    assert judge(run, "--language", "en") == 0
    assert "Run report: " in capsys.readouterr().out


def test_results_of_one_host_are_thrown_out_and_the_rest_is_judged(capsys, tmp_path, verdicts, run):
    found = new_run_directory(tmp_path / "farm" / "r1")
    found.write_facts(facts())
    for check, (measured, verdict) in verdicts.items():
        shard = Stint(host="second", what="a shard", start_s=1.0, end_s=2.0)
        stints = [shard] if check == "accuracy" else []
        raw = {HOSTS: found.keep(json_lines(stints), ".jsonl")}
        kept = record(check, verdict, measured, raw=raw, host_facts={"host": "first"})
        found.append(kept)
    assert judge(found, "--without-host", "third") == 0
    capsys.readouterr()
    assert judge(found, "--without-host", "second") == 1
    shown = capsys.readouterr().out
    assert "results of second were thrown out: run the check again without that host" in shown
    assert re.search(r"nonlocal_tiny-cpu-bs1 +pass +pass \d+ % of limit +invalid +pass", shown)
    assert judge(found, "--without-host", "first") == 1
    shown = capsys.readouterr().out
    assert re.search(r"nonlocal_tiny-cpu-bs1 +invalid +invalid +invalid +invalid", shown)


def test_a_run_of_several_batch_sizes_names_the_best(capsys, run, verdicts):
    measured, verdict = verdicts["throughput"]
    content = json.loads(measured.model_dump_json()) | {"batch": 4}
    for series in (content["device"]["per_s"], content["device_io"]["per_s"]):
        series["mean"] *= 4
    faster = type(measured).from_json(json.dumps(content))
    run.append(record("throughput", verdict, faster).model_copy(update={"batch": 4}))
    assert judge(run) == 0
    shown = capsys.readouterr().out
    assert "Speed by batch size in clips/s" in shown
    assert "nonlocal_tiny cpu, by host: bs1 100  bs4 400; best bs4" in shown


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("top1 = { floor = 0.97,", "top1 = { floor = 0.995,", "FAIL: nonlocal_tiny-cpu-bs1:accur"),
        (f"golden = {GOLDEN}", f"golden = {2 * GOLDEN}", "FAIL: nonlocal_tiny-cpu-bs1:throughput"),
    ],
)
def test_other_thresholds_give_another_verdict(capsys, run, tmp_path, old, new, words):
    assert judge(run, "--thresholds", other_thresholds(tmp_path, old, new)) == 1
    shown = capsys.readouterr().out
    assert words in shown
    assert "which is not what the run was judged by then" in shown
    assert judge(run) == 0


def test_what_the_contract_requires_now_must_have_passed(capsys, run, tmp_path):
    path = run.root / "run.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"required": stored["required"][:1]}))
    assert judge(run) == 0
    lines = (run.root / "records.jsonl").read_text().splitlines()
    parity = json.loads(lines[1]) | {"measurement": None, "stage": None}
    parity["verdict"] |= {"status": "not run", "reason": "no weights", "findings": []}
    (run.root / "records.jsonl").write_text("\n".join([lines[0], json.dumps(parity), ""]))
    assert judge(run) == 6
    assert "NOT RUN: nonlocal_tiny-cpu-bs1:parity\n    no weights" in capsys.readouterr().out
    excused = [f"{CELL.id}:accuracy"]
    path.write_text(json.dumps(stored | {"required": stored["required"][:1], "excused": excused}))
    # The processor was there, so nothing excuses its checks.
    assert judge(run) == 6
    assert "NOT RUN: nonlocal_tiny-cpu-bs1:accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "asked"), [(480, "the whole set"), (200, "479 clips")])
def test_fewer_clips_than_the_tier_asks_for_are_no_pass(capsys, run, tmp_path, count, asked):
    path, other = run.root / "records.jsonl", tmp_path / "other.toml"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["measurement"] |= {"is_whole": False, "clip_count": count}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text, key = (ROOT / "thresholds.toml").read_text(), "clips = { timesformer_tiny-cpu = 240"
    more = key + ", nonlocal_tiny-cpu = 479" if count < 480 else key
    other.write_text(text.replace(key, more))
    assert judge(run, "--thresholds", str(other)) == 1
    shown = capsys.readouterr().out
    assert f"measured on {count} clips, tier smoke asks for {asked}" in shown


def test_a_pass_on_a_device_that_was_not_there_is_refused(capsys, run):
    path = run.root / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1] |= {"is_device_present": False, "verdict": lines[1]["verdict"] | {"status": "fail"}}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert judge(run) == 2
    assert "would pass on a device that was not there" in capsys.readouterr().err


def test_more_sessions_than_were_timed_decide_nothing(capsys, run, tmp_path):
    path = tmp_path / "other.toml"
    text = (ROOT / "thresholds.toml").read_text()
    head, key, rest = text.partition("[tiers.smoke]")
    path.write_text(head + key + rest.replace("sessions_min = 2", "sessions_min = 5", 1))
    assert judge(run, "--thresholds", str(path)) == 7
    assert "INCONCLUSIVE: nonlocal_tiny-cpu-bs1:throughput" in capsys.readouterr().out


def test_a_check_that_did_not_run_stays_so(run, capsys):
    path = run.root / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2] |= {"verdict": {"status": "not run", "reason": "no clips"}, "measurement": None}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert judge(run) == 6
    assert "NOT RUN: nonlocal_tiny-cpu-bs1:accuracy\n    no clips" in capsys.readouterr().out


def test_a_removed_line_is_missed(run, capsys):
    path = run.root / "records.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    assert judge(run) == 6
    assert "NOT RUN: nonlocal_tiny-cpu-bs1:throughput" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"is_over": False}, 1, "ERROR: (run)\n    it was stopped or broke before it finished"),
        ({"broken": {"test_x": "teardown failed: no"}}, 1, "ERROR: test_x\n    teardown failed"),
        ({"required": ()}, 6, "no check was required, so nothing was shown"),
        ({"required": ("a-cpu-bs1:export",)}, 6, "NOT RUN: a-cpu-bs1:export"),
        ({"required": ("a-cpu-bs1:export", "b"), "excused": ("b",)}, 6, "NOT RUN: a-cpu-bs1:ex"),
        ({"excused": (f"{CELL.id}:export",)}, 0, "pass"),
    ],
)
def test_judging_again_forgets_nothing_of_the_run(run, capsys, more, status, words):
    run.write_facts(facts(**more))
    assert judge(run) == status
    assert words in capsys.readouterr().out


def test_a_cell_without_limits_is_named(run, tmp_path, capsys):
    text = (ROOT / "thresholds.toml").read_text()
    table = text.index("[models.nonlocal_tiny.devices.cpu.throughput]")
    start, end = text.index("bs1 = ", table), text.index("bs4 = ", table)
    path = tmp_path / "other.toml"
    path.write_text(text[:start] + text[end:])
    assert judge(run, "--thresholds", str(path)) == 2
    assert "has no limits for nonlocal_tiny-cpu-bs1, which was run" in capsys.readouterr().err


def test_a_raw_file_that_was_touched_is_named(run, capsys):
    next((run.root / "raw").iterdir()).write_bytes(b"better")
    assert judge(run) == 2
    assert "changed since the run" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_a_run_is_named(tmp_path, capsys, name):
    assert main(["judge", str(tmp_path / name)]) == 2
    assert "is it a run folder?" in capsys.readouterr().err


def test_damaged_thresholds_are_named(run, tmp_path, capsys):
    path = other_thresholds(tmp_path, f"golden = {GOLDEN}", 'golden = "a third"')
    assert judge(run, "--thresholds", path) == 2
    assert "throughput.bs1.golden: " in capsys.readouterr().err
