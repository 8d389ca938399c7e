"""What mmaction2 computes of a clip in a test, as one graph of plain operators.

Three architectures are not such a graph as they stand. TIN shifts frames with a compiled operator
that most builds of mmcv lack, and only in float32. TRN draws the frames that it relates again in
every forward pass. TPN on TSM makes its last layer in the first one.
"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

RELATIONS_SEED = 0
# Backbones whose features mmaction2 pools in a test, but not in ``forward_dummy``.
POOLED = ("torchvision", "timm")


def prepare_for_test(recognizer: Any) -> None:
    """Make what a recognizer makes or draws in a forward pass, once and for all."""
    import torch

    for module in recognizer.modules():
        match type(module).__name__:
            case "RelationModuleMultiScale":
                module.forward = functools.partial(_with_seeded_choice, module.forward)
            case "TemporalInterlace":
                module.forward = functools.partial(interlaced, module)
    if _is_fully_convolutional(recognizer):
        with torch.no_grad():
            recognizer.cls_head._init_new_cls()


def scores_in_test(recognizer: Any, clips: "torch.Tensor") -> "torch.Tensor":
    """Return the scores [row, class] that mmaction2 averages over the views of a sample."""
    if _is_fully_convolutional(recognizer):
        scores = _unaveraged(recognizer)._do_fcn_test(clips)
    elif getattr(recognizer, "backbone_from", None) in POOLED:
        scores = _unaveraged(recognizer)._do_test(clips)
    else:
        scores = recognizer.forward_dummy(clips)[0]
    flat: torch.Tensor = scores if scores.ndim == 2 else scores.flatten(1)
    return flat


def interlaced(module: Any, features: "torch.Tensor") -> "torch.Tensor":
    """Return features [frame, channel, height, width] as mmaction2's ``TemporalInterlace`` does.

    They are joined, not written into zeros of float32, which took a table of every index in ONNX.
    """
    import torch

    count = features.shape[1] // module.shift_div
    moving, resting = features[:, :count], features[:, count:]
    clips = moving.reshape(-1, module.num_segments, *moving.shape[1:])
    pooled = clips.mean(dim=(3, 4)).permute(0, 2, 1)
    offset, weight = module.offset_net(pooled).flatten(1), module.weight_net(pooled)
    moved = sampled_between_frames(clips, torch.cat([offset, -offset], dim=1))
    weighted = moved * _by_channel(torch.cat([weight, weight], dim=2), clips)
    return torch.cat([weighted.reshape(moving.shape), resting], dim=1)


def sampled_between_frames(data: "torch.Tensor", offset: "torch.Tensor") -> "torch.Tensor":
    """Return frames shifted in time by fractions of a frame, as mmaction2's ``linear_sampler``.

    Args:
        data: features [clip, frame, channel, height, width].
        offset: of each group of channels, by how many frames they move: [clip, group].
    """
    import torch

    whole = torch.floor(offset)
    share = _by_channel((offset - whole)[:, None], data)
    return (1 - share) * _shifted(data, whole) + share * _shifted(data, whole + 1)


def _shifted(data: "torch.Tensor", steps: "torch.Tensor") -> "torch.Tensor":
    """Move channels by whole frames [clip, group]; what comes from outside the clip is zero."""
    import torch

    count = data.shape[1]
    frames = torch.arange(count, dtype=steps.dtype)[None, :, None] - steps[:, None]
    is_inside = ((frames >= 0) & (frames < count)).to(data.dtype)
    index = _by_channel(frames.clamp(0, count - 1), data).long().expand(data.shape)
    return data.gather(1, index) * _by_channel(is_inside, data)


def _by_channel(values: "torch.Tensor", data: "torch.Tensor") -> "torch.Tensor":
    """Repeat values [clip, frame, group] for the channels of each group, [..., channel, 1, 1]."""
    clips, frames, groups = values.shape
    each = data.shape[2] // groups
    repeated = values[..., None].expand(clips, frames, groups, each)
    return repeated.reshape(clips, frames, groups * each, 1, 1)


def _with_seeded_choice(forward: Any, features: "torch.Tensor") -> "torch.Tensor":
    """Run a forward pass in which NumPy draws the same numbers every time."""
    # mmaction2 draws from NumPy's global generator.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(RELATIONS_SEED)  # noqa: NPY002
    try:
        scores: torch.Tensor = forward(features)
        return scores
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _is_fully_convolutional(recognizer: Any) -> bool:
    return bool((recognizer.test_cfg or {}).get("fcn_test", False))


def _unaveraged(recognizer: Any) -> Any:
    recognizer.test_cfg = {**recognizer.test_cfg, "average_clips": None}
    return recognizer
