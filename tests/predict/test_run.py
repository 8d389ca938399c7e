import contextlib
import dataclasses
import itertools
import threading

import numpy as np
import pytest

from harness.clips import Row, Sample
from harness.errors import DecodeError, RunError
from harness.predict import run
from harness.predict.run import (
    AHEAD,
    feed_from_samples,
    feed_from_tensors,
    run_tensors,
    scored_batches,
    stream_from_runner,
)
from harness.registry import model_spec
from harness.spec import TensorSpec

ONES = {"y": np.ones((2, 3), np.float32)}
ROUND_TRIPS = pytest.mark.parametrize("batch", [1, 3, 4])


@pytest.fixture(scope="module")
def logits_spec():
    return dataclasses.replace(
        model_spec("timesformer"),
        class_count=3,
        input=TensorSpec("x", (1, 2)),
        output=TensorSpec("y", (1, 3)),
    )


@pytest.fixture(scope="module")
def crops_spec(logits_spec):
    """Three crops a sample, as TimeSformer has."""
    return dataclasses.replace(
        logits_spec, input=TensorSpec("x", (1, 3, 2)), output=TensorSpec("y", (3, 3))
    )


class Recorder:
    """A runner whose row for a sample is (its first value, 10 times it, -1), one for each crop."""

    def __init__(self, crops=1, dtype=np.float32):
        self.crops, self.dtype, self.fed = crops, dtype, []

    def __call__(self, feed):
        clips = feed["x"]
        self.fed.append(clips)
        first = clips.reshape(len(clips) * self.crops, -1)[:, 0].astype(self.dtype)
        return {"y": np.stack([first, 10 * first, np.full_like(first, -1)], axis=1)}


def sample(number):
    return Sample(f"clip{number}", np.array([number, 0.5], np.float32))


def scored(*args, **more):
    """Return the ids and the scores of all samples."""
    names, scores = zip(*scored_batches(*args, **more), strict=True)
    return list(itertools.chain(*names)), np.concatenate(scores)


@ROUND_TRIPS
def test_ids_and_scores_stay_together(logits_spec, batch):
    runner = Recorder()
    names, scores = scored(stream_from_runner(runner), logits_spec, batch, map(sample, range(10)))
    assert names == [f"clip{number}" for number in range(10)]
    assert scores.shape == (10, 1, 3)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores[:, 0, 0], np.arange(10))
    np.testing.assert_array_equal(scores[:, 0, 1], 10 * np.arange(10))
    assert [len(fed) for fed in runner.fed] == [batch] * -(-10 // batch)


def test_the_last_batch_is_filled_with_its_first_sample(logits_spec):
    runner = Recorder()
    scored(stream_from_runner(runner), logits_spec, 4, map(sample, range(10)))
    np.testing.assert_array_equal(runner.fed[-1][:, 0], [8, 9, 8, 8])


@ROUND_TRIPS
def test_crops_stay_with_their_clip(crops_spec, batch):
    items = [
        Sample(f"clip{number}", 10 * number + np.arange(6, dtype=np.float32).reshape(3, 2))
        for number in range(5)
    ]
    _, scores = scored(stream_from_runner(Recorder(crops=3)), crops_spec, batch, items)
    assert scores.shape == (5, 3, 3)
    expected = 10 * np.arange(5)[:, None] + np.array([0, 2, 4])
    np.testing.assert_array_equal(scores[:, :, 0], expected)


def test_a_softmax_in_the_graph_becomes_log_probabilities(logits_spec):
    spec = dataclasses.replace(logits_spec, softmax_in_graph=True)
    row = np.array([0.5, 0.5, 0.0], np.float32)
    stream = stream_from_runner(lambda _: {"y": np.tile(row, (2, 1))})
    _, scores = scored(stream, spec, 2, [sample(0)], smallest=1e-4)
    np.testing.assert_allclose(scores, np.log([[[0.5, 0.5, 1e-4]]]), rtol=1e-6)


def test_nothing_to_run(logits_spec):
    runner = Recorder()
    assert run_tensors(stream_from_runner(runner), logits_spec, 4, []).shape == (0, 3)
    assert runner.fed == []


@ROUND_TRIPS
def test_tensors_give_rows_in_float64(crops_spec, batch):
    runner = Recorder(crops=3, dtype=np.float64)
    done: list[int] = []
    tensors = [np.full((3, 2), number + 1e-12) for number in range(5)]
    scores = run_tensors(
        stream_from_runner(runner), crops_spec, batch, tensors, progress=done.append
    )
    assert scores.shape == (15, 3)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores[:, 0], np.repeat(np.arange(5) + 1e-12, 3))
    assert done[-1] == 5


def test_float32_scores_are_only_widened(logits_spec):
    scores = run_tensors(
        stream_from_runner(Recorder()), logits_spec, 2, [np.full((1, 2), 0.1, np.float32)]
    )
    assert scores.dtype == np.float64
    assert scores[0, 0] == np.float32(0.1)


def test_a_feed_is_one_full_contiguous_batch(logits_spec):
    tensors = [np.array([number, -number], np.float32) for number in (1, 2)]
    feed = feed_from_tensors(logits_spec, 3, tensors)
    assert list(feed) == ["x"]
    assert feed["x"].flags.c_contiguous
    np.testing.assert_array_equal(feed["x"], [[1, -1], [2, -2], [1, -1]])


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"y": np.zeros((4, 5))}, r"y of shape \(4, 5\).*\(4, 3\)"),
        ({"y": np.zeros((3, 4))}, r"y of shape \(3, 4\).*\(4, 3\)"),
        ({"y": np.zeros((1, 3))}, r"y of shape \(1, 3\).*\(4, 3\)"),
        ({"y": np.zeros(12)}, r"y of shape \(12,\).*\(4, 3\)"),
        ({"z": np.zeros((4, 3))}, r"no output y.*gave z"),
        ({}, r"no output y.*gave nothing"),
    ],
)
def test_an_output_that_is_not_the_declared_one(logits_spec, output, said):
    with pytest.raises(RunError, match=said):
        run_tensors(
            stream_from_runner(lambda _: output), logits_spec, 4, [np.zeros((1, 2), np.float32)]
        )


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (lambda feeds: [ONES, *[ONES for _ in feeds]], "more answers than it got batches"),
        (lambda feeds: iter([ONES]), "more answers than it got batches"),
        (lambda feeds: [ONES for _ in feeds][1:], "did not answer 1 of its batches"),
        (lambda feeds: [ONES for _ in itertools.islice(feeds, 2)], "stopped after 4 clips"),
        (lambda feeds: [], "stopped after 0 clips"),
    ],
    ids=["one too many", "unasked", "one too few", "stopped", "nothing at all"],
)
def test_a_stream_answers_every_batch_once(logits_spec, stream, said):
    with pytest.raises(RunError, match=said):
        scored(stream, logits_spec, 2, map(sample, range(6)))


def test_the_next_batches_are_ready_while_the_device_is_at_one(logits_spec):
    taken, ready = [], threading.Event()

    def items():
        for number in range(20):
            taken.append(number)
            if number == 3:
                ready.set()
            yield sample(number)

    def answer(feed):
        assert ready.wait(10), "the second batch is not prepared before the first is answered"
        # Two batches ahead, and no more.
        assert len(taken) <= feed["x"][0, 0] + 2 * (1 + AHEAD)
        return ONES

    names, _ = scored(stream_from_runner(answer), logits_spec, 2, items())
    assert names == [f"clip{number}" for number in range(20)]


def test_scores_of_quick_batches_come_together_and_those_of_slow_ones_at_once(
    logits_spec, monkeypatch
):
    def groups():
        given = map(sample, range(7))
        batches = scored_batches(stream_from_runner(Recorder()), logits_spec, 2, given)
        return [(names, scores[:, 0, 0].tolist()) for names, scores in batches]

    def named(*parts):
        return [([f"clip{number}" for number in part], part) for part in parts]

    assert groups() == named([0, 1], [2, 3, 4, 5, 6])
    monkeypatch.setattr(run, "GROUP_S", 0.0)
    assert groups() == named([0, 1], [2, 3], [4, 5], [6])


@pytest.mark.parametrize("error", [RunError("unplugged"), DecodeError("a process died")])
def test_what_came_before_an_error_is_given_ahead_of_it(logits_spec, error):
    recorder = Recorder()

    def breaking(feed):
        if len(recorder.fed) == 3:
            raise error
        return recorder(feed)

    batches = scored_batches(stream_from_runner(breaking), logits_spec, 2, map(sample, range(8)))
    assert next(batches)[0] == ["clip0", "clip1"]
    names, scores = next(batches)
    assert names == ["clip2", "clip3", "clip4", "clip5"]
    assert scores[:, 0, 0].tolist() == [2, 3, 4, 5]
    with pytest.raises(type(error), match=str(error)):
        next(batches)


def test_an_answer_of_another_shape_takes_none_of_those_before_it(logits_spec):
    answers = iter([ONES, ONES, {"y": np.zeros((3, 2), np.float32)}])
    batches = scored_batches(
        stream_from_runner(lambda feed: next(answers)), logits_spec, 2, map(sample, range(6))
    )
    assert next(batches)[0] == ["clip0", "clip1"]
    assert next(batches)[0] == ["clip2", "clip3"]
    with pytest.raises(RunError, match="wrong shape"):
        next(batches)


def test_a_device_that_breaks_leaves_the_samples_closable(logits_spec):
    def items():
        yield from map(sample, range(100))

    def unplugged(feed):
        raise RunError("unplugged")

    with contextlib.closing(items()) as given, pytest.raises(RunError, match="unplugged"):
        scored(stream_from_runner(unplugged), logits_spec, 2, given)
    assert not [one for one in threading.enumerate() if one.name.startswith("feed")]


def test_an_error_of_the_samples_reaches_the_caller(logits_spec):
    def items():
        yield sample(0)
        raise DecodeError("a process died")

    with pytest.raises(DecodeError, match="died"):
        scored(stream_from_runner(lambda feed: ONES), logits_spec, 2, items())


def rows_of(whole):
    return [Sample(str(index), row, Row(whole, index)) for index, row in enumerate(whole)]


def test_the_rows_of_a_batch_are_not_copied(logits_spec):
    whole = np.array([[1, -1], [2, -2], [3, -3]], np.float32)
    feed = feed_from_samples(logits_spec, 3, rows_of(whole))
    assert np.shares_memory(feed["x"], whole)
    np.testing.assert_array_equal(feed["x"], whole)


@pytest.mark.parametrize(
    "chosen",
    [[1, 0, 2], [0, 0, 2], [0, 1], [1, 2], [0]],
    ids=["in another order", "one twice", "one too few", "not the first", "one"],
)
def test_rows_that_are_not_a_whole_batch_are_copied(logits_spec, chosen):
    whole = np.array([[1, -1], [2, -2], [3, -3]], np.float32)
    rows = rows_of(whole)
    feed = feed_from_samples(logits_spec, 3, [rows[number] for number in chosen])
    assert not np.shares_memory(feed["x"], whole)
    padded = [*chosen, *[chosen[0]] * (3 - len(chosen))]
    np.testing.assert_array_equal(feed["x"], whole[padded])


def test_rows_of_two_batches_and_samples_of_none_are_copied(logits_spec):
    whole = np.array([[1, -1], [2, -2], [3, -3]], np.float32)
    first, second, third = rows_of(whole)
    (other,) = rows_of(np.array([[4, -4], [5, -5], [6, -6]], np.float32))[1:2]
    alone = Sample("alone", np.array([7, -7], np.float32))
    for taken in ([first, other, third], [first, alone, third], [alone, second, third]):
        feed = feed_from_samples(logits_spec, 3, taken)
        assert not np.shares_memory(feed["x"], whole)
        np.testing.assert_array_equal(feed["x"], [one.tensor for one in taken])


def test_a_whole_batch_of_another_size_is_not_taken_for_one(logits_spec):
    whole = np.array([[1, -1], [2, -2]], np.float32)
    feed = feed_from_samples(logits_spec, 3, rows_of(whole))
    np.testing.assert_array_equal(feed["x"], [[1, -1], [2, -2], [1, -1]])
