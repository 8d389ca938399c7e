import pathlib

import numpy as np
import pytest

from harness.clips import Clip, ClipSet, Predictions
from harness.errors import ClipError
from harness.measure.accuracy import AccuracyMeasurement, accuracy_measurement
from harness.measure.scores import CHUNK_CLIPS
from harness.measure.statistics import mcnemar_midp, minimum_detectable_loss, tango_bounds

CLASSES = 8


def measure(*arguments):
    return accuracy_measurement(*arguments)


def clip_set(labels, **more):
    clips = tuple(
        Clip(id=f"c{number}", path=pathlib.Path(f"c{number}.mp4"), label=int(label))
        for number, label in enumerate(labels)
    )
    names = tuple(f"class{number}" for number in range(CLASSES))
    return ClipSet(name="motion8", clips=clips, class_names=names, digest="d" * 64, **more)


def scores_for(classes, crops=1, seed=0):
    """Scores whose best class is the given one."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.0, 1.0, size=(len(classes), crops, CLASSES))
    scores[np.arange(len(classes)), :, np.asarray(classes)] += 3.0
    return scores.astype(np.float32)


def predictions(classes, unreadable=None, crops=1, seed=0):
    ids = tuple(f"c{number}" for number in range(len(classes)))
    return Predictions(ids, scores_for(classes, crops, seed), unreadable or {})


@pytest.fixture
def labels():
    return np.random.default_rng(4).integers(0, CLASSES, size=200)


def test_all_right(labels):
    measured = measure(predictions(labels), clip_set(labels))
    assert (measured.top1.k, measured.top1.n, measured.top5.k) == (200, 200, 200)
    assert measured.top1.share == 1.0
    assert not measured.is_constant
    assert measured.paired is None
    assert measured.join.missing_ids == measured.join.extra_ids == ()


def test_many_clips_are_scored_in_parts():
    labels = np.random.default_rng(8).integers(0, CLASSES, size=2 * CHUNK_CLIPS + 7)
    wrong = [0, CHUNK_CLIPS - 1, CHUNK_CLIPS, len(labels) - 1]
    answers = labels.copy()
    answers[wrong] = (answers[wrong] + 1) % CLASSES
    preds, expected = predictions(answers, crops=2), predictions(labels, crops=2)
    measured = measure(preds, clip_set(labels), expected)
    assert measured.top1.k == len(labels) - len(wrong)
    assert [flip.clip_id for flip in measured.paired.flips] == [f"c{place}" for place in wrong]


def test_counts_by_hand():
    scores = np.array([[[9, 8, 7, 6, 5, 4, 3, 2]]] * 3, dtype=np.float32)
    preds = Predictions(("c0", "c1", "c2"), scores)
    measured = measure(preds, clip_set([0, 4, 5]))
    assert (measured.top1.k, measured.top5.k) == (1, 2)


def test_joined_by_id_and_never_by_position(labels):
    preds, order = predictions(labels), np.random.default_rng(5).permutation(200)
    shuffled = Predictions(tuple(preds.clip_ids[row] for row in order), preds.scores[order])
    assert measure(shuffled, clip_set(labels)).top1.k == 200


@pytest.mark.parametrize(
    "fault",
    [
        lambda scores: scores[::-1],
        lambda scores: np.roll(scores, 1, axis=2),
        lambda scores: scores[np.random.default_rng(6).permutation(len(scores))],
        lambda scores: -scores,
    ],
    ids=["reversed rows", "label + 1", "permuted rows", "negated"],
)
def test_planted_faults_cost_accuracy(labels, fault):
    preds = predictions(labels)
    broken = Predictions(preds.clip_ids, fault(preds.scores))
    measured = measure(broken, clip_set(labels), preds)
    assert measured.top1.k < 60
    assert measured.paired.b > 140
    assert measured.paired.p_midp < 1e-6


def test_permuted_labels_cost_accuracy(labels):
    permuted = np.random.default_rng(7).permutation(labels)
    assert measure(predictions(labels), clip_set(permuted)).top1.k < 60


@pytest.mark.parametrize("value", [0.0, 1.0, -6.0])
def test_a_constant_output_scores_nothing(labels, value):
    preds = predictions(labels)
    flat = Predictions(preds.clip_ids, np.full_like(preds.scores, value))
    measured = measure(flat, clip_set(labels))
    assert (measured.top1.k, measured.top5.k, measured.is_constant) == (0, 0, True)


def test_the_same_row_for_every_clip_is_constant(labels):
    preds = predictions(labels)
    same = Predictions(preds.clip_ids, np.repeat(preds.scores[:1], 200, axis=0))
    assert measure(same, clip_set(labels)).is_constant


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_scores_are_wrong_and_listed(labels, bad):
    preds = predictions(labels)
    preds.scores[7, 0, labels[7]] = bad
    measured = measure(preds, clip_set(labels))
    assert measured.top1.k == measured.top5.k == 199
    assert measured.join.nonfinite_ids == ("c7",)


def test_three_crops_are_scored_together(labels):
    assert measure(predictions(labels, crops=3), clip_set(labels)).top1.k == 200


def test_a_missing_clip_is_wrong_and_listed(labels):
    preds = predictions(labels)
    short = Predictions(preds.clip_ids[:-1], preds.scores[:-1])
    measured = measure(short, clip_set(labels))
    assert (measured.top1.k, measured.top1.n) == (199, 200)
    assert measured.join.missing_ids == ("c199",)


def test_an_unreadable_clip_is_wrong_and_listed(labels):
    preds = predictions(labels)
    short = Predictions(preds.clip_ids[1:], preds.scores[1:], {"c0": "no frames"})
    measured = measure(short, clip_set(labels))
    assert (measured.top1.k, measured.top1.n) == (199, 200)
    assert measured.join.unreadable == {"c0": "no frames"}
    assert measured.join.missing_ids == ()


def test_an_extra_clip_is_listed_and_not_counted(labels):
    measured = measure(predictions(labels), clip_set(labels[:-1]))
    assert (measured.top1.k, measured.top1.n) == (199, 199)
    assert measured.join.extra_ids == ("c199",)


def test_a_clip_predicted_twice_is_wrong_and_listed(labels):
    preds = predictions(labels)
    twice = Predictions((*preds.clip_ids[:-1], "c0"), preds.scores)
    measured = measure(twice, clip_set(labels))
    assert measured.join.duplicate_ids == ("c0",)
    assert measured.join.missing_ids == ("c199",)
    assert measured.top1.k == 198


def test_a_clip_both_predicted_and_unreadable_is_listed_twice(labels):
    preds = predictions(labels, unreadable={"c3": "truncated"})
    measured = measure(preds, clip_set(labels))
    assert measured.join.duplicate_ids == ("c3",)
    assert measured.top1.k == 199


def test_a_clip_twice_in_the_manifest_is_listed(labels):
    whole = clip_set(labels)
    doubled = ClipSet("motion8", (*whole.clips, whole.clips[0]), whole.class_names, "e" * 64)
    assert measure(predictions(labels), doubled).join.duplicate_ids == ("c0",)


@pytest.mark.parametrize("shape", [(200, 1, 7), (200, 8), (199, 1, 8), (200, 0, 8)])
def test_a_wrong_shape_is_named_and_scores_nothing(labels, shape):
    preds = Predictions(predictions(labels).clip_ids, np.ones(shape, dtype=np.float32))
    measured = measure(preds, clip_set(labels))
    assert str(shape) in measured.join.wrong_shape
    assert (measured.top1.k, measured.is_constant) == (0, False)


def test_no_predictions_at_all(labels):
    nothing = Predictions((), np.zeros((0, 1, CLASSES), dtype=np.float32))
    measured = measure(nothing, clip_set(labels))
    assert (measured.top1.k, len(measured.join.missing_ids)) == (0, 200)


def test_no_clips_at_all():
    nothing = Predictions((), np.zeros((0, 1, CLASSES), dtype=np.float32))
    measured = measure(nothing, clip_set([]), nothing)
    assert measured.top1.share is None
    assert measured.paired.n == 0
    assert measured.paired.p_midp == 1.0


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_out_of_range_is_an_error(label):
    with pytest.raises(ClipError, match=f"c1 of motion8 has label {label}"):
        measure(predictions([0, 1]), clip_set([0, label]))


def test_confusion_adds_up(labels):
    guesses = np.where(np.arange(200) % 10 == 0, (labels + 1) % CLASSES, labels)
    measured = measure(predictions(guesses), clip_set(labels))
    assert sum(count for _, _, count in measured.confusion) == 200
    right = sum(count for label, best, count in measured.confusion if label == best)
    assert right == measured.top1.k == 180


def test_paired_counts_by_hand():
    labels = [0, 1, 2, 3, 4]
    reference, device = predictions([0, 1, 2, 0, 0]), predictions([0, 1, 3, 3, 1])
    paired = measure(device, clip_set(labels), reference).paired
    assert (paired.n, paired.b, paired.c, paired.reference_top1) == (5, 1, 1, 3)
    assert (paired.loss, paired.p_midp) == (0.0, 1.0)
    flips = [
        (flip.clip_id, flip.label, flip.reference_class, flip.device_class) for flip in paired.flips
    ]
    assert flips == [("c2", 2, 2, 3), ("c3", 3, 0, 3), ("c4", 4, 0, 1)]


def test_a_loss_is_the_net_of_what_was_lost_with_its_bounds(labels):
    lost, won = labels.copy(), labels.copy()
    lost[:5], won[7:9] = (lost[:5] + 1) % CLASSES, (won[7:9] + 1) % CLASSES
    paired = measure(predictions(lost), clip_set(labels), predictions(won)).paired
    assert (paired.n, paired.b, paired.c, paired.loss) == (200, 5, 2, 0.015)
    assert paired.bounds == tango_bounds(5, 2, 200)
    assert paired.detectable_loss == minimum_detectable_loss(200, 7)
    assert paired.p_midp == mcnemar_midp(5, 2)


def test_the_same_predictions_have_no_discordant_pair(labels):
    preds = predictions(labels)
    paired = measure(preds, clip_set(labels), preds).paired
    assert (paired.b, paired.c, paired.p_midp, paired.loss, paired.flips) == (0, 0, 1.0, 0.0, ())
    assert paired.bounds.low < 0.0 < paired.bounds.high
    assert paired.detectable_loss > 0.0


def test_a_clip_that_the_reference_could_not_read_shows_nothing(labels):
    preds = predictions(labels)
    reference = Predictions(preds.clip_ids[1:], preds.scores[1:], {"c0": "no frames"})
    paired = measure(preds, clip_set(labels), reference).paired
    assert (paired.n, paired.c) == (199, 0)
    assert paired.reference_join.unreadable == {"c0": "no frames"}


def test_a_clip_that_the_device_could_not_read_is_a_loss(labels):
    preds = predictions(labels)
    device = Predictions(preds.clip_ids[1:], preds.scores[1:], {"c0": "no frames"})
    assert measure(device, clip_set(labels), preds).paired.b == 1


def test_a_short_reference_is_listed(labels):
    preds = predictions(labels)
    reference = Predictions(preds.clip_ids[1:], preds.scores[1:])
    paired = measure(preds, clip_set(labels), reference).paired
    assert paired.reference_join.missing_ids == ("c0",)


def test_json_round_trip(labels):
    preds = predictions(labels)
    device = Predictions(preds.clip_ids, preds.scores[::-1], {})
    measured = measure(device, clip_set(labels, is_whole=False), preds)
    assert AccuracyMeasurement.model_validate_json(measured.model_dump_json()) == measured
