import pathlib
import re

import numpy as np
import pytest

from harness.clips import Clip, ClipSet, Predictions
from harness.judge.accuracy import accuracy_reaches, judge_accuracy
from harness.judge.limits import (
    AccuracyFloor,
    AccuracyLimits,
    EveryClipLimits,
    PairedLimits,
    floor_count,
)
from harness.measure.accuracy import accuracy_measurement
from harness.measure.every_clip import ClipDistance, EveryClip
from harness.measure.statistics import tango_bounds, wilson_interval
from harness.spec import Status

SOURCE = "test"


def measure(*arguments):
    return accuracy_measurement(*arguments)


def accuracy_limits(count, top1=0.5, margin=0.02, rate=0.02, **more):
    return AccuracyLimits(
        top1=AccuracyFloor(floor=top1, source=SOURCE),
        top5=AccuracyFloor(floor=0.6, source=SOURCE),
        clip_count=count,
        paired=PairedLimits(margin=margin, confidence=0.95, floor_error_rate=rate, source=SOURCE),
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
        # As binary numbers, 0.07 x 100 is above 7.
        (0.07, 100, 7),
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
    top1, top5, loss = (one.name for one in verdict.findings)
    assert (top1, top5, loss[:13]) == ("top-1", "top-5", "loss of top-1")


def test_a_real_loss_fails_on_the_whole_set():
    verdict = judged(predictions(wrong(20)))
    assert verdict.status is Status.FAIL
    assert "PyTorch alone right on 20, device alone on 0 of 400 clips" in verdict.reason


@pytest.mark.parametrize(
    ("lost", "status"), [(3, Status.PASS), (5, Status.INCONCLUSIVE), (20, Status.FAIL)]
)
def test_a_loss_must_be_shown_small_to_pass_and_large_to_fail(lost, status):
    verdict = judged(predictions(wrong(lost)))
    assert verdict.status is status
    is_open = status is Status.INCONCLUSIVE
    assert ("the set has no more: make fewer clips flip" in verdict.reason) is is_open


def test_a_straddling_loss_says_how_many_clips_would_decide():
    (count,) = re.findall(r"about (\d+) clips", judged(predictions(wrong(5))).reason)
    b = round(5 * int(count) / 400)
    assert tango_bounds(b, 0, int(count)).high <= 0.02
    b = round(5 * int(count) * 0.95 / 400)
    assert tango_bounds(b, 0, round(int(count) * 0.95)).high > 0.02
    subset = clips(LABELS[:200], is_whole=False)
    verdict = judged(predictions(wrong(2)[:200]), subset, predictions(LABELS[:200]))
    assert verdict.reason.endswith("would decide, the whole set has 400")


LEAST, KINETICS = 14174, 19796


def kinetics_run(b, c, reference=LEAST + 4, **more):
    """A whole run of Kinetics-400 with the given discordant clips, PyTorch just above the floor."""
    base = measure(predictions(), clips(), predictions())
    k = reference - b + c
    top1 = base.top1.model_copy(
        update={"k": k, "n": KINETICS, "interval": wilson_interval(k, KINETICS)}
    )
    paired = base.paired.model_copy(
        update={"n": KINETICS, "b": b, "c": c, "reference_top1": reference}
    )
    update = {"top1": top1, "top5": top1.model_copy(update={"k": 18000}), "paired": paired}
    return base.model_copy(update={**update, "clip_count": KINETICS, **more})


def kinetics_verdict(measured, **more):
    limits = accuracy_limits(KINETICS, top1=0.716, margin=0.002, matrix_cells=12, **more)
    return judge_accuracy(measured, limits)


@pytest.mark.parametrize(
    ("b", "c", "status", "limit"),
    [
        # 60 discordant clips: a fair coin loses more than 22 of them net once in 600 times.
        (28, 32, Status.PASS, LEAST + 4 - 22),
        (33, 27, Status.PASS, LEAST + 4 - 22),
        (41, 19, Status.PASS, LEAST + 4 - 22),
        (42, 18, Status.FAIL, LEAST + 4 - 22),
        # Without a discordant clip nothing is allowed, and nothing is needed.
        (0, 0, Status.PASS, LEAST),
        (50, 10, Status.FAIL, LEAST + 4 - 22),
    ],
)
def test_the_floor_of_top1_allows_what_chance_takes_from_a_reference_that_reaches_it(
    b, c, status, limit
):
    verdict = kinetics_verdict(kinetics_run(b, c))
    top1 = verdict.findings[0]
    is_allowing = limit < LEAST
    assert (top1.limit, top1.contract_limit) == (limit, LEAST if is_allowing else None)
    assert top1.is_met is (status is Status.PASS)
    assert verdict.status is status
    assert f"margin {4 - b + c:+d}" in top1.note
    assert ("to the contract's 14174; PyTorch has 14178" in top1.note) is is_allowing


def test_a_device_below_the_exact_floor_passes_only_within_the_margin_too():
    verdict = kinetics_verdict(kinetics_run(33, 27))
    assert verdict.status is Status.PASS
    assert "top-1 is 14172 clips, must be >= 14156 (contract: 14174)" in verdict.reason
    # Half of all flips are wins, but the many flips hide how large the loss is.
    noisy = kinetics_verdict(kinetics_run(2010, 1990))
    assert noisy.findings[0].limit == LEAST + 4 - 39
    assert noisy.status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    ("measured", "more", "words"),
    [
        (kinetics_run(33, 27, reference=LEAST - 1), {}, "PyTorch itself has 14173"),
        (kinetics_run(33, 27), {"rate": 1.0}, "margin -2"),
        (kinetics_run(32, 27), {"rate": 1.0}, "margin -1"),
        (kinetics_run(1, 0, reference=LEAST), {"rate": 1.0}, "margin -1"),
        (kinetics_run(33, 27, paired=None), {}, "margin -2"),
    ],
    ids=[
        "PyTorch misses it too",
        "an exact contract",
        "by one clip",
        "at the floor",
        "no reference",
    ],
)
def test_the_exact_floor_stands(measured, more, words):
    verdict = kinetics_verdict(measured, **more)
    assert verdict.status is Status.FAIL
    assert (verdict.findings[0].limit, verdict.findings[0].contract_limit) == (LEAST, None)
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("b", "c", "is_green"),
    [(41, 19, True), (42, 18, False), (28, 32, True), (0, 22, True), (2010, 1990, False)],
)
def test_other_counts_of_discordant_clips_are_judged_as_if_they_were_measured(b, c, is_green):
    limits = accuracy_limits(KINETICS, top1=0.716, margin=0.002, matrix_cells=12)
    assert accuracy_reaches(kinetics_run(1, 1), limits, b, c) is is_green
    assert (judge_accuracy(kinetics_run(b, c), limits).status is Status.PASS) is is_green
    assert not accuracy_reaches(kinetics_run(1, 1, paired=None), limits, b, c)


def test_what_chance_takes_is_not_told_where_even_less_reaches_the_floor():
    # 60 discordant clips: chance takes 22, and PyTorch has as many to spare.
    for reference, told in ((LEAST + 22, None), (LEAST + 21, LEAST)):
        top1 = kinetics_verdict(kinetics_run(30, 30, reference=reference)).findings[0]
        assert (top1.limit, top1.contract_limit) == (min(LEAST, reference - 22), told)


def test_a_single_clip_is_a_set_that_decides_nothing():
    one = predictions(LABELS[:1])
    measured = measure(one, clips(LABELS[:1], is_whole=False), one)
    assert judge_accuracy(measured, accuracy_limits(400)).status is Status.INCONCLUSIVE


def test_clips_that_only_the_device_read_give_no_allowance():
    measured = kinetics_run(33, 27)
    paired = measured.paired.model_copy(update={"n": KINETICS - 1})
    verdict = kinetics_verdict(measured.model_copy(update={"paired": paired}))
    assert verdict.findings[0].limit == LEAST


EVERY_CLIP = EveryClipLimits(
    max_abs_error=0.005, p999_abs_error=5e-4, relative_l2=1e-3, source=SOURCE
)
MANY = np.resize(LABELS, 480)


def replaced_clip(scores):
    scores[77] = scores[78]


def flipped_batch(scores):
    scores[72:76] = scores[72:76][::-1].copy()


@pytest.mark.parametrize(
    ("fault", "names"),
    [(replaced_clip, {"c77"}), (flipped_batch, {f"c{number}" for number in range(72, 76)})],
)
def test_a_clip_with_the_scores_of_another_is_red_by_name(fault, names):
    reference = predictions(MANY)
    noise = np.random.default_rng(9).normal(0, 1e-5, reference.scores.shape)
    device = Predictions(reference.clip_ids, reference.scores + noise.astype(np.float32))
    limits = accuracy_limits(480)
    bounded = limits.model_copy(update={"every_clip": EVERY_CLIP})
    clean = measure(device, clips(MANY), reference)
    assert judge_accuracy(clean, bounded).status is Status.PASS
    fault(device.scores)
    measured = measure(device, clips(MANY), reference)
    assert judge_accuracy(measured, limits).status is Status.PASS
    verdict = judge_accuracy(measured, bounded)
    assert verdict.status is Status.FAIL
    assert all(one.is_met for one in verdict.findings[:3])
    beyond = {one.clip_id for one in measured.every_clip.farthest if one.relative_l2 > 1e-3}
    assert beyond == names
    assert any(name in verdict.reason for name in names)


def test_a_run_that_did_not_compare_every_clip_is_no_pass_where_the_contract_asks_for_it():
    old = measure(predictions(), clips(), predictions()).model_copy(update={"every_clip": None})
    assert judge_accuracy(old, accuracy_limits(400)).status is Status.PASS
    verdict = judge_accuracy(old, accuracy_limits(400, every_clip=EVERY_CLIP))
    assert verdict.status is Status.INVALID
    assert "run the accuracy check again" in verdict.reason


LIMIT = ClipDistance(clip_id="c1", max_abs_error=0.005, relative_l2=1e-3)
FAR = ClipDistance(clip_id="c2", max_abs_error=0.004, relative_l2=2e-3)
HIGH = ClipDistance(clip_id="c3", max_abs_error=0.006, relative_l2=5e-4)


@pytest.mark.parametrize(
    ("found", "met", "notes"),
    [
        (
            EveryClip(compared=3, p999_abs_error=5e-4, farthest=(LIMIT, HIGH), largest_error=LIMIT),
            (True, True, True),
            ("c1; 3 clips compared", "3 clips compared", "largest in c1"),
        ),
        (
            EveryClip(compared=3, p999_abs_error=6e-4, farthest=(FAR, LIMIT), largest_error=HIGH),
            (False, False, False),
            ("c3; 3 clips compared", "3 clips compared", "c2"),
        ),
        # If no clip was compared, it does not pass.
        (EveryClip(compared=0), (False, False, False), ("0 clips compared",) * 3),
    ],
)
def test_each_bound_on_every_clip_decides_alone_and_names_the_clip(found, met, notes):
    measured = measure(predictions(), clips(), predictions())
    measured = measured.model_copy(update={"every_clip": found})
    verdict = judge_accuracy(measured, accuracy_limits(400, every_clip=EVERY_CLIP))
    findings = verdict.findings[3:]
    assert tuple(one.is_met for one in findings) == met
    assert tuple(one.note for one in findings) == notes
    assert [one.name.removesuffix(" of every clip") for one in findings] == [
        "max abs error",
        "p99.9 abs error",
        "relative L2",
    ]
    assert verdict.status is (Status.PASS if all(met) else Status.FAIL)


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
        (short(predictions()), "1 clip(s) of the manifest are missing: c0"),
        (predictions([*LABELS, 0]), "1 clip(s) are not in the manifest: c400"),
        (
            Predictions(("c1", *predictions().clip_ids[1:]), predictions().scores),
            "1 clip(s) are named twice: c1",
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
        (short(predictions()), "the reference predictions: 1 clip(s) of the manifest are missing"),
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
    assert "50 clips are too few to decide: top-1: 50 of 50 clips" in verdict.reason


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
