import dataclasses
import json
import math

import numpy as np
import pytest

from harness.check.onnx_divergence import Allowed, first_divergent_operator
from harness.check.precision_search import Trial, smallest_keep
from harness.errors import BuildError, RunError
from harness.precision import Precision
from harness.runtimes.ascend.om_graph import OmOperator
from harness.runtimes.ascend.precision import check_precision, precision_words, without_effect
from harness.spec import ATC

ALL = Precision(
    "mixed",
    keep=("/a/Softmax", "OpType::LayerNorm"),
    mixed_list={"black-list": {"to-add": ["Pow"]}},
    dtypes=("/b/Conv::InputDtype:float16,OutputDtype:float32",),
    by_type={"Gelu": "high_performance"},
    by_node={"/c/Erf": "high_precision"},
    deterministic=True,
    fusion_switches=("LayerNormONNXFusionPass:off",),
)


def test_every_part_becomes_an_option_of_atc_with_its_file(tmp_path):
    words = precision_words(ALL, "8.0.RC2", tmp_path, ATC)
    assert words == (
        "--precision_mode_v2=mixed_float16",
        "--keep_dtype=keep_dtype.cfg",
        "--modify_mixlist=modify_mixlist.json",
        "--customize_dtypes=customize_dtypes.cfg",
        "--op_precision_mode=op_precision_mode.cfg",
        "--fusion_switch_file=fusion_switch_file.cfg",
        "--deterministic=1",
    )
    read = {path.stem: path.read_text() for path in tmp_path.iterdir()}
    assert read["keep_dtype"] == "/a/Softmax\nOpType::LayerNorm\n"
    assert json.loads(read["modify_mixlist"]) == {"black-list": {"to-add": ["Pow"]}}
    assert read["op_precision_mode"] == (
        "[ByOpType]\nGelu=high_performance\n[ByNodeName]\n/c/Erf=high_precision\n"
    )


@pytest.mark.parametrize(
    ("cann", "word"),
    [
        ("7.0.0", "--precision_mode_v2=origin"),
        ("10.1", "--precision_mode_v2=origin"),
        ("6.3.RC2", "--precision_mode=must_keep_origin_dtype"),
        ("5.1.RC2", "--precision_mode=must_keep_origin_dtype"),
        (None, "--precision_mode=must_keep_origin_dtype"),
    ],
)
def test_the_mode_has_one_form_by_the_version_of_cann(cann, word, tmp_path):
    assert precision_words(Precision("origin"), cann, tmp_path, ATC) == (word,)


def test_a_model_that_names_a_mode_itself_is_refused(tmp_path):
    given = (*ATC, "--precision_mode=force_fp32")
    with pytest.raises(BuildError, match="have --precision_mode=force_fp32, and its cell names"):
        precision_words(Precision("origin"), "8.0", tmp_path, given)


@pytest.mark.parametrize(
    ("precision", "soc_version", "words"),
    [
        (Precision("origin", keep=("/a",)), "Ascend310P3", "no effect in mode origin"),
        (Precision(mixed_list={"black-list": {}}), "Ascend310P3", "mode fp16 has no lists"),
        (Precision(deterministic=True), "Ascend310B4", "no deterministic computing"),
        (Precision(dtypes=("a::InputDtype:bfloat16",)), "Ascend310P3", "the chip has no bfloat16"),
        (
            Precision(by_node={"a": "fast"}),
            "Ascend310P3",
            "a = fast: choose one of high_performance",
        ),
    ],
)
def test_what_the_chip_or_the_mode_does_not_take_is_refused(precision, soc_version, words):
    with pytest.raises(
        BuildError, match=f"{soc_version} cannot be given this precision: .*{words}"
    ):
        check_precision(precision, soc_version)


def test_what_the_chip_takes_passes():
    check_precision(ALL, "Ascend310P3")
    check_precision(Precision(dtypes=("a::InputDtype:bfloat16",)), "Ascend910B4")


def op(name, nodes=(), kind="Relu", dtype="float16", passes=()):
    return OmOperator(name, kind, nodes or (name,), passes, (dtype,), (), (), 0)


def test_names_without_effect_are_told_with_what_to_name():
    fused = op("/c/Conv/c/Relu", ("/c/Conv", "/c/Relu"), passes=("APass",))
    graph = (fused, op("/s", kind="SoftmaxV2", dtype="float32"), op("/m"))
    keep = ("/s", "/c/Relu", "/m", "/none", "OpType::SoftmaxV2", "OpType::Relu", "OpType::Elu")
    assert without_effect(keep, graph) == [
        "/c/Relu was fused by APass: name /c/Conv/c/Relu instead, or switch the pass off",
        "/m still computes in float16: the chip has no other kernel for it",
        "/none is not an operator of the built model",
        "OpType::Relu still computes in float16: the chip has no other kernel for it",
        "OpType::Elu is not an operator of the built model",
    ]
    kept = dataclasses.replace(fused, dtypes=("float32",))
    assert without_effect(["/c/Relu"], [kept]) == []


def test_a_keep_list_of_a_fused_name_does_not_build(bench, make):
    device = bench.device().in_precision(Precision(keep=("/body/Relu", "/attn/Softmax")))
    with pytest.raises(BuildError, match=r"/body/Relu was fused by \w+: name /body/Conv/body/Relu"):
        bench.built(make.video_model(bench.folder), device)


def test_the_precision_is_part_of_what_shapes_a_build(bench, make):
    onnx = make.video_model(bench.folder)
    device = bench.device()
    kept = device.in_precision(Precision(keep=("/attn/Softmax",)))
    assert device.shaped_by(onnx) != kept.shaped_by(onnx)
    facts = bench.built(onnx, kept).artifact.provenance
    assert facts["precision"]["keep"] == ("/attn/Softmax",)
    assert "--keep_dtype=keep_dtype.cfg" in facts["command"]


@pytest.mark.parametrize("can_dump", [True, False], ids=["guided", "bisected"])
def test_a_planted_overflow_is_found_with_a_list_of_one_name(bench, make, monkeypatch, can_dump):
    monkeypatch.setenv("EMULATOR_WRONG", "/attn/q/MatMul=overflow")
    monkeypatch.setenv("EMULATOR_FAULT", "" if can_dump else "bench_no_dump")
    onnx, builds = make.video_model(bench.folder), []
    feed = make.random_feed(onnx)
    expected = make.expected_output(onnx, feed)

    def run(keep):
        device = bench.device().in_precision(Precision(keep=keep)) if keep else bench.device()
        model = bench.built(onnx, device)
        builds.append(keep)
        session = device.open(model)
        output = session.run(feed)["class"]
        session.close()
        operators = [op for op in device.operators(model) if op.nodes and op.dtype == "float16"]
        try:
            with device.inside(model, feed) as inside:
                allowed = Allowed(0.02, 3.0)
                found = first_divergent_operator(onnx.artifact.path, inside, feed, allowed)
        except RunError:
            found = None
        is_met = bool(np.allclose(output, expected, atol=0.05))
        return Trial(keep, is_met, "", found and found.suspect, tuple(o.name for o in operators))

    search = smallest_keep(run)
    assert search.keep == ("/attn/q/MatMul",)
    assert len(builds) <= (2 if can_dump else 2 * math.log2(len(search.trials[0].operators)) + 2)
