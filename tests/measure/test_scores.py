import numpy as np
import pytest

from harness.measure.scores import (
    FLOAT16_SMALLEST_NORMAL,
    FLOAT32_SMALLEST_NORMAL,
    NO_CLASS,
    best_classes,
    crop_mean,
    label_ranks,
    log_probabilities,
    scores_from_output,
)


def test_underflow_is_clamped_alike_on_both_sides():
    flushed = np.array([[1.0, 0.0]], dtype=np.float32)
    kept = np.array([[1.0, 1e-42]], dtype=np.float64)
    floor = np.log(FLOAT32_SMALLEST_NORMAL)
    assert log_probabilities(flushed)[0, 1] == log_probabilities(kept)[0, 1] == floor
    assert floor == pytest.approx(-87.34, abs=0.01)


def test_a_coarser_clamp_for_fp16():
    assert log_probabilities(np.zeros(1), FLOAT16_SMALLEST_NORMAL)[0] == pytest.approx(
        -9.70, abs=0.01
    )


def test_negative_probabilities_and_nan_stay_broken():
    assert np.isnan(log_probabilities(np.array([-1e-3, np.nan]))).all()
    assert np.isinf(log_probabilities(np.array([np.inf]))).all()


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)],
)
def test_scores_keep_float64_and_the_shape(dtype, kept):
    output = np.array([[0.25, 0.75]], dtype=dtype)
    assert scores_from_output(output, softmax_in_graph=False).dtype == kept
    scores = scores_from_output(output, softmax_in_graph=True)
    assert (scores.dtype, scores.shape) == (kept, (1, 2))
    assert scores == pytest.approx(np.log([[0.25, 0.75]]))


def test_ties_count_against_the_label():
    assert label_ranks(np.array([[1.0, 1.0, 0.0], [2.0, 1.0, 1.0]]), [0, 0]).tolist() == [2, 1]
    assert best_classes(np.array([[1.0, 1.0, 0.0], [2.0, 1.0, 1.0]])).tolist() == [NO_CLASS, 0]


def test_crops_are_averaged_as_probabilities():
    logits = np.array([[[4.0, 0.0, 0.0], [0.0, 1.5, 0.0], [0.0, 1.5, 0.0]]])
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    assert np.exp(crop_mean(logits)) == pytest.approx(shares.mean(axis=1))
    assert np.exp(crop_mean(np.log(shares))) == pytest.approx(shares.mean(axis=1))


def test_crops_and_clips_of_very_different_scores_do_not_drown_each_other():
    logits = np.array([[[1.0, 0.0], [0.0, 2.0]], [[-1.0, 1.0], [2.0, 2.5]]])
    levels = np.array([[[1000.0], [-1000.0]], [[0.0], [5000.0]]])
    assert crop_mean(logits + levels) == pytest.approx(crop_mean(logits))


def test_a_coarser_clamp_holds_for_the_outputs_of_a_model():
    scores = scores_from_output(np.array([[1.0, 0.0]], np.float32), True, FLOAT16_SMALLEST_NORMAL)
    assert scores[0, 1] == pytest.approx(np.log(FLOAT16_SMALLEST_NORMAL))


def test_scores_are_averaged_before_the_softmax_where_the_model_asks_for_it():
    logits = np.array([[[30.0, 0.0], [-1.5, 0.0], [-1.5, 0.0]]])
    assert crop_mean(logits, "score")[0] == pytest.approx([9.0, 0.0])
    assert crop_mean(logits).argmax() == 1


def test_classes_far_below_the_best_keep_their_order():
    logits = np.array([[[2000.0, 1000.0, 0.0]]])
    assert label_ranks(crop_mean(logits), [1]).tolist() == [2]
