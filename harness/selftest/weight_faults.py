"""Faults of the weights: in the checkpoint on disk, and in what the exporter was given."""

import contextlib
import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np

import harness.models.nonlocal_tiny as tiny
from harness.build import torch_model
from harness.selftest.faults import MODEL, Fault, Plant, fault_of_run
from harness.selftest.graph_changes import first_channel, weights
from harness.selftest.graph_faults import FIRST_CONV, stage_leaves
from harness.selftest.setting import Setting

# A weight by its name -> the changed weight; both are tensors of PyTorch.
ChangeTensor = Callable[[str, Any], Any]


def other_checkpoint(change: ChangeTensor) -> Plant:
    """Return what puts another checkpoint in place of the model's, under its own digest."""

    @contextlib.contextmanager
    def plant(setting: Setting) -> Iterator[None]:
        import torch

        path = setting.bench().weights(MODEL).path
        assert path is not None
        state = torch_model.state_dict_from_checkpoint(path)
        buffer = io.BytesIO()
        torch.save({name: change(name, one.clone()) for name, one in state.items()}, buffer)
        content = buffer.getvalue()
        name = f"nonlocal_tiny_motion8-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        (setting.folder / name).write_bytes(content)
        setting.site += f'checkpoints = ["{setting.folder}"]\n'
        with patch.object(tiny, "SPEC", dataclasses.replace(tiny.SPEC, checkpoint=name)):
            yield

    return plant


def _only(end: str, change: Callable[[Any], Any]) -> ChangeTensor:
    return lambda name, one: change(one) if name.endswith(end) else one


def _floats(change: Callable[[Any], Any]) -> ChangeTensor:
    return lambda _, one: change(one) if one.is_floating_point() else one


def _nudged(one: Any) -> Any:
    """A step of training away: every weight by a thousandth of its spread."""
    import torch

    generator = torch.Generator().manual_seed(1)
    spread = one.std() if one.numel() > 1 else one.abs()
    return one + 1e-3 * spread * torch.randn(one.shape, generator=generator)


def _shuffled(one: Any) -> Any:
    """Weights of another seed: the same numbers in other places."""
    import torch

    order = torch.randperm(one.numel(), generator=torch.Generator().manual_seed(2))
    return one.flatten()[order].reshape(one.shape)


# On disk, under a name that fits: the contract's digest finds each.
_CHECKPOINTS: tuple[tuple[str, ChangeTensor], ...] = (
    ("one channel 1.1 times as large", _only(FIRST_CONV, first_channel(1.1))),
    ("one layer zero", _only("layer2.1.conv2.conv.weight", lambda one: one * 0)),
    ("running mean of a BatchNorm", _only("layer1.0.conv1.bn.running_mean", lambda one: one + 0.1)),
    ("a step of training earlier", _floats(_nudged)),
    ("another seed", _only("fc_cls.weight", _shuffled)),
    ("cut to half precision", _floats(lambda one: one.half().to(one.dtype))),
    ("an overflow of half precision", _floats(lambda one: one * 1e6)),
)
# What the exporter was given in place of PyTorch's weights.
_EXPORTED: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("one channel 1.1 times as large", FIRST_CONV, first_channel(1.1)),
    ("one layer zero", "layer2.1.conv2.conv.weight", lambda w: w * 0),
    ("running mean of a BatchNorm", "layer1.0.conv1.bn.running_mean", lambda w: w + 0.1),
    ("running variance of every BatchNorm", "running_var", lambda w: w * 1.1),
    ("a step of training earlier", ".weight", lambda w: w * 1.001),
    ("classes in another order", "fc_cls.weight", lambda w: np.roll(w, 1, axis=0)),
    ("cut to half precision", ".weight", lambda w: w.astype(np.float16)),
)


def weight_faults() -> Iterable[Fault]:
    """Return the faults of weights."""
    words = f"invalid: the checkpoint of {MODEL} is not the contract's"
    for name, change in _CHECKPOINTS:
        yield fault_of_run("checkpoint", name, "export", words, other_checkpoint(change))
    for name, end, values in _EXPORTED:
        plant = stage_leaves("onnx", weights(end, values))
        yield fault_of_run("exported weights", name, "parity", "torch_to_onnx", plant)
