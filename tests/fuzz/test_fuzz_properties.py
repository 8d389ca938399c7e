"""What holds for every input: of sampling, merging and statistics."""

import dataclasses
import random
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.clips import Clip, ClipSet, Predictions
from harness.data.sampling import frame_indices
from harness.data.transforms import crops_from_frames, tensor_from_crops
from harness.measure.accuracy import accuracy_measurement
from harness.measure.statistics import mcnemar_midp, tango_bounds, wilson_interval
from harness.predict.shards import merged, shard_of_set
from harness.registry import model_spec
from tests.fuzz.test_fuzz import SETTINGS

PROTOCOLS = [model_spec(name).protocol for name in ("nonlocal_r50", "timesformer")]
CLIPS = tuple(Clip(f"clip {number}", Path(), number % 3) for number in range(40))
WHOLE = ClipSet("s", CLIPS, ("a", "b", "c"), "d" * 64)


@SETTINGS
@given(st.integers(1, 9), st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_any_sharding_in_any_order_is_measured_alike(count, order, seed):
    """Hosts may share a data set in any way: the accuracy is that of one host."""
    numbers = np.random.default_rng(seed)
    scores = numbers.random((len(CLIPS), 1, 3), dtype=np.float32)
    unreadable = {clip.id: "odd" for clip in CLIPS if numbers.random() < 0.1}
    rows = [row for row, clip in enumerate(CLIPS) if clip.id not in unreadable]
    whole = Predictions(tuple(CLIPS[row].id for row in rows), scores[rows], unreadable)
    shards = [part(whole, shard_of_set(WHOLE, index, count)) for index in range(count)]
    order.shuffle(shards)
    again = merged(shards, WHOLE)
    assert accuracy_measurement(again, WHOLE, whole) == accuracy_measurement(whole, WHOLE, whole)


def part(preds, shard):
    """Return the predictions of a shard, its clips in another order."""
    names = [clip.id for clip in shard.clips if clip.id in preds.clip_ids]
    random.Random(1).shuffle(names)
    rows = [preds.clip_ids.index(name) for name in names]
    mine = {clip.id for clip in shard.clips}
    unreadable = {name: why for name, why in preds.unreadable.items() if name in mine}
    return dataclasses.replace(
        preds, clip_ids=tuple(names), scores=preds.scores[rows], unreadable=unreadable
    )


@SETTINGS
@given(st.sampled_from(PROTOCOLS), st.integers(1, 5000))
def test_every_frame_that_is_sampled_is_there(protocol, count):
    indices = frame_indices(protocol, count)
    assert all(0 <= index < count for index in indices)
    if count >= protocol.frame_count * protocol.frame_interval:
        assert list(indices) == sorted(set(indices))


@SETTINGS
@given(st.sampled_from(PROTOCOLS), st.integers(8, 400), st.integers(8, 400), st.integers(0, 255))
def test_a_frame_of_one_colour_stays_that_colour_whatever_its_size(protocol, width, height, value):
    frames = [np.full((height, width, 3), value, np.uint8)] * 8
    crops = crops_from_frames(frames, protocol)
    assert crops.shape[-3:] == (protocol.crop_size, protocol.crop_size, 3)
    assert (crops == value).all()
    tensor = tensor_from_crops(crops, protocol)
    channel = tensor.ndim - 3 if protocol.layout == "TCHW" else tensor.ndim - 4
    for index, (mean, std) in enumerate(zip(protocol.mean, protocol.std, strict=True)):
        np.testing.assert_allclose(tensor.take(index, channel), (value - mean) / std, atol=1e-5)


@SETTINGS
@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share_and_lies_in_the_other_direction_mirrored(counts):
    k, n = counts
    found, mirrored = wilson_interval(k, n), wilson_interval(n - k, n)
    assert 0.0 <= found.low <= k / n <= found.high <= 1.0
    np.testing.assert_allclose(
        (found.low, found.high), (1 - mirrored.high, 1 - mirrored.low), atol=1e-9
    )


@SETTINGS
@given(st.integers(0, 200), st.integers(0, 200), st.integers(400, 20_000))
def test_a_paired_comparison_does_not_depend_on_who_is_named_first(b, c, n):
    assert mcnemar_midp(b, c) == mcnemar_midp(c, b)
    assert 0.0 <= mcnemar_midp(b, c) <= 1.0
    found, mirrored = tango_bounds(b, c, n), tango_bounds(c, b, n)
    assert found.low - 1e-9 <= (b - c) / n <= found.high + 1e-9
    np.testing.assert_allclose((found.low, found.high), (-mirrored.high, -mirrored.low), atol=1e-6)
