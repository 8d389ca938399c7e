import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest

from harness.clips import Clip, Sample
from harness.data.loading import (
    QUEUE_PER_WORKER,
    Unreadable,
    crops_from_clip,
    sample_from_clip,
    samples,
)
from harness.errors import ClipError

NONLOCAL_CONFIG = "tsm/tsm_nl_dot_product_r50_1x1x8_50e_kinetics400_rgb.py"
TIMESFORMER_CONFIG = "timesformer/timesformer_divST_8x32x1_15e_kinetics400_rgb.py"


def numbered(count):
    return [Clip(str(number), Path(f"{number}.mp4"), 0) for number in range(count)]


def grey(clip, protocol):
    return np.full((1, 8, 4, 4, 3), int(clip.id) % 256, np.uint8)


def decode_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_the_video_protocol_is_mmaction2s(clip_path, oracle, nonlocal_protocol):
    expected = oracle(NONLOCAL_CONFIG, {"filename": str(clip_path)})["imgs"]
    sample = sample_from_clip(Clip("a", clip_path, 0), nonlocal_protocol)
    assert isinstance(sample, Sample)
    assert sample.tensor.shape == (8, 3, 224, 224)
    np.testing.assert_array_equal(sample.tensor, expected)


def test_the_rawframe_protocol_is_mmaction2s(
    clip_path, tmp_path, oracle, extract_frames, timesformer_protocol
):
    source = extract_frames(clip_path, tmp_path, short_side=320)
    expected = oracle(TIMESFORMER_CONFIG, source)["imgs"]
    sample = sample_from_clip(Clip("a", clip_path, 0), timesformer_protocol)
    assert isinstance(sample, Sample)
    assert sample.tensor.shape == (3, 3, 8, 224, 224)
    np.testing.assert_array_equal(sample.tensor, expected)


def test_rawframes_may_keep_the_size_of_the_video(
    tmp_path, write_clip, oracle, extract_frames, timesformer_protocol
):
    path = write_clip(tmp_path / "clip.mp4", 20)
    expected = oracle(TIMESFORMER_CONFIG, extract_frames(path, tmp_path, short_side=0))["imgs"]
    protocol = dataclasses.replace(timesformer_protocol, rawframe_short_side=0)
    sample = sample_from_clip(Clip("a", path, 0), protocol)
    assert isinstance(sample, Sample)
    np.testing.assert_array_equal(sample.tensor, expected)


def test_a_rotated_clip_is_mmaction2s(rotated_clip, oracle, nonlocal_protocol):
    expected = oracle(NONLOCAL_CONFIG, {"filename": str(rotated_clip)})["imgs"]
    sample = sample_from_clip(Clip("a", rotated_clip, 0), nonlocal_protocol)
    assert isinstance(sample, Sample)
    np.testing.assert_array_equal(sample.tensor, expected)


def test_crops_are_what_a_store_keeps(tmp_path, write_clip, nonlocal_protocol):
    path = write_clip(tmp_path / "clip.mp4", 20)
    crops = crops_from_clip(Clip("a", path, 0), nonlocal_protocol)
    assert crops.shape == (1, 8, 224, 224, 3)
    assert crops.dtype == np.uint8


def test_an_unreadable_clip_is_a_value_with_its_reason(tmp_path, write_clip, nonlocal_protocol):
    good = Clip("good", write_clip(tmp_path / "good.mp4", 3), 0)
    gone = Clip("gone", tmp_path / "gone.mp4", 0)
    first, second, third = samples([good, gone, good], nonlocal_protocol)
    assert isinstance(second, Unreadable)
    assert second.clip_id == "gone"
    assert "No such file" in second.reason
    assert [item.clip_id for item in (first, third)] == ["good", "good"]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_order_is_kept_whatever_finishes_first(nonlocal_protocol, workers):
    second_done = threading.Event()

    def read(clip, protocol):
        if clip.id == "0" and workers > 1:
            assert second_done.wait(timeout=30)
        if clip.id == "1":
            second_done.set()
        return grey(clip, protocol)

    found = list(samples(numbered(40), nonlocal_protocol, workers=workers, read=read))
    assert [item.clip_id for item in found] == [str(number) for number in range(40)]


def test_no_clips_give_no_samples(nonlocal_protocol):
    assert list(samples([], nonlocal_protocol)) == []


def test_decoding_runs_ahead_and_the_queue_is_bounded(nonlocal_protocol):
    taken = []

    def clips():
        for clip in numbered(50):
            taken.append(clip.id)
            yield clip

    stream = samples(clips(), nonlocal_protocol, workers=3, read=grey)
    for yielded, _ in enumerate(stream, start=1):
        in_flight = len(taken) - yielded
        assert in_flight <= 3 * QUEUE_PER_WORKER
        assert in_flight >= 1 or len(taken) == 50


def test_the_next_clip_is_decoded_while_the_first_is_used(nonlocal_protocol):
    decoded = threading.Event()

    def read(clip, protocol):
        if clip.id == "1":
            decoded.set()
        return grey(clip, protocol)

    stream = samples(numbered(2), nonlocal_protocol, read=read)
    next(stream)
    assert decoded.wait(timeout=30)
    assert len(list(stream)) == 1


def test_closing_early_stops_the_threads_and_the_rest(nonlocal_protocol):
    started = []

    def read(clip, protocol):
        started.append(clip.id)
        return grey(clip, protocol)

    stream = samples(numbered(1000), nonlocal_protocol, workers=2, read=read)
    next(stream)
    assert decode_threads()
    stream.close()
    assert decode_threads() == []
    assert len(started) <= 2 * QUEUE_PER_WORKER + 1


def test_the_threads_end_with_the_clips(nonlocal_protocol):
    assert len(list(samples(numbered(5), nonlocal_protocol, workers=2, read=grey))) == 5
    assert decode_threads() == []


def test_nothing_starts_before_the_first_sample_is_wanted(nonlocal_protocol):
    stream = samples(numbered(5), nonlocal_protocol, read=grey)
    assert decode_threads() == []
    stream.close()


def test_an_error_of_the_code_reaches_the_caller_and_stops_the_threads(nonlocal_protocol):
    def read(clip, protocol):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(samples(numbered(5), nonlocal_protocol, workers=2, read=read))
    assert decode_threads() == []


def test_every_clip_may_be_unreadable(nonlocal_protocol):
    def read(clip, protocol):
        raise ClipError(f"no {clip.id}")

    found = list(samples(numbered(3), nonlocal_protocol, workers=2, read=read))
    assert found == [Unreadable(str(number), f"no {number}") for number in range(3)]
