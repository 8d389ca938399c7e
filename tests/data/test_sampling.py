import dataclasses

import pytest

from harness.data.sampling import frame_indices
from harness.errors import ClipError

COUNTS = [*range(1, 600), 1000, 1791, 4097, 100003]


def expected_indices(mmaction, protocol, frame_count):
    is_uniform = protocol.sampling == "uniform"
    sample = mmaction.datasets.pipelines.SampleFrames(
        clip_len=1 if is_uniform else protocol.frame_count,
        frame_interval=protocol.frame_interval,
        num_clips=protocol.frame_count if is_uniform else 1,
        test_mode=True,
    )
    return tuple(sample({"total_frames": frame_count, "start_index": 0})["frame_inds"])


def test_uniform_is_mmaction2s(mmaction, nonlocal_protocol):
    for count in COUNTS:
        expected = expected_indices(mmaction, nonlocal_protocol, count)
        assert frame_indices(nonlocal_protocol, count) == expected, count


@pytest.mark.parametrize(("frame_count", "interval"), [(8, 32), (8, 2), (16, 1), (3, 7)])
def test_strided_is_mmaction2s(mmaction, timesformer_protocol, frame_count, interval):
    protocol = dataclasses.replace(
        timesformer_protocol, frame_count=frame_count, frame_interval=interval
    )
    for count in COUNTS:
        expected = expected_indices(mmaction, protocol, count)
        assert frame_indices(protocol, count) == expected, count


@pytest.mark.parametrize("frame_count", [4, 7, 16, 25])
def test_uniform_rounds_as_mmaction2_for_other_counts(mmaction, nonlocal_protocol, frame_count):
    protocol = dataclasses.replace(nonlocal_protocol, frame_count=frame_count)
    for count in COUNTS:
        assert frame_indices(protocol, count) == expected_indices(mmaction, protocol, count), count


def test_a_short_clip_repeats_its_frames(nonlocal_protocol, timesformer_protocol):
    assert frame_indices(nonlocal_protocol, 1) == (0,) * 8
    assert frame_indices(nonlocal_protocol, 5) == (0, 0, 1, 2, 2, 3, 4, 4)
    assert frame_indices(timesformer_protocol, 5) == (0, 2, 4, 1, 3, 0, 2, 4)


@pytest.mark.parametrize("frame_count", [0, -1])
def test_a_clip_without_frames_is_refused(nonlocal_protocol, frame_count):
    with pytest.raises(ClipError, match="replace the clip"):
        frame_indices(nonlocal_protocol, frame_count)
