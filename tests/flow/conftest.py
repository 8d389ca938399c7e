"""A narrow model of the Nonlocal family with weights that were fitted to a few motion8 clips."""

import dataclasses
import hashlib
import io

import pytest

from harness.artifacts import ArtifactStore
from harness.build import Workshop
from harness.datasets import motion8
from harness.errors import HarnessError
from harness.progress import Progress
from harness.registry import model_spec
from harness.spec import TensorSpec
from harness.stages import StageCost

CLIPS = 16


def run_here(function, *args, heartbeat=None, timeout_s=None, log=None, failure=None):
    """Stand in for ``run_in_child`` where the child is not the point."""
    if heartbeat is not None:
        heartbeat(0.0)
    try:
        return function(*args), StageCost(0.25, 4096)
    except (HarnessError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise failure(f"it raised {error!r}") from error


@pytest.fixture
def in_process(monkeypatch):
    """Run stages in this process."""
    monkeypatch.setattr("harness.build.run_in_child", run_here)
    monkeypatch.setattr("harness.checks.run_in_child", run_here)


@pytest.fixture
def workshop(tmp_path):
    """An empty store in which stages run."""
    return Workshop(ArtifactStore(tmp_path / "cache"), tmp_path / "logs", Progress().heartbeat)


@pytest.fixture(scope="session")
def narrow_spec():
    """The architecture of nonlocal_tiny at 32 x 32 and 4 channels, under its name."""
    tiny = model_spec("nonlocal_tiny")
    return dataclasses.replace(
        tiny,
        overrides={
            "backbone": {"type": "NarrowResNetTSM", "base_channels": 4, "pretrained": None},
            "cls_head": {"num_classes": 8, "in_channels": 128},
        },
        input=TensorSpec("video", (1, 8, 3, 32, 32)),
        protocol=dataclasses.replace(tiny.protocol, short_side=36, crop_size=32),
    )


@pytest.fixture(scope="session")
def clip_set():
    """The first clips of motion8."""
    whole = motion8()
    return dataclasses.replace(whole, clips=whole.clips[:CLIPS], digest="the-first-sixteen")


@pytest.fixture(scope="session")
def fitted(torch, narrow_spec, clip_set, tmp_path_factory):
    """The narrow model's SPEC and its weights: seeded, with a head that knows the clips."""
    path = tmp_path_factory.mktemp("checkpoints") / "narrow.pth"
    content = fitted_checkpoint(torch, narrow_spec, clip_set)
    path = path.with_name(f"narrow-{hashlib.sha256(content).hexdigest()[:8]}.pth")
    path.write_bytes(content)
    return dataclasses.replace(narrow_spec, checkpoint=path.name), path


def fitted_checkpoint(torch, spec, clip_set):
    """Fit the last layer to the clips by least squares and return the file's content."""
    from harness.data.loading import samples
    from harness.pytorch import torch_model_from_spec

    recognizer = torch_model_from_spec(spec, None).recognizer
    head, features = recognizer.cls_head.fc_cls, []
    hook = head.register_forward_hook(lambda _, inputs, __: features.append(inputs[0].mean(dim=0)))
    with torch.no_grad():
        for sample in samples(clip_set.clips, spec.protocol):
            recognizer.forward_dummy(torch.from_numpy(sample.tensor.reshape(spec.input.shape)))
    hook.remove()
    table = torch.stack(features).double()
    centre = table.mean(dim=0)
    wanted = torch.full((len(clip_set.clips), spec.class_count), -1.0, dtype=torch.float64)
    wanted[range(len(clip_set.clips)), [clip.label for clip in clip_set.clips]] = 3.0
    weight = torch.linalg.pinv(table - centre, rtol=1e-3) @ wanted
    head.weight.data.copy_(weight.T)
    head.bias.data.copy_(-(centre @ weight))
    buffer = io.BytesIO()
    torch.save(recognizer.state_dict(), buffer)
    return buffer.getvalue()
