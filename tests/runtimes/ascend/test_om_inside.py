import importlib
import json
import re
import types

import onnx
import pytest

from harness.check import onnx_divergence
from harness.check.onnx_divergence import Allowed, first_divergent_operator
from harness.errors import RunError
from harness.runtimes.ascend.om_graph import operators_from_json
from harness.runtimes.ascend.om_inside import CONTAINER, _latest_files, om_inside

ALLOWED = Allowed(0.02, 3.0)


@pytest.fixture
def onnx_model(bench, make):
    return make.video_model(bench.folder)


@pytest.fixture
def first_wrong(bench, make, onnx_model):
    """Return a function that looks for the first wrong operator of the built model."""
    model = bench.built_before(onnx_model)
    feed = make.random_feed(onnx_model)

    def look(device=None):
        with (device or bench.device()).inside(model, feed) as inside:
            return first_divergent_operator(onnx_model.artifact.path, inside, feed, ALLOWED)

    return look


WRONG = {
    "conv": (
        "/stem/Conv",
        "/stem/Conv (Conv2D, float16), output /stem/Conv_out, relative L2 7.0e-01",
    ),
    "fused conv and relu": (
        "/body/Conv/body/Relu",
        (
            "/body/Conv/body/Relu (Conv2D, float16; nodes /body/Conv, /body/Relu fused by "
            "TbeConvCommonRules2FusionPass), output /body/Relu_out, relative L2 7.0e-01"
        ),
    ),
    "attention": ("/attn/MatMul", "/attn/MatMul (BatchMatMul, float16), output /attn/MatMul_out, "),
    "softmax": ("/attn/Softmax", "/attn/Softmax (SoftmaxV2, float16), output /attn/Softmax_out, "),
    "layer norm": (
        "/norm/Add_1/LayerNorm",
        (
            "/norm/Add_1/LayerNorm (LayerNorm, float16; nodes /norm/ReduceMean, /norm/Sub, /norm/Pow, "
            "/norm/ReduceMean_1, /norm/Add, /norm/Sqrt, /norm/Div, /norm/Mul, /norm/Add_1 fused by "
            "LayerNormONNXFusionPass), output /norm/Add_1_out, relative L2 7.0e-01"
        ),
    ),
    "cast": ("trans_Cast_0", "trans_Cast_0 (Cast, float16), output video, relative L2 7.0e-01"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_names_the_wrong_operator(first_wrong, generation, monkeypatch, wrong):
    name, text = WRONG[wrong]
    monkeypatch.setenv("EMULATOR_WRONG", name)
    found = first_wrong()
    assert found.operator.name == found.suspect == name
    assert found.text.startswith(text)
    assert "made here: its inputs are good" in found.text
    assert "float32 itself is " in found.text or wrong == "cast"


def test_a_right_model_has_no_wrong_operator(first_wrong, generation):
    assert first_wrong() is None


def test_nan_is_red(first_wrong, monkeypatch):
    monkeypatch.setenv("EMULATOR_WRONG", "/attn/Softmax=nan")
    text = first_wrong().text
    assert text.startswith("/attn/Softmax (SoftmaxV2, float16), output ")
    assert "25 NaN or Inf values instead of 0" in text


def test_an_unreadable_dump_is_red(first_wrong, bench):
    bench.fault("bench_dump_truncated")
    found = first_wrong()
    assert "cannot be read: it has " in found.text
    assert found.operator.outputs[0].defect


def test_without_dumps_it_says_so(first_wrong, bench, monkeypatch):
    bench.fault("bench_no_dump")
    facts = "harness.runtimes.ascend.om_inside.environment_facts"
    monkeypatch.setattr(facts, lambda: {"container": "yes"})
    with pytest.raises(RunError) as caught:
        first_wrong()
    assert f"the run wrote no dump of any operator{CONTAINER}; log in " in str(caught.value)
    assert list(bench.tools.scratch.iterdir()) == []


def test_dumps_that_do_not_fit_are_not_begun(first_wrong, monkeypatch):
    usage = "harness.runtimes.ascend.om_inside.shutil.disk_usage"
    monkeypatch.setattr(usage, lambda _: types.SimpleNamespace(free=2**10))
    with pytest.raises(RunError, match=r"need 0.0 GiB below .*scratch, which has 0.0: set another"):
        first_wrong()


@pytest.fixture
def joined(onnx_model, tmp_path, monkeypatch, make, emulator_environment):
    """Return a function that joins the model's graph with dumps, without running a tool."""
    monkeypatch.syspath_prepend(emulator_environment["PYTHONPATH"])
    compiled, dumps, wrong = (
        importlib.import_module(f"emulated.{name}") for name in ("compiled", "dumps", "wrong")
    )
    path, feed = onnx_model.artifact.path, make.random_feed(onnx_model)
    precision = {"mode": "fp16", "keep": []}

    def join(fault, edit=lambda path: None):
        monkeypatch.setenv("EMULATOR_WRONG", fault)
        config = tmp_path / "acl.json"
        wanted = {"dump_list": [{"model_name": "model"}], "dump_path": str(tmp_path / "dump")}
        config.write_text(json.dumps({"dump": wanted}))
        right = path.read_bytes()
        faulty, aliases = wrong.planted(right, precision)
        dumper = dumps.Dumper(config, "model.om", 0)
        dumper.write(faulty, right, precision, aliases, feed)
        for file in sorted((tmp_path / "dump").rglob("*.*")):
            edit(file)
        ops = compiled.compiled(onnx.load(path), precision)
        graph = operators_from_json(compiled.json_of(ops, "model", "Ascend310P3"))
        inside = om_inside(graph, _latest_files(tmp_path / "dump"), path)
        return inside, first_divergent_operator(path, inside, feed, ALLOWED)

    return join


def test_an_operator_without_a_dump_is_left_out_and_what_follows_has_inherited(joined):
    def drop(file):
        if file.is_file() and file.name.startswith("Conv2D._stem_Conv."):
            file.unlink()

    inside, found = joined("/stem/Conv", drop)
    assert inside.missing == ("/stem/Conv",)
    assert (found.operator.name, found.suspect) == ("trans_TransData_1", "/stem/Conv")
    assert "inherited: its input from /stem/Conv is off already, relative L2 7.0e-01" in found.text
    assert "no dump of 1: /stem/Conv)" in found.text


def test_of_two_dumps_of_an_operator_the_later_one_counts(joined):
    def older_too(file):
        if file.is_file() and file.name.startswith("SoftmaxV2."):
            file.with_name(re.sub(r"\d{16}$", "1" * 16, file.name)).write_bytes(b"another run")

    assert joined("", older_too)[1] is None


def test_a_name_that_is_too_long_for_a_file_is_looked_up(joined, monkeypatch):
    monkeypatch.setattr(importlib.import_module("emulated.dumps"), "NAME_MAX", 30)
    assert joined("/attn/Softmax")[1].operator.name == "/attn/Softmax"


def test_float32_that_is_as_far_off_excuses_an_operator(joined, monkeypatch):
    exact = onnx_divergence.ExactGraph.value
    monkeypatch.setattr(onnx_divergence.ExactGraph, "value", lambda *a: 0.5 * exact(*a))
    # float32 is then off by 100 %, and what the chip computes by 40 %.
    assert joined("/attn/Softmax")[1] is None
