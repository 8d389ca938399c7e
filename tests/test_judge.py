import pathlib

import numpy as np
import pytest

from harness.accuracy import accuracy_measurement
from harness.export_facts import ExportMeasurement, TensorFacts
from harness.judge import (
    Finding,
    Verdict,
    floor_count,
    judge_accuracy,
    judge_export,
    judge_parity,
    judge_throughput,
)
from harness.judge.verdict import at_least, at_most, below, listed
from harness.parity import ChainScores, InputCounts, parity_measurement
from harness.spec import Clip, ClipSet, Predictions, Status
from harness.statistics import wilson_interval
from harness.thresholds import (
    AccuracyFloor,
    AccuracyLimits,
    PairedLimits,
    ParityLimits,
    ThroughputReference,
)
from harness.throughput import SessionTiming, session_timing, throughput_measurement

SOURCE = "test"


# verdicts and findings


@pytest.mark.parametrize("undefined", [None, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("compare", [at_least, at_most, below])
def test_an_undefined_number_meets_no_limit(compare, undefined):
    finding = compare("x", undefined, 1.0)
    assert (finding.is_met, finding.measured) == (False, None)
    assert "undefined" in finding.text


@pytest.mark.parametrize(
    ("compare", "answers"),
    [
        (at_least, (False, True, True)),
        (at_most, (True, True, False)),
        (below, (True, False, False)),
    ],
)
def test_limits_themselves(compare, answers):
    assert tuple(compare("x", value, 1.0).is_met for value in (0.9, 1.0, 1.1)) == answers


@pytest.mark.parametrize(
    "findings",
    [(), (at_least("x", 0.0, 1.0),), (at_least("x", 2.0, 1.0), at_least("y", 0.0, 1.0))],
)
def test_a_pass_without_a_seen_pass_cannot_be_built(findings):
    with pytest.raises(ValueError, match="a pass needs findings"):
        Verdict(status=Status.PASS, reason="looks fine", findings=findings)


def test_a_pass_with_an_undecided_finding_cannot_be_built():
    open_one = at_least("x", 2.0, 1.0).model_copy(update={"is_met": None})
    with pytest.raises(ValueError, match="a pass needs findings"):
        Verdict(status=Status.PASS, reason="looks fine", findings=(open_one,))


def test_a_verdict_survives_json():
    verdict = Verdict(status=Status.PASS, reason="seen", findings=(at_least("x", 2, 1, "clips"),))
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert isinstance(verdict.findings[0], Finding)


def test_long_lists_are_cut_and_counted():
    assert listed(["a", "b", "c"]) == "a; b; c"
    assert listed(["a", "b", "c", "d", "e"], ", ") == "a, b, c and 2 more"


# export


def export(**more):
    facts = {
        "problems": (),
        "ops_checked": 42,
        "opset": 11,
        "op_counts": {"Conv": 42},
        "inputs": (TensorFacts(name="video", shape=(1, 8, 3, 64, 64), dtype="float32"),),
        "outputs": (TensorFacts(name="class", shape=("batch", 8), dtype="float32"),),
        "onnx_bytes": 1000,
    }
    return ExportMeasurement.model_validate(facts | more)


def test_a_good_export_passes():
    verdict = judge_export(export())
    assert verdict.status is Status.PASS
    assert "42 nodes at opset 11" in verdict.reason


def test_an_export_with_problems_fails_by_their_names():
    verdict = judge_export(export(problems=("dynamic dim batch", "op Einsum is not allowed")))
    assert verdict.status is Status.FAIL
    assert "2 problem(s)" in verdict.reason
    assert "op Einsum" in verdict.reason


def test_an_export_that_nobody_looked_at_is_no_pass():
    assert judge_export(export(ops_checked=0)).status is Status.INVALID


def test_export_facts_survive_json():
    facts = export(simplified_bytes=900)
    assert ExportMeasurement.model_validate_json(facts.model_dump_json()) == facts


# parity

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
    return parity_measurement(chain, ids, counts or InputCounts(clip=60, noise=3, constant=1), node)


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
    assert "(fp32 PyTorch itself is 5.06e-08 from fp64)" in verdict.reason
    assert "first divergent node: Add_3" in verdict.reason
    missed = {finding.name for finding in verdict.findings if not finding.is_met}
    assert f"simplified_to_device {name}" in missed
    assert not any(finding.startswith("torch_to_onnx") for finding in missed)


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


def test_too_few_inputs_are_invalid():
    verdict = judge_parity(parity(), LOOSE, 65)
    assert verdict.status is Status.INVALID
    assert "64 inputs, at least 65" in verdict.reason


def test_a_broken_reference_is_invalid_and_not_the_models_fault():
    exact = EXACT.copy()
    exact[0, 0] = np.nan
    verdict = judge_parity(parity(exact=exact), LOOSE, 64)
    assert verdict.status is Status.INVALID
    assert "mend the reference" in verdict.reason


def test_agreeing_with_a_constant_is_invalid():
    flat = np.zeros_like(EXACT)
    measured = parity(exact=flat, torch=flat, onnx=flat, simplified=flat, device=flat)
    assert judge_parity(measured, LOOSE, 64).status is Status.INVALID


def test_rows_that_belong_to_no_input_are_invalid():
    measured = parity()
    edges = tuple(edge.model_copy(update={"row_count": 65}) for edge in measured.edges)
    verdict = judge_parity(measured.model_copy(update={"edges": edges}), LOOSE, 64)
    assert "65 rows do not belong to 64 inputs" in verdict.reason


# accuracy


def measure(*arguments):
    return accuracy_measurement(*arguments)


def accuracy_limits(count, top1=0.5, margin=0.02, **more):
    return AccuracyLimits(
        top1=AccuracyFloor(floor=top1, source=SOURCE),
        top5=AccuracyFloor(floor=0.6, source=SOURCE),
        clip_count=count,
        paired=PairedLimits(margin=margin, confidence=0.95, source=SOURCE),
        **more,
    )


LABELS = np.random.default_rng(4).integers(0, 8, size=400)


def clips(labels=LABELS, **more):
    listed_clips = tuple(
        Clip(f"c{number}", pathlib.Path(f"c{number}.mp4"), int(label))
        for number, label in enumerate(labels)
    )
    return ClipSet("motion8", listed_clips, tuple("abcdefgh"), "d" * 64, **more)


def predictions(classes=LABELS, unreadable=None):
    scores = np.random.default_rng(5).uniform(0, 1, size=(len(classes), 1, 8)).astype(np.float32)
    scores[np.arange(len(classes)), 0, np.asarray(classes)] += 3.0
    return Predictions(
        tuple(f"c{number}" for number in range(len(classes))), scores, unreadable or {}
    )


def wrong(count, start=0):
    """The labels, with ``count`` of them wrong."""
    classes = LABELS.copy()
    classes[start : start + count] = (classes[start : start + count] + 1) % 8
    return classes


def judged(preds, whole=None, reference=None, **more):
    measured = measure(preds, whole or clips(), reference or predictions())
    return judge_accuracy(measured, accuracy_limits(400, **more))


@pytest.mark.parametrize(
    ("floor", "n", "count"),
    [
        (0.716, 19796, 14174),
        (0.97, 400, 388),
        (0.9, 400, 360),
        (0.0, 5, 0),
        (1.0, 5, 5),
        (0.1, 30, 3),
    ],
)
def test_floors_are_exact_counts(floor, n, count):
    assert floor_count(floor, n) == count


@pytest.mark.parametrize(("k", "status"), [(14173, Status.FAIL), (14174, Status.PASS)])
def test_the_kinetics_floor_is_a_hard_count(k, status):
    measured = measure(predictions(), clips(), predictions())
    top1 = measured.top1.model_copy(
        update={"k": k, "n": 19796, "interval": wilson_interval(k, 19796)}
    )
    top5 = top1.model_copy(update={"k": 18000})
    paired = measured.paired.model_copy(update={"n": 19796})
    whole = measured.model_copy(
        update={"top1": top1, "top5": top5, "paired": paired, "clip_count": 19796}
    )
    verdict = judge_accuracy(whole, accuracy_limits(19796, top1=0.716, margin=0.002))
    assert verdict.status is status
    assert f"{k} of 19796 clips, margin {k - 14174:+d}" in verdict.reason


def test_the_same_predictions_pass():
    verdict = judged(predictions())
    assert verdict.status is Status.PASS
    assert "400 of 400 clips, margin +200" in verdict.reason
    assert "detectable loss" in verdict.reason
    assert len(verdict.findings) == 3


def test_a_real_loss_fails_on_the_whole_set():
    verdict = judged(predictions(wrong(20)))
    assert verdict.status is Status.FAIL
    assert "PyTorch alone right on 20, device alone on 0 of 400 clips" in verdict.reason


def test_a_loss_that_is_not_shown_small_fails_on_the_whole_set():
    assert judged(predictions(wrong(5))).status is Status.FAIL


@pytest.mark.parametrize(
    "fault",
    [
        lambda scores: scores[::-1],
        lambda scores: np.roll(scores, 1, axis=2),
        lambda scores: scores[np.random.default_rng(6).permutation(400)],
        lambda scores: scores[:, :, ::-1],
    ],
    ids=["reversed rows", "label + 1", "permuted rows", "reversed classes"],
)
def test_planted_faults_fail_against_the_floor(fault):
    preds = predictions()
    verdict = judged(Predictions(preds.clip_ids, fault(preds.scores)))
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("top-1 is")


def test_permuted_labels_fail():
    permuted = np.random.default_rng(7).permutation(LABELS)
    assert judged(predictions(), clips(permuted)).status is Status.FAIL


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite_scores_fail_by_name(bad):
    preds = predictions()
    preds.scores[3, 0, 0] = bad
    verdict = judged(preds)
    assert verdict.status is Status.FAIL
    assert verdict.reason == "non-finite output: NaN or Inf for 1 clips: c3"


def test_constant_scores_fail_by_name():
    preds = predictions()
    verdict = judged(Predictions(preds.clip_ids, np.zeros_like(preds.scores)))
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("constant output")


def test_a_wrong_shape_fails_by_name():
    preds = predictions()
    verdict = judged(Predictions(preds.clip_ids, preds.scores[:, :, :7]))
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("wrong shape")


def short(preds, unreadable=None):
    return Predictions(preds.clip_ids[1:], preds.scores[1:], unreadable or {})


@pytest.mark.parametrize(
    ("preds", "words"),
    [
        (short(predictions()), "lack clips of the manifest: 1 clip(s): c0"),
        (predictions([*LABELS, 0]), "name clips outside the manifest: 1 clip(s): c400"),
        (
            Predictions(("c1", *predictions().clip_ids[1:]), predictions().scores),
            "name a clip twice: 1 clip(s): c1",
        ),
        (short(predictions(), {"c0": "no frames"}), "at most 0 may: c0 (no frames)"),
    ],
    ids=["truncated", "extra", "duplicate", "unreadable"],
)
def test_another_set_of_clips_is_invalid(preds, words):
    verdict = judged(preds)
    assert verdict.status is Status.INVALID
    assert verdict.reason.startswith(("the device's predictions", "1 clips could not"))
    assert words in verdict.reason


def test_unreadable_clips_may_be_allowed_and_still_count_as_wrong():
    unread = short(predictions(), {"c0": "no frames"})
    verdict = judged(unread, reference=unread, unreadable_max=1)
    assert verdict.status is Status.PASS
    assert "399 of 400 clips" in verdict.reason


@pytest.mark.parametrize(
    ("count", "is_whole", "words"),
    [
        (399, True, "has 399 clips, the contract says 400"),
        (401, False, "a subset of 401 clips is larger"),
        (0, False, "is empty"),
    ],
)
def test_a_wrong_number_of_clips_is_invalid(count, is_whole, words):
    labels = np.resize(LABELS, count)
    preds = predictions(labels)
    measured = measure(preds, clips(labels, is_whole=is_whole), preds)
    verdict = judge_accuracy(measured, accuracy_limits(400))
    assert verdict.status is Status.INVALID
    assert words in verdict.reason


def test_counts_over_another_number_of_clips_are_invalid():
    measured = measure(predictions(), clips(), predictions())
    other = measured.model_copy(update={"top5": measured.top5.model_copy(update={"n": 399})})
    assert judge_accuracy(other, accuracy_limits(400)).status is Status.INVALID


def test_no_reference_is_no_pass_but_a_missed_floor_is_still_a_fail():
    measured = measure(predictions(), clips())
    verdict = judge_accuracy(measured, accuracy_limits(400))
    assert verdict.status is Status.INVALID
    assert "run the reference on the same clips" in verdict.reason
    bad = measure(predictions(wrong(300)), clips())
    assert judge_accuracy(bad, accuracy_limits(400)).status is Status.FAIL


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (short(predictions()), "the reference predictions lack clips"),
        (
            Predictions(predictions().clip_ids, np.full((400, 1, 8), np.nan, np.float32)),
            "NaN or Inf",
        ),
        (Predictions(predictions().clip_ids, np.zeros((400, 1, 7), np.float32)), "broken: scores"),
        (short(predictions(), {"c0": "no frames"}), "could not be read for the reference"),
    ],
    ids=["truncated", "NaN", "wrong shape", "unreadable"],
)
def test_a_broken_reference_is_no_pass(reference, words):
    verdict = judged(predictions(), reference=reference)
    assert verdict.status is Status.INVALID
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("errors", "floor", "status"),
    [
        (0, 0.5, Status.PASS),
        (4, 0.97, Status.INCONCLUSIVE),
        (60, 0.97, Status.FAIL),
        (2, 0.5, Status.INCONCLUSIVE),
    ],
)
def test_a_subset_decides_only_what_its_intervals_decide(errors, floor, status):
    preds = predictions(wrong(errors)[:200])
    subset = clips(LABELS[:200], is_whole=False)
    verdict = judged(preds, subset, predictions(LABELS[:200]), top1=floor)
    assert verdict.status is status


def test_the_inconclusive_reason_says_what_is_open():
    subset = clips(LABELS[:50], is_whole=False)
    preds = predictions(LABELS[:50])
    verdict = judged(preds, subset, preds, top1=0.97)
    assert verdict.status is Status.INCONCLUSIVE
    assert "50 clips do not decide: top-1: 50 of 50 clips" in verdict.reason


def paired_verdicts(shares, n, runs, margin):
    """Judge simulated whole runs with the given chances of (b, c, neither)."""
    base = measure(predictions(), clips(), predictions())
    count = base.top1.model_copy(update={"k": n, "n": n, "interval": wilson_interval(n, n)})
    limits = accuracy_limits(n, margin=margin)
    for b, c, _ in np.random.default_rng(8).multinomial(n, shares, size=runs):
        paired = base.paired.model_copy(update={"n": n, "b": int(b), "c": int(c)})
        update = {"top1": count, "top5": count, "clip_count": n, "paired": paired}
        yield judge_accuracy(base.model_copy(update=update), limits).status


def test_a_true_loss_of_the_margin_is_let_through_in_5_percent_of_runs():
    statuses = list(paired_verdicts([0.0035, 0.0015, 0.995], 19796, 1000, 0.002))
    assert 0.03 < statuses.count(Status.PASS) / 1000 < 0.07


def test_the_same_model_stays_green():
    statuses = list(paired_verdicts([0.0025, 0.0025, 0.995], 19796, 500, 0.002))
    assert statuses.count(Status.PASS) / 500 > 0.97


# throughput


def reference(golden=100.0, tolerance=0.05, **more):
    fields = {"golden": golden, "tolerance": tolerance, "unit": "clips/s", "definition": "device"}
    fields |= {"scope": "chip", "source": SOURCE}
    return ThroughputReference.model_validate(fields | more)


def speeds(*per_s, **more):
    timings = [session_timing([1000.0 / speed] * 20, **more) for speed in per_s]
    return throughput_measurement(timings, batch=1)


def test_fast_enough_passes():
    verdict = judge_throughput(speeds(99.0, 100.0, 101.0), reference())
    assert verdict.status is Status.PASS
    assert "mean 100, 3 session(s), 95 % bounds" in verdict.reason


def test_five_percent_slower_than_allowed_fails():
    verdict = judge_throughput(speeds(90.0, 90.2, 90.4), reference())
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("too slow: device speed")


def test_bounds_that_straddle_the_floor_decide_nothing():
    verdict = judge_throughput(speeds(92.0, 96.0, 100.0), reference())
    assert verdict.status is Status.INCONCLUSIVE
    assert "add sessions" in verdict.reason


def test_a_speed_at_the_floor_is_met():
    measured = throughput_measurement([session_timing([10.0] * 20)] * 3, batch=1)
    assert judge_throughput(measured, reference(tolerance=0.0)).status is Status.PASS


@pytest.mark.parametrize("speed", [200.0, 50.0])
def test_one_session_decides_only_where_the_tier_says_so(speed):
    verdict = judge_throughput(speeds(speed), reference())
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.reason.startswith("1 of 2 sessions timed")
    status = Status.PASS if speed > 95.0 else Status.FAIL
    assert judge_throughput(speeds(speed), reference(), sessions_min=1).status is status


def test_fewer_sessions_than_required_decide_nothing():
    verdict = judge_throughput(speeds(100.0, 100.0), reference(), sessions_min=3)
    assert verdict.status is Status.INCONCLUSIVE


@pytest.mark.parametrize("factor", [3.0, 100.0])
def test_implausibly_fast_is_red(factor):
    verdict = judge_throughput(speeds(100.0 * factor, 100.0 * factor), reference())
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("implausibly fast")


def test_implausibly_fast_is_red_with_one_session_too():
    assert judge_throughput(speeds(1e4), reference()).status is Status.FAIL


@pytest.mark.parametrize(
    "measured",
    [
        throughput_measurement([], 1),
        throughput_measurement([SessionTiming()], 1),
        throughput_measurement([session_timing([0.0] * 20)] * 3, 1),
        throughput_measurement([session_timing([-1.0] * 20)] * 3, 1),
        throughput_measurement([session_timing([float("nan")] * 20)] * 3, 1),
        throughput_measurement([session_timing([10.0, float("inf")])] * 3, 1),
        throughput_measurement([session_timing([10.0] * 9, is_output_same=False)] * 3, 1),
    ],
    ids=["no session", "empty", "zero", "negative", "NaN", "Inf", "other outputs"],
)
def test_timings_that_do_not_count_are_invalid(measured):
    verdict = judge_throughput(measured, reference(), sessions_min=1)
    assert verdict.status is Status.INVALID
    assert verdict.reason.startswith("the timing does not count")


def test_a_definition_that_was_not_timed_is_invalid():
    verdict = judge_throughput(speeds(100.0, 100.0), reference(definition="e2e"))
    assert verdict.status is Status.INVALID
    assert verdict.reason.startswith("e2e was not timed")


def test_a_ratio_needs_pytorch_in_the_same_run():
    ratio = reference(golden=1.5, unit="x PyTorch", against="pytorch")
    verdict = judge_throughput(speeds(100.0, 100.0), ratio)
    assert verdict.status is Status.INVALID
    assert "beside PyTorch" in verdict.reason
    fast = speeds(100.0, 101.0, 100.5, pytorch_ms=[16.0] * 20)
    assert judge_throughput(fast, ratio).status is Status.PASS


def test_values_for_other_sessions_are_invalid():
    measured = speeds(100.0, 100.0).model_copy(update={"session_count": 3})
    assert judge_throughput(measured, reference()).status is Status.INVALID


def simulated(mean, spread, sessions, runs):
    """Judge simulated runs of normal session speeds against a floor of 95."""
    for run in np.random.default_rng(9).normal(mean, spread, size=(runs, sessions)):
        yield judge_throughput(speeds(*run.tolist()), reference()).status


def test_the_same_machine_stays_green():
    statuses = list(simulated(100.0, 1.0, 5, 200))
    assert statuses.count(Status.PASS) / 200 > 0.97
    assert Status.FAIL not in statuses


def test_a_speed_just_under_the_floor_is_let_through_in_5_percent_of_runs():
    statuses = list(simulated(95.0, 2.0, 5, 500))
    assert statuses.count(Status.PASS) / 500 < 0.08
    assert statuses.count(Status.FAIL) / 500 < 0.08


def test_a_true_slowdown_is_found():
    statuses = list(simulated(90.0, 1.0, 5, 200))
    assert statuses.count(Status.FAIL) / 200 > 0.97
