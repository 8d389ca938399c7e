import numpy as np
import pytest

from harness.judge.limits import (
    ParityLimits,
)
from harness.judge.parity import judge_parity
from harness.measure.parity import ChainScores, InputCounts, parity_measurement
from harness.measure.repeats import Repeats
from harness.spec import ONNX_FILE, Status

SOURCE = "test"

TIGHT = ParityLimits(
    fp64_factor=2.0,
    fp64_atol=1e-6,
    max_abs_error=1e-4,
    p999_abs_error=1e-5,
    relative_l2=1e-4,
    cosine=0.9999,
    top1_agreement=1.0,
    top5_overlap=0.99,
    source=SOURCE,
)
LOOSE = ParityLimits(
    fp64_factor=3.0,
    fp64_atol=1e-2,
    max_abs_error=0.1,
    p999_abs_error=0.05,
    relative_l2=0.01,
    cosine=0.999,
    top1_agreement=0.95,
    top5_overlap=0.95,
    source=SOURCE,
)
EXACT = np.random.default_rng(1).normal(0.0, 2.0, size=(64, 40))


def parity(node=None, counts=None, **stages):
    reference = EXACT.astype(np.float32)
    scores = dict.fromkeys(("torch", "onnx", "simplified", "device"), reference) | stages
    exact = stages.pop("exact", EXACT)
    chain = ChainScores(**{**scores, "exact": exact})
    ids = [f"clip{number}" for number in range(64)]
    found = parity_measurement(chain, ids, counts or InputCounts(clip=60, noise=3, constant=1))
    return found.model_copy(update={"first_divergent_node": node})


def broken(**edit):
    scores = EXACT.astype(np.float32)
    for (row, column), value in edit.get("at", {}).items():
        scores[row, column] = value
    return scores


def test_the_same_chain_passes():
    verdict = judge_parity(parity(), TIGHT, 64)
    assert verdict.status is Status.PASS
    assert "4 edges agree on 64 inputs (60 clips, 3 noise, 1 constant)" in verdict.reason
    assert len(verdict.findings) == 28
    assert [one.note for one in verdict.findings if one.name.endswith("agreement")] == [""] * 4
    near = EXACT.astype(np.float32) + np.float32(0.002)
    verdict = judge_parity(parity(device=near), LOOSE, 64)
    assert verdict.reason.endswith(", largest error 0.002 (torch_to_device)")


def test_a_reference_that_is_exact_leaves_nothing_but_the_least_distance():
    exact = EXACT.astype(np.float32).astype(np.float64)
    verdict = judge_parity(parity(exact=exact, device=exact + 2e-6), TIGHT, 64)
    assert verdict.status is Status.FAIL
    assert verdict.findings[0].limit == TIGHT.fp64_atol
    first = "simplified_to_device rmse to fp64 is 2e-06, must be <= 1e-06 (PyTorch itself in fp32 is 0 from fp64)"
    assert verdict.reason == f"{first}; 1 more limit(s) missed"


def parity_of_file(**stages):
    chain = ChainScores(
        **(dict.fromkeys(("torch", "onnx", "simplified", "device"), EXACT) | stages)
    )
    ids = [f"clip{number}" for number in range(64)]
    return parity_measurement(chain, ids, InputCounts(clip=64), reference=ONNX_FILE)


def test_a_file_is_its_own_reference_and_the_verdict_says_the_anchor():
    near = EXACT.astype(np.float32)
    in_double = judge_parity(
        parity_of_file(exact=EXACT, torch=near, onnx=near), TIGHT, 64, reference=ONNX_FILE
    )
    assert in_double.reason.endswith("; anchored to the ONNX file in float64")
    assert in_double.findings[0].note.startswith("the ONNX file itself in fp32 is")
    in_single = judge_parity(parity_of_file(exact=EXACT), TIGHT, 64, reference=ONNX_FILE)
    assert in_single.status is Status.PASS
    assert in_single.reason.endswith("; anchored to the ONNX file in float32")
    assert len(in_double.findings) - len(in_single.findings) == 4
    off = EXACT * 1.01
    far = judge_parity(parity_of_file(exact=EXACT, device=off), TIGHT, 64, reference=ONNX_FILE)
    assert far.status is Status.FAIL


def test_a_chain_that_begins_elsewhere_does_not_count():
    for_torch = judge_parity(parity_of_file(exact=EXACT), TIGHT, 64)
    assert for_torch.status is Status.INVALID
    assert "must be torch_to_onnx" in for_torch.reason
    of_torch = judge_parity(parity(), TIGHT, 64, reference=ONNX_FILE)
    assert of_torch.status is Status.INVALID
    assert "must be file_to_onnx" in of_torch.reason


def test_float32_rounding_passes():
    rng = np.random.default_rng(2)
    device = (EXACT + rng.normal(0, 1e-7, EXACT.shape)).astype(np.float32)
    assert judge_parity(parity(device=device), TIGHT, 64).status is Status.PASS


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_output_fails_by_name_on_the_first_edge(bad):
    scores = broken(at={(5, 7): bad})
    verdict = judge_parity(
        parity("Softmax_9", onnx=scores, simplified=scores, device=scores), TIGHT, 64
    )
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("torch_to_onnx: non-finite output, 1 of 2560")
    assert verdict.reason.endswith("first divergent node: Softmax_9")
    assert len(verdict.findings) == 28
    tight = judge_parity(parity(device=scores), LOOSE, 64, host_limits=TIGHT)
    limits = [one.limit for one in tight.findings if one.name.endswith("max abs error")]
    assert limits == [TIGHT.max_abs_error] * 2 + [LOOSE.max_abs_error] * 2


def test_fp16_overflow_fails_by_name():
    with np.errstate(over="ignore"):
        device = (EXACT * 1e5).astype(np.float16)
    verdict = judge_parity(parity(device=device), LOOSE, 64)
    assert "simplified_to_device: non-finite output" in verdict.reason


@pytest.mark.parametrize(
    "constant", [np.zeros((64, 40)), np.tile(EXACT[:1], (64, 1))], ids=["zeros", "same row"]
)
def test_constant_output_fails_by_name(constant):
    verdict = judge_parity(parity(device=constant), LOOSE, 64)
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("simplified_to_device: constant output")


@pytest.mark.parametrize("shape", [(1, 40), (64, 41), (64,)])
def test_wrong_shape_fails_by_name(shape):
    verdict = judge_parity(parity(device=np.zeros(shape)), LOOSE, 64)
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("simplified_to_device: wrong shape")


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (lambda scores: scores[::-1], "rmse to fp64"),
        (lambda scores: np.roll(scores, 1, axis=1), "rmse to fp64"),
        (lambda scores: scores + 1e-3, "rmse to fp64"),
        (lambda scores: scores[np.random.default_rng(3).permutation(64)], "top-1 agreement"),
    ],
    ids=["reversed rows", "class + 1", "offset", "permuted rows"],
)
def test_planted_faults_fail_with_numbers(fault, name):
    device = np.ascontiguousarray(fault(EXACT.astype(np.float32)))
    verdict = judge_parity(parity("Add_3", device=device), TIGHT, 64)
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("simplified_to_device rmse to fp64 is")
    assert "(PyTorch itself in fp32 is 5.06e-08 from fp64)" in verdict.reason
    assert "first divergent node: Add_3" in verdict.reason
    missed = {finding.name for finding in verdict.findings if not finding.is_met}
    assert f"simplified_to_device {name}" in missed
    assert not any(finding.startswith("torch_to_onnx") for finding in missed)
    assert f"from fp64); {len(missed) - 1} more limit(s) missed; first div" in verdict.reason


def test_a_single_flip_is_named_with_its_margin():
    device = EXACT.astype(np.float32)
    device[9] = device[9, ::-1]
    findings = judge_parity(parity(device=device), LOOSE, 64).findings
    note = next(f.note for f in findings if f.name == "torch_to_device top-1 agreement")
    assert "1 of 64 rows flipped: clip9" in note
    assert "margin" in note


def test_an_fp16_device_is_no_licence_for_a_bad_export():
    bent = (EXACT + 5e-3 * np.sin(np.arange(40))).astype(np.float32)
    measured = parity(onnx=bent, simplified=bent, device=bent)
    assert judge_parity(measured, LOOSE, 64).status is Status.PASS
    verdict = judge_parity(measured, LOOSE, 64, host_limits=TIGHT)
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("torch_to_onnx")
    # A device of that error alone is within its own limits.
    assert judge_parity(parity(device=bent), LOOSE, 64, host_limits=TIGHT).status is Status.PASS


@pytest.mark.parametrize("field", ["max_abs_error", "cosine", "rmse_expected_to_exact"])
def test_an_undefined_metric_is_no_pass(field):
    measured = parity()
    edges = (measured.edges[0].model_copy(update={field: None}), *measured.edges[1:])
    verdict = judge_parity(measured.model_copy(update={"edges": edges}), LOOSE, 64)
    assert verdict.status is Status.FAIL
    assert "undefined" in verdict.reason


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"edges": ()}, "compared no edge, must be torch_to_onnx"),
        (
            {"edges": parity().edges[:2]},
            "torch_to_onnx, onnx_to_simplified, must be torch_to_onnx, o",
        ),
        ({"input_ids": ("a",) * 64}, "64 input ids do not match"),
        ({"input_ids": ("a", "b")}, "2 input ids do not match 64"),
        ({"input_ids": (), "input_counts": InputCounts()}, "compared on 0 inputs"),
    ],
)
def test_a_comparison_that_shows_nothing_is_invalid(update, words):
    verdict = judge_parity(parity().model_copy(update=update), LOOSE, 0)
    assert verdict.status is Status.INVALID
    assert words in verdict.reason


def test_a_missing_edge_is_invalid():
    measured = parity()
    short = measured.model_copy(update={"edges": measured.edges[:3]})
    assert judge_parity(short, LOOSE, 1).status is Status.INVALID


def test_one_input_counts_where_one_is_enough():
    one = {"input_ids": ("a",), "input_counts": InputCounts(clip=1)}
    measured = parity().model_copy(update=one)
    assert judge_parity(measured, LOOSE, 1).status is Status.PASS
    assert judge_parity(measured, LOOSE, 2).status is Status.INVALID


def test_too_few_inputs_are_invalid():
    verdict = judge_parity(parity(), LOOSE, 65)
    assert verdict.status is Status.INVALID
    assert "64 inputs, at least 65" in verdict.reason


def test_a_broken_reference_is_invalid_and_not_the_models_fault():
    exact = EXACT.copy()
    exact[0, 0] = np.nan
    verdict = judge_parity(parity(exact=exact), LOOSE, 64)
    assert verdict.status is Status.INVALID
    assert "torch_to_onnx: 1 values to compare with are NaN or Inf; fix" in verdict.reason


def test_agreeing_with_a_constant_is_invalid():
    flat = np.zeros_like(EXACT)
    measured = parity(exact=flat, torch=flat, onnx=flat, simplified=flat, device=flat)
    assert judge_parity(measured, LOOSE, 64).status is Status.INVALID


@pytest.mark.parametrize("rows", [0, 65])
def test_rows_that_belong_to_no_input_are_invalid(rows):
    measured = parity()
    edges = (*measured.edges[:3], measured.edges[3].model_copy(update={"row_count": rows}))
    verdict = judge_parity(measured.model_copy(update={"edges": edges}), LOOSE, 64)
    assert verdict.status is Status.INVALID
    assert f"{rows} rows do not belong to 64 inputs" in verdict.reason


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reference_that_is_broken_blames_no_edge(bad):
    scores = broken(at={(5, 7): bad})
    chain = dict.fromkeys(("torch", "onnx", "simplified", "device", "exact"), scores)
    verdict = judge_parity(parity("Softmax_9", **chain), TIGHT, 64)
    assert verdict.status is Status.INVALID
    assert "fix the reference" in verdict.reason


def test_a_reference_that_says_nothing_blames_no_edge():
    flat = np.zeros((64, 40))
    chain = dict.fromkeys(("torch", "exact"), flat)
    verdict = judge_parity(parity(**chain), TIGHT, 64)
    assert verdict.status is Status.INVALID
    assert "the reference is constant" in verdict.reason


def with_repeats(**differences):
    found = Repeats(**{"input_count": 4, "chip_count": 2, "again": 0.0, "row": 3, **differences})
    return parity().model_copy(update={"repeats": found})


def test_a_device_that_repeats_itself_passes_and_says_so():
    same = judge_parity(with_repeats(alone=0.0, chips=0.0), TIGHT, 1)
    assert same.status is Status.PASS
    assert same.reason.endswith(
        "repeats itself bitwise equal (twice, alone and in a batch, on 2 chips)"
    )
    assert [one.note for one in same.findings[28:]] == ["bitwise equal"] * 3
    near = judge_parity(with_repeats(alone=5e-5, chips=2e-5), TIGHT, 1)
    assert near.status is Status.PASS
    assert "; repeats itself within 5e-05 (" in near.reason
    assert [one.note for one in near.findings[28:]] == ["bitwise equal", "", ""]
    alone = judge_parity(with_repeats(row=None, chip_count=1), TIGHT, 1)
    assert alone.reason.endswith("; repeats itself bitwise equal (twice)")
    assert len(alone.findings) == 29
    single = judge_parity(with_repeats(alone=0.0, chip_count=1, is_single=True), TIGHT, 1)
    assert single.reason.endswith("equal (twice, at batch size 1 and in a batch)")
    assert judge_parity(parity(), TIGHT, 1).reason.endswith("largest error 0 (torch_to_onnx)")


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        (
            {"again": 0.2, "alone": 0.0, "chips": 0.0},
            "device, the same batch twice: max difference",
        ),
        (
            {"again": None, "alone": 0.0, "chips": 0.0},
            "device, the same batch twice: max difference",
        ),
        ({"alone": 0.2, "chips": 0.0}, "device, alone and in row 3 of a batch: max difference"),
        (
            {"alone": 0.2, "chips": 0.0, "is_single": True},
            "device, at batch size 1 and in row 3 of a batch: max difference",
        ),
        ({"alone": 0.0, "chips": 0.2}, "device, 2 chips: max difference"),
    ],
)
def test_a_device_that_does_not_repeat_itself_fails(differences, words):
    verdict = judge_parity(with_repeats(**differences), TIGHT, 1)
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith(words)
    assert sum(not one.is_met for one in verdict.findings) == 1
    assert verdict.reason.endswith("must be <= 0.0001")
