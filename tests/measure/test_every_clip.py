import numpy as np
import pytest

from harness.clips import Predictions
from harness.measure.every_clip import EveryClip, compare_every_clip
from harness.measure.scores import CHUNK_CLIPS

CLIPS = 8 * CHUNK_CLIPS + 100


def predictions(scores):
    return Predictions(tuple(f"c{number}" for number in range(len(scores))), scores)


@pytest.fixture(scope="module")
def both():
    """Scores [clip, crop, class] of PyTorch and of a device, over several chunks."""
    rng = np.random.default_rng(3)
    expected = rng.normal(0, 3, size=(CLIPS, 3, 5)).astype(np.float32)
    return expected + rng.normal(0, 1e-3, size=expected.shape).astype(np.float32), expected


def compare(actual, expected, rows=None, lowest=-np.inf):
    rows = np.arange(len(actual)) if rows is None else np.array(rows, dtype=int)
    both = predictions(actual), predictions(expected)
    return compare_every_clip(*both, np.stack([rows, rows]), lowest)


def test_the_chunks_add_up_to_the_whole(both):
    actual, expected = (scores.astype(np.float64) for scores in both)
    error = np.abs(actual - expected)
    less_mean = expected - expected.mean(axis=2, keepdims=True)
    relative = np.sqrt((error**2).sum(axis=(1, 2)) / (less_mean**2).sum(axis=(1, 2)))
    found = compare(*both)
    assert found.compared == CLIPS
    assert found.p999_abs_error == np.quantile(error, 0.999, method="higher")
    assert found.largest_error.max_abs_error == error.max()
    assert found.largest_error.clip_id == f"c{error.max(axis=(1, 2)).argmax()}"
    order = np.argsort(-relative)[:16]
    assert [one.clip_id for one in found.farthest] == [f"c{place}" for place in order]
    np.testing.assert_allclose([one.relative_l2 for one in found.farthest], relative[order])


def test_one_clip_of_thousands_is_found(both):
    actual, expected = both[0].copy(), both[1]
    actual[1500] = actual[3]
    found = compare(actual, expected)
    assert found.farthest[0].clip_id == found.largest_error.clip_id == "c1500"
    assert found.farthest[0].relative_l2 > 0.1 > found.farthest[1].relative_l2
    assert found.p999_abs_error < 0.01


def test_clips_are_compared_by_the_rows_given(both):
    order = np.random.default_rng(4).permutation(CLIPS)
    rows = np.stack([np.argsort(order), np.arange(CLIPS)])
    ours = Predictions(tuple(f"c{number}" for number in order), both[0][order])
    assert compare_every_clip(ours, predictions(both[1]), rows, -np.inf) == compare(*both)


def test_what_the_device_cannot_tell_is_no_difference():
    expected = np.array([[[0.0, -9.0, -40.0]]], dtype=np.float32)
    actual = np.array([[[0.0, -9.0, -9.7]]], dtype=np.float32)
    assert compare(actual, expected).largest_error.max_abs_error > 30
    assert compare(actual, expected, lowest=-9.7).largest_error.max_abs_error < 1e-6


def test_a_flat_reference_leaves_the_difference_itself():
    flat = np.zeros((1, 1, 4), dtype=np.float32)
    found = compare(flat + np.float32(0.5), flat)
    assert found.farthest[0].relative_l2 == 1.0


@pytest.mark.parametrize("rows", [[], None])
def test_nothing_is_made_up_without_answers_of_both(both, rows):
    other = both[1] if rows == [] else both[1][:, :2]
    assert compare(both[0], other, rows) == EveryClip(compared=0)


def test_json_round_trip(both):
    found = compare(*both)
    assert EveryClip.model_validate_json(found.model_dump_json()) == found
