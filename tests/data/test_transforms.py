import dataclasses
import itertools

import cv2
import numpy as np
import pytest

from harness.data.transforms import (
    batch_rows,
    crops_from_frames,
    jpeg_round_trip,
    tensor_from_crops,
)
from harness.errors import ClipError, InputError

SIZES = [(340, 256), (256, 340), (426, 240), (97, 75), (131, 93), (64, 64), (225, 224), (1000, 31)]


def mmaction_images(mmaction, frames, *steps):
    height, width = frames[0].shape[:2]
    compose = mmaction.datasets.pipelines.Compose(list(steps))
    given = {"imgs": list(frames), "img_shape": (height, width), "modality": "RGB"}
    return compose({**given, "num_clips": 1, "clip_len": len(frames)})["imgs"]


@pytest.mark.parametrize("size", SIZES)
def test_centre_crop_is_mmaction2s(mmaction, make_frames, nonlocal_protocol, size):
    frames = make_frames(8, *size)
    steps = [{"type": "Resize", "scale": (-1, 256)}, {"type": "CenterCrop", "crop_size": 224}]
    expected = np.stack(mmaction_images(mmaction, frames, *steps))
    crops = crops_from_frames(frames, nonlocal_protocol)
    assert crops.dtype == np.uint8
    np.testing.assert_array_equal(crops, expected[None])


@pytest.mark.parametrize("size", SIZES)
def test_three_crops_are_mmaction2s(mmaction, make_frames, timesformer_protocol, size):
    frames = make_frames(8, *size)
    steps = [{"type": "Resize", "scale": (-1, 224)}, {"type": "ThreeCrop", "crop_size": 224}]
    expected = np.stack(mmaction_images(mmaction, frames, *steps))
    crops = crops_from_frames(frames, timesformer_protocol)
    np.testing.assert_array_equal(crops, expected.reshape(3, 8, 224, 224, 3))


def test_three_crops_come_as_start_end_middle(timesformer_protocol):
    protocol = dataclasses.replace(timesformer_protocol, frame_count=1, short_side=4, crop_size=4)
    ramp = np.broadcast_to(np.arange(11, dtype=np.uint8)[None, :, None], (4, 11, 3))
    crops = crops_from_frames([np.ascontiguousarray(ramp)], protocol)
    # The slack of 7 is odd: the end crop starts at 6, a pixel before the edge.
    assert [int(crop[0, 0, 0, 0]) for crop in crops] == [0, 6, 3]


def test_tchw_tensor_is_mmaction2s_to_the_last_bit(mmaction, make_frames, nonlocal_protocol):
    frames = make_frames(8, 224, 224)
    norm = {"mean": list(nonlocal_protocol.mean), "std": list(nonlocal_protocol.std)}
    steps = [{"type": "Normalize", **norm}, {"type": "FormatShape", "input_format": "NCHW"}]
    tensor = tensor_from_crops(np.stack(frames)[None], nonlocal_protocol)
    assert tensor.shape == (8, 3, 224, 224)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor, mmaction_images(mmaction, frames, *steps))


def test_mcthw_tensor_is_mmaction2s_to_the_last_bit(mmaction, make_frames, timesformer_protocol):
    frames = make_frames(8, 340, 224)
    norm = {"mean": [127.5] * 3, "std": [127.5] * 3}
    steps = [
        {"type": "ThreeCrop", "crop_size": 224},
        {"type": "Normalize", **norm},
        {"type": "FormatShape", "input_format": "NCTHW"},
    ]
    tensor = tensor_from_crops(
        crops_from_frames(frames, timesformer_protocol), timesformer_protocol
    )
    assert tensor.shape == (3, 3, 8, 224, 224)
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor, mmaction_images(mmaction, frames, *steps))


def seeded_protocol(protocol, seed):
    """Another mean and spread, to a few decimals; the protocol itself for seed 0."""
    rng = np.random.default_rng(seed)
    mean, std = (tuple(rng.uniform(1, 255, 3).round(seed % 6)) for _ in range(2))
    return dataclasses.replace(protocol, mean=mean, std=std) if seed else protocol


def test_every_pixel_value_is_normalised_as_mmcv_does(mmcv, nonlocal_protocol, subtests):
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1).repeat(3, axis=-1)
    for seed in range(100):
        with subtests.test(seed=seed):
            protocol = seeded_protocol(nonlocal_protocol, seed)
            mean, std = np.array([protocol.mean, protocol.std], np.float32)
            expected = mmcv.imnormalize(values[0, 0], mean, std, to_rgb=False).transpose(2, 0, 1)
            np.testing.assert_array_equal(tensor_from_crops(values, protocol)[0], expected)


def test_tchw_joins_the_frames_of_all_crops(nonlocal_protocol):
    crops = np.arange(3 * 8 * 2 * 2 * 3, dtype=np.uint8).reshape(3, 8, 2, 2, 3)
    tensor = tensor_from_crops(crops, nonlocal_protocol)
    assert tensor.shape == (24, 3, 2, 2)
    np.testing.assert_array_equal(tensor[8:16], tensor_from_crops(crops[1:2], nonlocal_protocol))


def test_clips_of_a_crop_are_kept_apart(timesformer_protocol):
    """Two crops of three clips of eight frames: rows of the first crop first."""
    protocol = dataclasses.replace(timesformer_protocol, clip_count=3)
    crops = np.random.default_rng(0).integers(0, 256, (2, 24, 2, 2, 3), dtype=np.uint8)
    tensor = tensor_from_crops(crops, protocol)
    assert tensor.shape == (6, 3, 8, 2, 2)
    expected = tensor_from_crops(crops[1:2, 16:], timesformer_protocol)
    np.testing.assert_array_equal(tensor[5:], expected)


def test_normalising_leaves_the_stored_crops_alone(nonlocal_protocol, make_frames):
    crops = np.stack(make_frames(8, 16, 16))[None]
    before = crops.copy()
    crops.flags.writeable = False
    tensor_from_crops(crops, nonlocal_protocol)
    np.testing.assert_array_equal(crops, before)


def written_size(width, height, short_side):
    if not short_side:
        return width, height
    if width <= height:
        return short_side, int((short_side / width) * height)
    return int((short_side / height) * width), short_side


def test_jpeg_round_trip_is_the_written_file(tmp_path, mmcv, make_frames, subtests):
    path = tmp_path / "img_00001.jpg"
    for size, short_side in itertools.product(SIZES, (0, 320, 45)):
        with subtests.test(size=size, short_side=short_side):
            frame = make_frames(1, *size)[0]
            target = written_size(*size, short_side)
            mmcv.imwrite(mmcv.imresize(frame[..., ::-1], target), str(path))
            expected = mmcv.imfrombytes(path.read_bytes(), channel_order="rgb")
            np.testing.assert_array_equal(jpeg_round_trip(frame, short_side), expected)


def test_jpeg_round_trip_keeps_the_channels_in_order():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert cv2.mean(jpeg_round_trip(red, 0))[:3] == pytest.approx((200, 0, 0), abs=2)


def test_a_wrong_number_of_frames_is_refused(nonlocal_protocol, make_frames):
    with pytest.raises(ClipError, match="takes 8 frames, got 7"):
        crops_from_frames(make_frames(7), nonlocal_protocol)


@pytest.mark.parametrize(("crop_count", "crop_size"), [(1, 257), (3, 224)])
def test_crops_that_do_not_fit_are_refused(nonlocal_protocol, make_frames, crop_count, crop_size):
    protocol = dataclasses.replace(nonlocal_protocol, crop_count=crop_count, crop_size=crop_size)
    with pytest.raises(InputError, match="do not fit"):
        crops_from_frames(make_frames(8), protocol)


@pytest.mark.parametrize("protocol_name", ["nonlocal_protocol", "timesformer_protocol"])
def test_the_rows_of_a_batch_take_what_a_sample_alone_is(protocol_name, request):
    protocol = request.getfixturevalue(protocol_name)
    shape = (protocol.crop_count, protocol.frame_count, protocol.crop_size, protocol.crop_size, 3)
    crops = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    first, second, third = itertools.islice(batch_rows(protocol, 2), 3)
    assert first.batch is second.batch is not third.batch
    assert [row.index for row in (first, second, third)] == [0, 1, 0]
    first.batch[:] = np.nan
    written = tensor_from_crops(crops, protocol, second.batch[second.index])
    np.testing.assert_array_equal(written, tensor_from_crops(crops, protocol))
    np.testing.assert_array_equal(first.batch[1], written)
    assert np.isnan(first.batch[0]).all()


def test_a_batch_without_a_place(nonlocal_protocol):
    with pytest.raises(InputError, match="a batch cannot have 0 samples"):
        next(batch_rows(nonlocal_protocol, 0))
