import dataclasses
import itertools
import os
import pickle
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import BuildError
from harness.host.command import CommandResult
from harness.registry import model_spec
from harness.runtimes.ascend.atc import atc_command, built_om
from harness.runtimes.ascend.atc_errors import SENTENCES, reason_from_output
from harness.runtimes.ascend.atc_options import words_for_cann
from harness.spec import Artifact, OnnxModel

GUIDES = Path(__file__).with_name("guides")


def guide_words(name):
    text = (GUIDES / f"{name}_atc.txt").read_text().replace("\\\n", " ")
    return shlex.split(text.replace("${chip_name}", "310P3"))


def onnx_of_guide(spec, path, batch=1):
    return OnnxModel(spec, batch, "seeded", Artifact("onnx", Path(path), "", {}))


def test_the_command_line_is_that_of_the_nonlocal_guide():
    onnx = onnx_of_guide(model_spec("nonlocal_r50"), "tsm_nl_bs1.onnx")
    command = atc_command(onnx, "Ascend310P3", "tsm_nl_bs1")
    assert list(command) == guide_words("nonlocal")
    four = atc_command(dataclasses.replace(onnx, batch=4), "Ascend310", "x")
    assert "--input_shape=video:4,8,3,224,224" in four
    assert "--soc_version=Ascend310" in four


def test_the_command_line_is_that_of_the_timesformer_guide():
    onnx = onnx_of_guide(model_spec("timesformer"), "tsf_sim.onnx")
    command = atc_command(onnx, "Ascend310P3", "tsf")
    assert list(command) == guide_words("timesformer")


@pytest.mark.parametrize(
    ("cann", "is_replaced"),
    [
        *(("5.1.RC2", False), ("8.5.0", False), (None, False), ("unknown", False)),
        *(("9.0.0-beta.1", True), ("10.0.RC1", True)),
    ],
)
def test_words_that_a_newer_cann_drops_become_a_file(cann, is_replaced):
    words = guide_words("timesformer")
    found, files = words_for_cann(words, cann)
    if is_replaced:
        assert list(found) == [*words[:-2], "--op_precision_mode=op_precision_mode.ini"]
        assert files == {"op_precision_mode.ini": "[ByOpType]\nGelu=high_performance\n"}
    else:
        assert (list(found), files) == (words, {})


@pytest.mark.parametrize("mode", ["high_precision", "high_precision_for_all"])
def test_words_that_no_file_replaces_stay(mode):
    words = ("atc", f"--op_select_implmode={mode}")
    assert words_for_cann(words, "9.0.0") == (words, {})


def test_atc_of_a_newer_cann_gets_the_file(bench, make):
    spec = dataclasses.replace(make.tiny_spec(), atc=model_spec("timesformer").atc)
    info = bench.tools.ascend_root / "cann" / "opp" / "version.info"
    info.parent.mkdir(parents=True)
    info.write_text("Version=9.0.0\n")
    facts = bench.built(make.tiny_onnx(bench.folder, spec)).artifact.provenance
    assert facts["command"][-1] == "--op_precision_mode=op_precision_mode.ini"
    assert facts["files"] == {"op_precision_mode.ini": "[ByOpType]\nGelu=high_performance\n"}


def test_a_build_states_its_facts(bench, make):
    model = bench.built(make.tiny_onnx(bench.folder, batch=4))
    facts = model.artifact.provenance
    assert facts["soc_version"] == "Ascend310P3"
    assert facts["emulated"] is True
    assert facts["om_name"] == "tsm_tiny_bs4.om"
    assert facts["command"][1:3] == ["--model=tsm_tiny_bs4.onnx", "--framework=5"]
    assert "--input_shape=video:4,1,3,4,4" in facts["command"]
    assert model.artifact.path.read_bytes().startswith(b"EMULATED")
    assert [p.name for p in bench.folder.glob("*.om*")] == ["tsm_tiny_bs4.om"]
    assert list(bench.tools.scratch.iterdir()) == []


def test_a_suffixed_file_is_taken(bench, make):
    bench.fault("atc_suffix")
    model = bench.built(make.tiny_onnx(bench.folder))
    assert model.artifact.provenance["om_name"] == "tsm_tiny_bs1_linux_x86_64.om"


def test_a_warning_is_a_success_with_a_fact(bench, make):
    bench.fault("atc_warning")
    (warning,) = bench.built(make.tiny_onnx(bench.folder)).artifact.provenance["warnings"]
    assert "W11001 Op [Gelu] does not hit" in warning


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("atc_oom", "killed .status 137.*memory runs out.*TE_PARALLEL_COMPILER=1"),
        ("atc_no_file", "printed success but left no single usable tsm_tiny_bs1.om; files: none"),
        ("atc_stale", "printed success but left no single usable"),
        ("atc_empty_file", r"files: tsm_tiny_bs1.om \(0 B\)"),
        ("atc_no_success_line", "exited with status 0 but never printed 'ATC run success"),
        ("atc_rc_after_success", "exited with status 1"),
        ("atc_unknown", "exited with status 255 and printed"),
        ("atc_E19010", "E19010: an operator or the opset is not supported.*Conv_52"),
        ("atc_EZ3002", "EZ3002: this chip has no kernel.*MatMul and Transpose"),
        ("atc_EC0010", "EC0010: the operator compiler could not import a Python module"),
        ("atc_int64", "EZ3003.*an index operator got int64"),
        ("atc_inner", "E16002: an operator or the opset is not supported.*GridSample_3"),
        ("atc_only_inner", "E39999: an internal compiler error.*ascend/log"),
        ("atc_host_env_os", "E10001: a value.*outside the IDE's terminal"),
        ("atc_missing_hal", "libascend_hal.so is missing.*devlib"),
        ("atc_missing_library", "shared library libgraph.so is missing.*set_env.sh"),
        ("atc_disk_full", "the disk is full"),
    ],
)
def test_a_failing_atc_is_a_sentence(bench, make, fault, words):
    bench.fault(fault)
    stale = bench.folder / "tsm_tiny_bs1.om"
    stale.write_bytes(b"stale")
    with pytest.raises(
        BuildError, match=f"(?s)tsm_tiny batch 1 for Ascend310P3.*{words}.*; log in "
    ):
        bench.built(make.tiny_onnx(bench.folder))
    assert not stale.exists()


def test_a_hanging_atc_is_killed_with_a_heartbeat(bench, make):
    bench.fault("atc_hang")
    device = bench.device(build_timeout_s=1.5, heartbeat_s=0.4)
    with pytest.raises(BuildError, match=r"killed after 1.5 s without finishing"):
        bench.built(make.tiny_onnx(bench.folder), device)
    assert "atc tsm_tiny_bs1: " in bench.said[0]
    assert "last line: ATC start working now" in bench.said[-1]


def test_an_unknown_chip_is_a_sentence(bench, make):
    bench.monkeypatch.setenv("EMULATOR_CHIP", "310P5")
    bench.monkeypatch.setattr(
        "harness.runtimes.ascend.probe.NpuSmi.soc_version", lambda *_: "Ascend9"
    )
    with pytest.raises(BuildError, match=r"E10001.*this CANN does not know the chip name"):
        bench.built(make.tiny_onnx(bench.folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"opset": 19}, "E16002: an operator or the opset is not supported"),
        ({"op": "Convx"}, r"E19010.*ai.onnx::11::Convx"),
    ],
)
def test_an_unsupported_model_is_a_sentence(bench, make, change, words, monkeypatch):
    monkeypatch.setattr("onnx.checker.check_model", lambda *_: None)
    with pytest.raises(BuildError, match=words):
        bench.built(make.tiny_onnx(bench.folder, **change))


def test_an_input_that_the_model_lacks_is_a_sentence(bench, make):
    onnx = make.tiny_onnx(bench.folder)
    spec = dataclasses.replace(onnx.spec, input=dataclasses.replace(onnx.spec.input, name="imgs"))
    with pytest.raises(BuildError, match="E10016: --input_shape names an input"):
        bench.built(dataclasses.replace(onnx, spec=spec))


def test_a_missing_atc_says_where_it_was_looked_for(bench, make):
    with pytest.raises(
        BuildError, match=r"atc was not found.*no-atc.*PATH is .*install the CANN toolkit"
    ):
        bench.built(make.tiny_onnx(bench.folder), bench.device(atc="no-atc"))


def test_a_scratch_folder_that_cannot_be_used_is_said(bench, make):
    (bench.folder / "file").touch()
    device = bench.device(scratch=bench.folder / "file")
    with pytest.raises(BuildError, match=r"cannot use .*file.*set another cache_dir"):
        bench.built(make.tiny_onnx(bench.folder), device)


def test_a_full_disk_while_keeping_the_file_is_said(bench, make, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.runtimes.ascend.atc.shutil.move", full)
    with pytest.raises(BuildError, match=r"No space left on device.*free space"):
        bench.built(make.tiny_onnx(bench.folder))


def test_the_terminal_of_an_ide_does_not_leak(bench, make, monkeypatch):
    monkeypatch.setenv("HOST_ENV_OS", "darwin")
    monkeypatch.setenv("TERM_PROGRAM", "vscode")
    seen = []

    def run(command):
        seen.append(dict(command.env))
        return CommandResult(1, "E10001: x", 0.1)

    onnx = make.tiny_onnx(bench.folder)
    tools = dataclasses.replace(bench.tools, run=run)
    with pytest.raises(BuildError, match="E10001"):
        built_om(onnx, "Ascend310P3", bench.folder / "x.om", tools)
    assert not {"HOST_ENV_OS", "TERM_PROGRAM"} & set(seen[0])
    assert seen[0]["PYTHONUNBUFFERED"] == "1"


def test_a_killed_build_leaves_no_child_and_a_rerun_continues(bench, make):
    onnx = make.tiny_onnx(bench.folder)
    target = bench.folder / "tsm_tiny_bs1.om"
    script = (
        "import sys, pickle, pathlib\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "device, onnx, target = pickle.load(sys.stdin.buffer)\n"
        "device.build(onnx, target)\n"
    )
    argv = [sys.executable, "-c", script, str(Path(__file__).parents[3]), str(bench.folder)]
    env = {**os.environ, "EMULATOR_FAULT": "atc_hang"}
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE) as harness:
        assert harness.stdin is not None
        pickle.dump((dataclasses.replace(bench.device(), say=print), onnx, target), harness.stdin)
        harness.stdin.close()
        children = wait_for_atc(bench.folder)
        harness.kill()
    assert children
    assert until(lambda: not any(is_atc_of(pid, bench.folder) for pid in children))
    assert not target.exists()
    assert bench.built(onnx).artifact.path.is_file()


def is_atc_of(pid, folder):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"--framework=5" in words and str(folder).encode() in words


def wait_for_atc(folder):
    found = []
    for _ in range(200):
        pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
        found = [pid for pid in pids if is_atc_of(pid, folder)]
        if len(found) >= 3:  # the guard, the wrapper, atc itself
            return found
        time.sleep(0.05)
    return found


def until(condition):
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_every_code_has_a_sentence_in_every_spelling(subtests):
    spellings = (
        "{0}: text here",
        "{0}: [PID: 10490] 2025-03-18-09:02:18.501.341 text here",
        "{0}[PID: 52728] 2026 ({0}): text here",
    )
    for code, spelling in itertools.product(SENTENCES, spellings):
        with subtests.test(spelling.format(code)):
            line = spelling.format(code)
            output = f"ATC run failed\n{line}\n        Solution: none\nW11001: warn"
            assert str(reason_from_output(output)).startswith(f"{code}: {SENTENCES[code]}")


def test_an_unlisted_code_and_no_code_are_told_apart():
    assert "does not know; atc said 'E77777: what'" in str(reason_from_output("E77777: what"))
    assert reason_from_output("nothing\nW11001: only a warning") is None
    removed = "E10001: Value [1] invalid. Reason: The Auto Tune function has been deprecated."
    assert "use AOE" in str(reason_from_output(removed))
