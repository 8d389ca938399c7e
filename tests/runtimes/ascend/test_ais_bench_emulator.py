"""The emulator against what the real front end of ais_bench was recorded to do."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.host.command import CommandResult
from harness.runtimes.ascend.ais_bench_errors import reason_from_result

TRANSCRIPTS = Path(__file__).with_name("transcripts")
SIZES = {"in_tsm": 11, "in5": 5, "in_tsf": 2}


class Transcript:
    def __init__(self, path):
        head, self.output = path.read_bytes().decode().split("\noutput:\n", 1)
        fields = [line.partition(": ")[::2] for line in head.split("\n")]
        self.tree = sorted(value for name, value in fields if name == "tree")
        values = dict(fields)
        self.words, self.rc = shlex.split(values["command"]), int(values["rc"])
        self.last_error = values["last error"]
        self.generation = path.stem.rsplit(".", 1)[1]


def plain(text):
    """Without numbers, folders and colours; the states of a progress bar and a loop as one."""
    text = re.sub(r"\x1b\[[\d;]*m|\[1;32m", "", text).replace("\r", "\n")
    text = re.sub(r"/\S*/(?=models/|o755)", "", text)
    # The recorded bar ends without a line end, and other lines follow on it.
    text = re.sub(r"(\d/\d+ \[[^\]]*\]|exec: \(\d+/\d+\))", r"\1\n", text)
    text = re.sub(r"\d+(\.\d+)?(e-?\d+)?", "N", text)
    text = re.sub(r"N%\|.*", "BAR", text)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return [line for i, line in enumerate(lines) if i == 0 or line != lines[i - 1]]


@pytest.fixture(scope="module")
def models(make, emulator_environment, tmp_path_factory):
    """The offline models that the recorded commands name."""
    folder = tmp_path_factory.mktemp("models")
    for name, (batch, crops) in {"tsm_nl_bs1": (1, 1), "tsm_nl_bs4": (4, 1), "tsf": (1, 3)}.items():
        onnx = make.tiny_onnx(folder, make.tiny_spec(name, crops), batch)
        shape = ",".join(map(str, onnx.inputs[0].shape))
        argv = ["atc", f"--model={onnx.artifact.path}", f"--output={folder / name}"]
        argv += ["--framework=5", f"--input_shape=video:{shape}", "--soc_version=Ascend310P3"]
        env = {**os.environ, **emulator_environment}
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=env)
    return folder


@pytest.fixture
def work(bench, models, monkeypatch):
    """A folder with the models and inputs that the recorded commands name."""
    folder = bench.folder / "work"
    (folder / "models").mkdir(parents=True)
    for om in models.glob("*.om"):
        shutil.copy(om, folder / "models" / om.name)
    for name, count in SIZES.items():
        files(folder / name, count, 3 if name == "in_tsf" else 1)
    files(folder / "e1", 2, 1, size=1000)
    monkeypatch.chdir(folder)
    return folder


def files(folder, count, crops, size=None):
    folder.mkdir(mode=0o750)
    for index in range(count):
        data = np.full((crops, 3, 4, 4), index + 1, np.float32)
        path = folder / f"{index}.bin"
        path.write_bytes(data.tobytes() if size is None else bytes(size))
        path.chmod(0o640)


def run(words, **env):
    return subprocess.run(
        [sys.executable, "-m", "ais_bench", *words],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def tree(folder):
    paths = [*folder.rglob("*")] if folder.is_dir() else []
    form = "{} {:o} ./{}".format
    return sorted(
        form("d" if p.is_dir() else "f", p.stat().st_mode & 0o777, p.relative_to(folder))
        for p in paths
    )


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.iterdir()), ids=lambda p: p.stem)
def test_does_what_was_recorded(work, path, monkeypatch):
    wanted = Transcript(path)
    monkeypatch.setenv("EMULATOR_GENERATION", wanted.generation)
    (work / "o755").mkdir(mode=0o755)
    (work / "o755").chmod(0o755)
    done = run(wanted.words)
    assert done.returncode == wanted.rc, done.stderr
    assert plain(done.stdout) == plain(wanted.output)
    errors = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    assert (errors[-1] if errors else "") == wanted.last_error
    assert tree(work / "gt") == wanted.tree


def test_the_summary_has_the_recorded_form(work, generation):
    done = run(
        [
            "--model",
            "models/tsm_nl_bs4.om",
            "--input",
            "in5",
            "--output",
            "gt",
            "--output_dirname",
            "r",
            "--outfmt",
            "NPY",
        ]
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((work / "gt" / "r_summary.json").read_text())
    order = ["filesinfo", "args", "NPU_compute_time", "H2D_latency", "D2H_latency"]
    order += ["throughput", "npu_compute_time_list", "pid"]
    if generation == "2025":
        order[5:7] = reversed(order[5:7])
    assert list(summary) == order
    assert summary["filesinfo"]["4"] == {"infiles": ["in5/4.bin"], "outfiles": ["gt/r/4_0.npy"]}
    statistics = ["min", "max", "mean", "median", "percentile(99%)", "count"]
    assert list(summary["NPU_compute_time"]) == statistics
    assert summary["args"][1:3] == ["--model", "models/tsm_nl_bs4.om"]
    assert len(summary["npu_compute_time_list"]) == 2
    mean = summary["NPU_compute_time"]["mean"]
    assert summary["throughput"] == pytest.approx(4000 / mean)


def test_text_outputs_have_a_row_a_crop_and_a_trailing_space(work):
    words = ["--model", "models/tsf.om", "--input", "in_tsf", "--output", "gt"]
    assert run([*words, "--output_dirname", "r", "--outfmt", "TXT"]).returncode == 0
    lines = (work / "gt" / "r" / "1_0.txt").read_text().split("\n")
    assert [len(line.split(" ")) for line in lines] == [6, 6, 6, 1]


def test_dotted_stems_overwrite_each_other(work):
    for name in ("vid.a.bin", "vid.b.bin"):
        shutil.copy("in5/0.bin", f"in5/{name}")
    words = ["--model", "models/tsm_nl_bs1.om", "--input", "in5", "--output", "gt"]
    assert run([*words, "--output_dirname", "r"]).returncode == 0
    assert len(list((work / "gt" / "r").iterdir())) == 6


@pytest.mark.parametrize(
    ("words", "rc", "text"),
    [
        (["--loop", "0"], 2, "0 is an invalid"),
        (["--outfmt", "npy"], 2, "invalid choice"),
        (["--device", "300"], 2, "valid value range is [0, 255]"),
        (["--device", "0,"], 2, "argument --device"),
        (["--out", "x"], 2, "ambiguous option: --out could match"),
        (["--output_dirname", "r"], 1, "cann't be used alone"),
        (["--device", "5"], 1, "acl open device 5 failed"),
        (["--dymBatch", "4"], 1, "dynamic_batch_size parameter is not specified"),
        (["--input", "in5,in_tsm"], 1, "input dir num:2 not equal to model inputs num:1"),
        (["--input", "empty"], 1, "not find valid file"),
        (["--input", "wrong_second"], 1, "in size:8 needsize:192 not match"),
        (["--input", "linked"], 1, "is a soft link"),
        (["--input", "open"], 2, "is group writable"),
        (["--input", "none"], 2, "input path:none is illegal"),
        (["--input", "odd=name"], 2, "is illegal"),
    ],
)
def test_refuses_what_the_newer_front_end_refuses(work, words, rc, text):
    (work / "empty").mkdir(mode=0o750)
    files(work / "wrong_second", 1, 1)
    (work / "wrong_second" / "9.bin").write_bytes(bytes(8))
    (work / "wrong_second" / "9.bin").chmod(0o640)
    (work / "linked").mkdir(mode=0o750)
    (work / "linked" / "0.bin").symlink_to(work / "in5" / "0.bin")
    files(work / "open", 1, 1)
    (work / "open" / "0.bin").chmod(0o666)
    files(work / "odd=name", 1, 1)
    done = run(["--model", "models/tsm_nl_bs1.om", *words], EMULATOR_GENERATION="2025")
    assert (done.returncode, text in done.stdout + done.stderr) == (rc, True), done


def test_the_older_front_end_takes_more_and_says_other_things(work):
    none = run(["--model", "models/tsm_nl_bs1.om", "--input", "none"], EMULATOR_GENERATION="2023")
    assert none.returncode == 1
    assert "[ERROR] Invalid args. none  of --input is invalid" in none.stdout
    loop = run(["--model", "m.om", "--loop", "0"], EMULATOR_GENERATION="2023")
    assert "0 is an invalid positive int value" in loop.stderr


def reason(work, *words):
    done = run(["--model", "models/tsm_nl_bs1.om", *words])
    return reason_from_result(CommandResult(done.returncode, done.stdout + done.stderr, 0.1))


def test_a_wrong_second_file_is_told_by_its_sizes(work, generation):
    files(work / "wrong_second", 1, 1)
    (work / "wrong_second" / "9.bin").write_bytes(bytes(8))
    (work / "wrong_second" / "9.bin").chmod(0o640)
    told = reason(work, "--input", "wrong_second")
    # It follows the progress bar on its line, and two more errors follow it.
    assert "an input file has the wrong size for this model" in told
    assert "it said '[ERROR] Check i:0 name:video in size:8 needsize:192 not match'" in told


def test_a_device_number_that_argparse_refuses_is_told(work, generation):
    told = reason(work, "--device", "300")
    assert "ais_bench takes device numbers from 0 to 255: check device_ids in site.toml" in told
    assert "error: argument --device/-d: device:300 is invalid" in told


def test_an_unknown_fault_is_refused(work):
    done = run(["--model", "models/tsm_nl_bs1.om"], EMULATOR_FAULT="typo")
    assert "unknown EMULATOR_FAULT typo" in done.stderr


def test_what_was_computed_once_is_kept_where_it_is_asked_for(work, monkeypatch):
    (work / "memory").mkdir()
    monkeypatch.setenv("EMULATOR_MEMORY", str(work / "memory"))

    def outputs(name, model="tsm_nl_bs1", **env):
        words = ["--model", f"models/{model}.om", "--input", "in5", "--output", name]
        assert run([*words, "--output_dirname", "r", "--outfmt", "NPY"], **env).returncode == 0
        return [np.load(path) for path in sorted((work / name / "r").glob("*.npy"))]

    plain_outputs = outputs("plain", EMULATOR_MEMORY="")
    assert not list((work / "memory").iterdir())
    first, second = outputs("first"), outputs("second", EMULATOR_GENERATION="2023")
    np.testing.assert_array_equal(first, plain_outputs)
    np.testing.assert_array_equal(second, plain_outputs)
    kept = list((work / "memory").iterdir())
    assert len(kept) == SIZES["in5"]
    # It is what was kept that comes back, and another model has answers of its own.
    for path in kept:
        np.savez(path, np.full((1, plain_outputs[0].shape[-1]), 7.0, np.float32))
    assert all((output == 7.0).all() for output in outputs("third"))
    outputs("fourth", model="tsm_nl_bs4")
    assert len(list((work / "memory").iterdir())) == SIZES["in5"] + 2
