import pathlib

import numpy as np
import pytest

from harness.clips import Clip, ClipSet, Predictions
from harness.judge import judge_accuracy
from harness.judge.limits import (
    AccuracyFloor,
    AccuracyLimits,
    PairedLimits,
    floor_count,
)
from harness.measure.accuracy import accuracy_measurement
from harness.measure.statistics import wilson_interval
from harness.spec import Status

SOURCE = "test"


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


def test_another_set_than_the_contracts_is_invalid():
    limits = accuracy_limits(400)
    measured = measure(predictions(), clips(), predictions())
    same = limits.model_copy(update={"clip_set_digest": measured.clip_set_digest})
    assert judge_accuracy(measured, same).status is judge_accuracy(measured, limits).status
    other = limits.model_copy(update={"clip_set_digest": "0123456789abcdef" * 4})
    verdict = judge_accuracy(measured, other)
    assert verdict.status is Status.INVALID
    assert "is not the contract's: its digest is dddddddddddddddd, the contract says" in (
        verdict.reason
    )


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
