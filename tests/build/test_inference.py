"""What mmaction2 computes in a test, of the architectures that are not a graph as they stand."""

import numpy as np
import pytest

from harness.build.inference import interlaced, sampled_between_frames
from harness.build.torch_model import quiet_mmaction, run_torch, torch_model_from_spec
from harness.zoo.model import model_spec_from_config

SMALL = {
    "crop_size": 32,
    "short_side": 32,
    "crop_count": 1,
    "clip_count": 1,
    "placement": "segments",
}
TRN = "recognition/trn/trn_r50_1x1x8_50e_sthv1_rgb.py"
TPN = "recognition/tpn/tpn_tsm_r50_1x1x8_150e_sthv1_rgb.py"


def shifted(data, offset):
    """mmcv's kernel, frame by frame: what moves out of the clip is lost, zero moves in."""
    out = np.zeros_like(data)
    clips, frames, channels = data.shape[:3]
    each = channels // offset.shape[1]
    for clip, frame, channel in np.ndindex(clips, frames, channels):
        target = frame + int(offset[clip, channel // each])
        if 0 <= target < frames:
            out[clip, target, channel] = data[clip, frame, channel]
    return out


def test_frames_shift_by_fractions_as_the_compiled_operator_shifts_them(torch):
    rng = np.random.default_rng(0)
    data, offset = rng.standard_normal((2, 5, 6, 2, 2)), rng.uniform(-3, 3, (2, 3))
    below = np.floor(offset)
    share = np.repeat(offset - below, 2, axis=1)[:, None, :, None, None]
    expected = (1 - share) * shifted(data, below) + share * shifted(data, below + 1)
    found = sampled_between_frames(torch.from_numpy(data), torch.from_numpy(offset))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_frames_are_interlaced_as_mmaction2_interlaces_them_in_both_precisions(torch, monkeypatch):
    with quiet_mmaction():
        from mmaction.models.backbones import resnet_tin
    monkeypatch.setattr(resnet_tin, "linear_sampler", sampled_between_frames)
    torch.manual_seed(0)
    module = resnet_tin.TemporalInterlace(16, num_segments=4, shift_div=2)
    features = torch.randn(8, 16, 3, 3)
    expected = module(features)
    torch.testing.assert_close(interlaced(module, features), expected)
    double = interlaced(module.double(), features.double())
    assert double.dtype is torch.float64
    torch.testing.assert_close(double.float(), expected)


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", [TRN, TPN])
def test_scores_are_the_same_twice_and_a_row_of_classes(name):
    spec = model_spec_from_config(name, "a.pth", protocol=SMALL)
    model = torch_model_from_spec(spec, None)
    noise = np.random.default_rng(1).standard_normal(spec.input.shape).astype(np.float32)
    first, again = (run_torch(model, spec, {spec.input.name: noise}) for _ in range(2))
    assert first[spec.output.name].shape == spec.output.shape
    np.testing.assert_array_equal(first[spec.output.name], again[spec.output.name])
