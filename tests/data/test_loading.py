import dataclasses

import numpy as np

from harness.clips import Clip, Sample
from harness.data.loading import Unreadable, crops_from_clip, sample_from_clip

NONLOCAL_CONFIG = "tsm/tsm_nl_dot_product_r50_1x1x8_50e_kinetics400_rgb.py"
TIMESFORMER_CONFIG = "timesformer/timesformer_divST_8x32x1_15e_kinetics400_rgb.py"


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


def test_an_unreadable_clip_is_a_value_with_its_reason(tmp_path, nonlocal_protocol):
    found = sample_from_clip(Clip("gone", tmp_path / "gone.mp4", 0), nonlocal_protocol)
    assert isinstance(found, Unreadable)
    assert found.clip_id == "gone"
    assert "No such file" in found.reason
