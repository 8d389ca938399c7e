"""Accuracy through files and through InferSession, with every way they can fail."""

import contextlib
import dataclasses
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InvalidMeasurement, RunError
from harness.host.command import CommandResult
from harness.measure.throughput import session_timing, throughput_measurement
from harness.predict.run import run_tensors
from harness.runtimes.ascend.ais_bench import (
    AisBench,
    BenchRun,
    OmOnChip,
    accuracy_command,
    found_ais_bench,
    loop_command,
    summary_of_run,
)
from harness.runtimes.ascend.ais_bench_errors import REASONS, reason_from_result, sentence_from_text
from harness.runtimes.ascend.ais_bench_files import chunks_of
from harness.runtimes.ascend.ais_bench_result import check_times, summary_from_file
from harness.runtimes.ascend.environment import CannTools, cann_environment
from harness.runtimes.ascend.npu_smi_table import NpuProcess
from harness.timings import LoopSettings


@pytest.fixture
def run(make, tmp_path):
    python = AisBench("/opt/py/bin/python3", "2025", {})
    model = OmOnChip(make.tiny_onnx(tmp_path), Path("/scratch/model.om"), 3, python, CannTools())
    return BenchRun(model, Path("/scratch/run-1"), Path("/logs/x.log"))


def test_the_accuracy_command_has_absolute_paths_npy_and_one_device(run):
    assert accuracy_command(run, [Path("/scratch/in")]) == (
        *("/opt/py/bin/python3", "-m", "ais_bench", "--model", "/scratch/model.om"),
        *("--output", "/scratch/run-1/out", "--output_dirname", "result"),
        *("--outfmt", "NPY", "--device", "3", "--input", "/scratch/in"),
    )


@pytest.mark.parametrize(("warmup", "used"), [(1, "5"), (9, "9")])
def test_the_loop_command_is_pure_inference_warmed_up(run, warmup, used):
    command = loop_command(run, 50, warmup)
    assert command[-4:] == ("--loop", "50", "--warmup_count", used)
    assert "--input" not in command


def test_the_generation_is_told_by_the_options(bench, generation):
    found = found_ais_bench(bench.tools, cann_environment(bench.tools))
    assert (found.generation, found.python) == (generation, sys.executable)


def test_our_own_interpreter_is_the_last_resort(bench):
    tools = dataclasses.replace(bench.tools, python="")
    env = {**cann_environment(tools), "PATH": "/nowhere"}
    assert found_ais_bench(tools, env).python == sys.executable


@pytest.mark.parametrize("python", ["", "/no/such/python3"])
def test_a_missing_ais_bench_names_the_interpreters(bench, python):
    bench.fault("bench_missing")
    tools = dataclasses.replace(bench.tools, python=python)
    with pytest.raises(
        RunError,
        match=r"fails in .*python3.*install the aclruntime and ais_bench wheels.*site.toml",
    ):
        found_ais_bench(tools, cann_environment(tools))


def test_an_ais_bench_that_hangs_is_said(bench):
    slow = dataclasses.replace(
        bench.tools, run=lambda command: CommandResult(0, "--outfmt", 30.0, timed_out=True)
    )
    with pytest.raises(RunError, match="timed out"):
        found_ais_bench(slow, {})


def opened(bench, make, batch=2, **tools):
    onnx = make.tiny_onnx(bench.folder, batch=batch)
    device = bench.device(**tools)
    return onnx, device, bench.built_before(onnx)


def test_samples_are_files_mapped_by_name_in_bounded_chunks(bench, make, generation):
    onnx, device, model = opened(bench, make, batch=4, streaming=False, chunk_bytes=4 * 4 * 192)
    seen = []

    def watch(command):
        if "--input" in command.argv:
            folder = Path(command.argv[command.argv.index("--input") + 1])
            seen.append(sorted((p.name, p.stat().st_size) for p in folder.iterdir()))
            assert command.cwd.stat().st_mode & 0o077 == 0
        return bench.tools.run(command)

    device = dataclasses.replace(device, tools=dataclasses.replace(device.tools, run=watch))
    session = device.open(model)
    feeds = [make.random_feed(onnx, seed) for seed in range(5)]
    outputs = list(session.run_many(feeds))
    session.close()
    for feed, output in zip(feeds, outputs, strict=True):
        np.testing.assert_allclose(output["class"], make.expected_output(onnx, feed), rtol=1e-6)
    # 16 samples: natural and lexical order would differ without the zeros.
    assert [len(files) for files in seen] == [16, 4]
    assert seen[0][10] == ("000010.bin", 192)


@pytest.mark.parametrize("streaming", [True, False])
def test_the_padding_of_the_last_batch_is_in_no_result(bench, make, streaming):
    onnx = make.tiny_onnx(bench.folder, batch=4)
    device = bench.device(streaming=streaming)
    tensors = [make.random_feed(onnx, n)["video"][:1] for n in range(5)]
    session = device.open(bench.built(onnx, device))
    scores = run_tensors(session.run_many, onnx.spec, 4, tensors)
    # Two batches of four were run; speed never comes from them, but from pure inference.
    times = session.loop(
        {"video": np.zeros(onnx.inputs[0].shape, np.float32)}, LoopSettings(5, 7, 0.0)
    )
    session.close()
    assert scores.shape == (5, 5)
    assert len(times.device_ms) == 7


def test_three_crops_stay_together(bench, make):
    onnx = make.tiny_onnx(bench.folder, make.tiny_spec("tsf_tiny", crops=3))
    device = bench.device(streaming=False)
    session = device.open(bench.built_before(onnx))
    feed = make.random_feed(onnx)
    output = session.run(feed)["class"]
    session.close()
    assert output.shape == (3, 5)
    np.testing.assert_allclose(output, make.expected_output(onnx, feed), rtol=1e-6)


@pytest.mark.parametrize("streaming", [True, False])
def test_odd_batches_are_refused_before_the_run(bench, make, streaming):
    onnx, device, model = opened(bench, make, streaming=streaming)
    session = device.open(model)
    good = make.random_feed(onnx)["video"]
    for feed, words in (
        ({"video": good[:1]}, "the batch is float32 .1, 1, 3, 4, 4."),
        ({"video": good.astype(np.float64)}, "the batch is float64"),
        ({"imgs": good}, "takes video, but the feed has imgs"),
    ):
        with pytest.raises(RunError, match=words):
            session.run(feed)
    fortran = np.asfortranarray(good)
    np.testing.assert_array_equal(
        session.run({"video": fortran})["class"], session.run({"video": good})["class"]
    )
    session.close()


def test_permissions_suit_both_generations_whatever_the_umask(bench, make, generation):
    onnx, device, model = opened(bench, make, streaming=False)
    model.artifact.path.chmod(0o666)
    old = os.umask(0)
    try:
        session = device.open(model)
        session.run(make.random_feed(onnx))
        session.close()
    finally:
        os.umask(old)


def test_an_extra_file_among_the_outputs_does_no_harm(bench, make):
    onnx, device, model = opened(bench, make, streaming=False)
    bench.fault("bench_extra_file")
    session = device.open(model)
    assert session.run(make.random_feed(onnx))["class"].shape == (2, 5)
    session.close()


@pytest.mark.parametrize(
    ("made_in", "fault", "words"),
    [
        ("2023", "bench_old_aclruntime", "aclruntime version:0.0.1 is lower"),
        ("2025", "bench_old_aclruntime", "aclruntime0.0.1 version is lower"),
        ("2025", "bench_no_version", "can't find aclruntime, please install"),
    ],
)
def test_an_aclruntime_that_changes_the_mode_is_noted(bench, make, made_in, fault, words):
    bench.monkeypatch.setenv("EMULATOR_GENERATION", made_in)
    onnx, device, model = opened(bench, make, streaming=False)
    bench.fault(fault)
    session = device.open(model)
    session.run(make.random_feed(onnx))
    session.close()
    (note,) = [note for note in session.notes if "aclruntime" in note]
    assert words in note
    assert "--run_mode tensor" in note
    assert "setuptools below 81" in note


FILE_FAULTS = [
    ("bench_device_busy", "device cannot be opened .ACL 507033.*in use.*acl open device 0 failed"),
    ("bench_load_failed", "cannot load the offline model.*vNPU slice has too little memory"),
    ("bench_soc", "built for another chip or CANN: rebuild it.*status 1.*EE1001"),
    ("bench_opp", "operator packages .OPP. come from different CANN versions.*E19999"),
    ("bench_crash", "crashed with SIGSEGV"),
    ("bench_hang", "it hung and was killed after .* s"),
    (
        "bench_device_error",
        "it failed .status 1.; it said '.ERROR. aclmdlExecute failed, ret 507011",
    ),
    ("bench_disk_full", "the disk is full"),
    ("bench_missing_output", "exited with status 0, but the output of 000001, .* is missing"),
    ("bench_short_output", "the output of 000001, .* is truncated or damaged"),
    ("bench_empty_output", "the output of 000001, .* is truncated or damaged"),
    ("bench_wrong_shape", r"is float32 \(1, 4\), expected float32 \(1, 5\)"),
    ("bench_duplicate_output", "samples 000000 and 000001 share the output 000000_0.npy"),
    ("bench_duplicate_entry", "two entries for the input 000000"),
    ("bench_lost_sample", "lacks the outputs of .'000001'."),
    ("bench_summary_missing", "exited with status 0 but left no usable result"),
    ("bench_summary_truncated", "r?esult_summary.json is truncated"),
    ("bench_save_out", "an output cannot be split into the samples"),
]


def with_environment(session, env):
    """Give the tools of an open session another environment."""
    bench = dataclasses.replace(session._model.bench, env=env)
    session._model = dataclasses.replace(session._model, bench=bench)


@pytest.mark.parametrize(("fault", "words"), FILE_FAULTS)
def test_a_failure_through_files_is_a_sentence(bench, make, fault, words):
    timeout_s = 0.8 if fault == "bench_hang" else 60.0
    onnx, device, model = opened(bench, make, streaming=False, run_timeout_s=timeout_s)
    session = device.open(model)
    bench.fault(fault)
    with_environment(session, cann_environment(device.tools))
    with pytest.raises(RunError, match=f"(?s){words}"):
        session.run(make.random_feed(onnx))
    assert [p.name for p in session._model.om.parent.iterdir()] == ["model.om"]
    session.close()


OPEN_FAULTS = FILE_FAULTS[:4]
RUN_FAULTS = [
    ("bench_device_error", "InferSession: it failed .status 1.; it said '.ERROR. aclmdlExecute"),
    ("bench_hang", "InferSession: it hung and was killed after .* s"),
]


@pytest.mark.parametrize(("fault", "words"), OPEN_FAULTS)
def test_a_model_that_cannot_be_loaded_ends_the_opening(bench, make, fault, words):
    _, device, model = opened(bench, make)
    bench.fault(fault)
    with pytest.raises(RunError, match=f"(?s)InferSession: .*{words}"):
        device.open(model)
    assert list(bench.tools.scratch.iterdir()) == []


@pytest.mark.parametrize(("fault", "words"), RUN_FAULTS)
def test_a_failing_stream_ends_one_run(bench, make, fault, words):
    onnx, device, model = opened(bench, make, batch_timeout_s=1.5)
    bench.fault(fault)
    session = device.open(model)
    with pytest.raises(RunError, match=f"(?s){words}"):
        session.run(make.random_feed(onnx))
    session.close()


@pytest.mark.parametrize("streaming", [True, False])
def test_nan_is_left_to_the_judge(bench, make, streaming):
    onnx, device, model = opened(bench, make, streaming=streaming)
    bench.fault("bench_nan")
    session = device.open(model)
    assert np.isnan(session.run(make.random_feed(onnx))["class"]).all()
    session.close()


def test_a_crash_in_the_stream_is_named_and_what_came_before_is_kept(bench, make):
    onnx, device, model = opened(bench, make)
    bench.fault("bench_crash")
    session = device.open(model)
    feed = make.random_feed(onnx)
    first = session.run(feed)["class"]
    with pytest.raises(RunError, match="InferSession: it crashed with SIGSEGV"):
        session.run(feed)
    session.close()
    assert first.shape == (2, 5)


def test_a_killed_harness_leaves_no_worker(bench, make):
    onnx, _, model = opened(bench, make)
    script = (
        "import sys, pickle, time\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "device, model = pickle.load(sys.stdin.buffer)\n"
        "session = device.open(model)\n"
        "print('open', flush=True)\n"
        "time.sleep(60)\n"
    )
    device = dataclasses.replace(bench.device(), say=print)
    root = str(Path(__file__).parents[3])
    argv = [sys.executable, "-c", script, root]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as harness:
        assert harness.stdin is not None
        assert harness.stdout is not None
        pickle.dump((device, model), harness.stdin)
        harness.stdin.close()
        assert harness.stdout.readline() == b"open\n"
        workers = processes_with("infer_worker.py", bench.folder)
        harness.kill()
    assert workers
    for _ in range(100):
        if not processes_with("infer_worker.py", bench.folder):
            break
        time.sleep(0.05)
    assert processes_with("infer_worker.py", bench.folder) == []
    session = bench.device().open(model)
    assert session.run(make.random_feed(onnx))["class"].shape == (2, 5)
    session.close()


def processes_with(*words):
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
            if folder.name.isdigit() and all(str(word) in line for word in words):
                found.append(int(folder.name))
    return found


def test_without_infer_session_files_are_used_and_it_is_noted(bench, make):
    onnx, device, model = opened(bench, make)
    bench.fault("bench_no_interface")
    session = device.open(model)
    feed = make.random_feed(onnx)
    output = session.run(feed)["class"]
    session.close()
    np.testing.assert_allclose(output, make.expected_output(onnx, feed), rtol=1e-6)
    assert "outputs through files, because InferSession cannot be imported" in session.notes[1]
    assert "aclruntime" in session.notes[1]


def test_a_model_of_another_batch_size_is_refused(bench, make):
    onnx, device, model = opened(bench, make)
    with pytest.raises(RunError, match=r"the offline model takes .*384.*rebuild it"):
        device.open(dataclasses.replace(model, onnx=dataclasses.replace(onnx, batch=4)))


def test_times_are_those_after_the_warm_up(bench, make, generation):
    onnx, device, model = opened(bench, make)
    session = device.open(model)
    settings = LoopSettings(warmup_queries=1, min_queries=20, min_seconds=0.2)
    times = session.loop(make.random_feed(onnx), settings)
    after = session.run(make.random_feed(onnx))["class"]
    session.close()
    # 20 queries of about 5 ms are too short, so that the count was raised.
    assert len(times.device_ms) >= 40
    assert sum(times.device_ms) >= 200
    # The emulator is three times slower in its first five runs.
    assert max(times.device_ms) < 6.0
    assert times.device_io_ms[0] == pytest.approx(times.device_ms[0] + 0.904, abs=1e-3)
    assert times.output is None
    assert times.problems == ()
    assert times.notes[0].startswith("before: npu1-chip0 310P3, health OK, 47 °C")
    assert times.notes[1].startswith("after: npu1-chip0 310P3, health OK, 47 °C")
    assert after.shape == (2, 5)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("bench_times_lost", "timed 3 executions, expected 4"),
        ("bench_time_nan", "an execution time of nan ms"),
    ],
)
def test_times_that_are_none_are_an_error(bench, make, fault, words):
    onnx, device, model = opened(bench, make, streaming=False)
    bench.fault(fault)
    session = device.open(model)
    with pytest.raises(RunError, match=words):
        session.loop(make.random_feed(onnx), LoopSettings(5, 4, 0.0))
    session.close()


def test_a_shared_hot_chip_makes_the_times_invalid_and_says_why(bench, make):
    onnx, device, model = opened(bench, make, streaming=False)
    session = device.open(model)
    bench.fault("smi_hot,smi_busy")
    times = session.loop(make.random_feed(onnx), LoopSettings(5, 4, 0.0))
    for words in ("95 °C is above 85 °C", "4711 python3", "AICore already 80 %"):
        assert any(words in problem for problem in times.problems)
    timing = session_timing(times.device_ms).model_copy(update={"problems": times.problems})
    reasons = throughput_measurement([timing], onnx.batch).invalid_reasons
    assert len(reasons) == len(times.problems) == 5
    assert reasons[0].startswith("session 1: npu1-chip0 before the run: ")
    bench.fault("smi_8020")
    with pytest.raises(InvalidMeasurement, match=r"cannot be checked before .*ret is -8020"):
        session.loop(make.random_feed(onnx), LoopSettings(5, 4, 0.0))
    session.close()


def test_what_npu_smi_still_shows_of_ourselves_is_waited_for(bench, make):
    onnx, device, model = opened(bench, make, streaming=False)
    session = device.open(model)
    quiet = session.unit
    ours = NpuProcess(1, 0, os.getpid(), "python3", 900)
    warm = dataclasses.replace(quiet.chip, aicore_percent=40.0)
    looks = iter(
        [
            dataclasses.replace(quiet, chip=warm),
            dataclasses.replace(quiet, processes=(ours,)),
            quiet,
            dataclasses.replace(quiet, chip=warm, processes=(ours,)),
            quiet,
        ]
    )
    session._tools = dataclasses.replace(session._tools, settle_s=1.0)
    session._look = lambda: next(looks)
    assert len(session.loop(make.random_feed(onnx), LoopSettings(5, 4, 0.0)).device_ms) == 4
    assert next(looks, None) is None
    session.close()


def test_an_infer_session_that_vanishes_is_said(bench, make):
    onnx, device, model = opened(bench, make)
    session = device.open(model)
    session.loop(make.random_feed(onnx), LoopSettings(5, 4, 0.0))
    with_environment(session, {**session._model.bench.env, "EMULATOR_FAULT": "bench_no_interface"})
    with pytest.raises(RunError, match="can no longer be imported"):
        session.run(make.random_feed(onnx))
    session.close()


def test_a_shortest_time_that_cannot_be_reached_stops_at_the_highest_count(
    bench, make, monkeypatch
):
    monkeypatch.setattr("harness.runtimes.ascend.session.MAX_LOOP", 10)
    onnx, device, model = opened(bench, make, streaming=False)
    session = device.open(model)
    times = session.loop(make.random_feed(onnx), LoopSettings(5, 4, 1e6))
    session.close()
    assert len(times.device_ms) == 10


def test_odd_characters_in_the_scratch_folder_are_said(bench, make):
    odd = bench.folder / "a b"
    odd.mkdir()
    onnx = make.tiny_onnx(bench.folder)
    model = bench.built_before(onnx)
    session = bench.device(scratch=odd, streaming=False).open(model)
    with pytest.raises(RunError, match=r"accepts only letters, digits.*set another cache_dir"):
        session.run(make.random_feed(onnx))
    session.close()


def test_a_model_file_that_is_gone_is_said(bench, make):
    _, device, model = opened(bench, make)
    model.artifact.path.unlink()
    with pytest.raises(RunError, match=r"cannot copy .*tsm_tiny_bs2.om"):
        device.open(model)
    assert list(bench.tools.scratch.iterdir()) == []


def test_a_scratch_folder_that_cannot_be_made_is_said(bench, make):
    _, device, model = opened(bench, make)
    device = dataclasses.replace(
        device, tools=dataclasses.replace(device.tools, scratch=bench.folder / "tsm_tiny_bs2.om")
    )
    with pytest.raises(RunError, match=r"cannot copy .*free space there"):
        device.open(model)


def test_a_full_disk_under_the_inputs_is_said(bench, make, monkeypatch):
    onnx, device, model = opened(bench, make, streaming=False)
    session = device.open(model)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.runtimes.ascend.ais_bench_files.write_samples", full)
    with pytest.raises(RunError, match=r"cannot write below .*No space left on device.*free space"):
        session.run(make.random_feed(onnx))
    session.close()


@pytest.mark.parametrize("pattern", REASONS)
def test_every_known_failure_has_its_sentence(pattern):
    text = {
        r"507033|acl open device \d+ failed|SetDevice failed|create context failed": "ret=507033",
        r"tensorsize: \d+ filesize: \d+ not match|in size:\d+ needsize:\d+ not match": (
            "[ERROR] arg0 tensorsize: 4816896 filesize: 1000 not match"
        ),
        r"device:\d+ is invalid": "argument --device/-d: device:300 is invalid.",
        r"(path|args):?\S* is illegal|illegal\. Please check": "om path:x is illegal. Please check.",
        r"No module named '?(ais_bench|aclruntime)": "No module named 'aclruntime'",
    }.get(pattern, pattern.split("|")[0].replace("\\", ""))
    assert sentence_from_text(f"noise\n{text}\n") == REASONS[pattern]


def test_what_is_not_known_is_quoted():
    assert reason_from_result(CommandResult(1, "a\nValueError: odd\n", 1.0)) == (
        "it failed (status 1); it said 'ValueError: odd'"
    )
    assert "last lines: a / b" in reason_from_result(CommandResult(1, "a\nb", 1.0))
    assert "crashed with signal 99" in reason_from_result(CommandResult(227, "", 1.0))


def test_a_summary_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "result_summary.json"
    log = tmp_path / "log"
    head = '{"filesinfo": {}, "npu_compute_time_list": [[0.1, 0.2]]'
    for text in ("[]", '{"filesinfo": []}', head + "}", '{"filesinfo": {"0": {"infiles": []}}}'):
        path.write_text(text)
        with pytest.raises(RunError, match="truncated or not a summary"):
            summary_from_file(path, log)


def test_a_sample_has_one_output(bench, make):
    from harness.runtimes.ascend.ais_bench_result import BenchSummary, arrays_from_summary

    both = {"000000": (Path("a"), Path("b"))}
    summary = BenchSummary(Path("s"), both, (1.0,), 0.0, 0.0)
    with pytest.raises(RunError, match="has 2 outputs, expected 1"):
        arrays_from_summary(summary, ["000000"], make.tiny_spec().output)


def test_times_are_checked():
    check_times([1.0, 2.0], 2)
    for times in ([0.0], [float("inf")], [-1.0]):
        with pytest.raises(RunError, match="execution time of"):
            check_times(times, 1)


def test_chunks_hold_one_batch_at_least():
    batches = [[np.zeros(size, np.uint8)] for size in (5, 3, 3, 9)]
    chunks = [[batch[0].nbytes for batch in chunk] for chunk in chunks_of(batches, 6)]
    assert chunks == [[5], [3, 3], [9]]
    assert len(list(chunks_of([[*batches[1], *batches[2]]] * 2, 11))) == 2
    assert list(chunks_of([], 6)) == []


def test_a_leftover_folder_is_never_reused(run, tmp_path):
    run = dataclasses.replace(run, folder=tmp_path)
    run.output.mkdir()
    with pytest.raises(FileExistsError):
        summary_of_run(run, ("python", "-m", "ais_bench"))
