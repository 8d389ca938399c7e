"""Weights for a model whose checkpoint is not at hand: seeded, and no part of the graph is dead."""

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.spec import InputProtocol, ModelSpec

if TYPE_CHECKING:
    import torch

SEED = 20200724
# The spread of a parameter that its initialiser leaves constant, so that no branch of a seeded
# model is dead: non-local blocks and time embeddings start at zero and would hide any error there.
SEEDED_SPREAD = 0.05
# How much a residual block adds to its input, which mmaction2 keeps beside the block's shortcut. If a
# block adds as much as it gets, each one amplifies the rounding of those before it: after 152 layers
# float32 is 6e-4 from float64; with this share it is 2e-6. Trained blocks add little, too.
BRANCH_SHARE, SHORTCUT = 0.1, "downsample"
# Pixels that neighbouring values of the noise lie apart: frames are smooth.
COARSENESS = 8
# What parity is shown on besides noise and clips. Non-local blocks cube what lies outside the
# statistics.
CONSTANTS = (0.0, 1.0, -1.0, 2.5)


def spread_constant_parameters(model: Any) -> None:
    """Add noise to every parameter and buffer whose values are all the same."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for tensor in tensors.values():
        if tensor.is_floating_point() and tensor.numel() > 1 and tensor.min() == tensor.max():
            noise = torch.randn(tensor.shape, generator=generator) * SEEDED_SPREAD
            tensor.data.add_(noise.abs() if tensor.min() > 0 else noise)


def calibrate(model: "torch.nn.Module", spec: ModelSpec) -> None:
    """Give each batch norm the statistics of its own input, in one forward pass.

    Without them the activations of a deep model with seeded weights fade, explode or turn NaN. On
    one thread, so that processes with other numbers of threads get the same bits.
    """
    import torch

    norms = [norm for _, norm in _norms(model)]
    if not norms:
        return
    _quieten_branches(model)
    kept, threads = [norm.momentum for norm in norms], torch.get_num_threads()
    torch.set_num_threads(1)
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model(_calibration_clips(spec.protocol))
    torch.set_num_threads(threads)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    model.eval()


def _quieten_branches(model: "torch.nn.Module") -> None:
    """Let residual blocks add little to their input: the last norm of a branch decides how much."""
    for block in model.modules():
        if hasattr(block, SHORTCUT):
            branch = [norm for name, norm in _norms(block) if not name.startswith(SHORTCUT)]
            if branch:
                branch[-1].weight.data.mul_(BRANCH_SHARE)


def _norms(model: "torch.nn.Module") -> list[tuple[str, Any]]:
    """Return the batch norms of a module by name."""
    import torch

    kind = torch.nn.modules.batchnorm._BatchNorm
    return [(name, one) for name, one in model.named_modules() if isinstance(one, kind)]


def _calibration_clips(protocol: InputProtocol) -> "torch.Tensor":
    """Return samples of one view: noise that is as coarse as frames are, and constants."""
    import torch

    view = dataclasses.replace(protocol, crop_count=1, clip_count=1, placement="segments")
    *outer, height, width = view.sample_shape
    generator = torch.Generator().manual_seed(SEED)
    small = max(1, height // COARSENESS), max(1, width // COARSENESS)
    coarse = torch.randn((*outer, *small), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse.flatten(0, -4), size=(height, width))
    noise = smooth.reshape(view.sample_shape) + torch.randn(view.sample_shape, generator=generator)
    return torch.stack([noise, *(torch.full_like(noise, value) for value in CONSTANTS)])
