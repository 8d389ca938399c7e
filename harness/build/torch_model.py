"""The reference: PyTorch models built from mmaction2's own configurations."""

import contextlib
import hashlib
import importlib
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.build.inference import prepare_for_test, scores_in_test
from harness.build.seeded_weights import SEED, calibrate, spread_constant_parameters
from harness.errors import CheckpointError, first_line
from harness.host.provenance import sha256_from_file
from harness.spec import Feed, ModelSpec
from harness.zoo.config import config_path

if TYPE_CHECKING:
    import torch

CHECKPOINT_BYTES = 8 << 30
# PyTorch takes what begins so for a ZIP archive.
ARCHIVE = b"PK\x03\x04"


def torch_model_from_spec(spec: ModelSpec, checkpoint: Path | None) -> "torch.nn.Module":
    """Build a model in evaluation mode whose ``forward`` is what the guide exports.

    Without a checkpoint its weights are seeded, the same on every machine.

    Raises:
        CheckpointError: the checkpoint is damaged, foreign or does not fit.
    """
    recognizer = recognizer_from_spec(spec)
    if checkpoint is None:
        spread_constant_parameters(recognizer)
    else:
        _load_checkpoint(recognizer, checkpoint)
    prepare_for_test(recognizer)
    model = _exportable(recognizer.eval().requires_grad_(False), spec.softmax_in_graph)
    if checkpoint is None and spec.calibrated:
        calibrate(model, spec)
    return model


def recognizer_from_spec(spec: ModelSpec) -> Any:
    """Build mmaction2's recognizer from its configuration and its initialisers, seeded."""
    import torch

    with quiet_mmaction():
        from mmaction.models import build_model

        from harness.build.narrow_tsm import register_narrow_tsm

        register_narrow_tsm()
        torch.manual_seed(SEED)
        # The constructor calls init_weights(), which adds the shifts and the non-local blocks;
        # a second call would wrap them twice.
        return build_model(_model_config(spec))


def run_torch(model: "torch.nn.Module", spec: ModelSpec, feed: Feed) -> Feed:
    """Run one batch in PyTorch, in the precision of the model's own parameters."""
    import torch

    dtype = next(model.parameters()).dtype
    # Samples may come from read-only memory, which torch does not accept.
    clips = [np.require(feed[one.name], requirements="W") for one in spec.inputs]
    with torch.no_grad():
        output = model(*(torch.from_numpy(one).to(dtype) for one in clips))
    return {spec.output.name: output.numpy()}


def digest_from_state(model: "torch.nn.Module") -> str:
    """Return the sha256 over the names, types, shapes and values of a model's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()


def _model_config(spec: ModelSpec) -> Any:
    import mmcv

    config = mmcv.Config.fromfile(str(config_path(spec.config)))
    config.merge_from_dict({"model": dict(spec.overrides)})
    return config.model


def _exportable(recognizer: Any, softmax: bool) -> "torch.nn.Module":
    import torch

    class Exportable(torch.nn.Module):  # type: ignore[misc]
        """The recognizer from its input tensor to scores, without labels and losses."""

        def __init__(self, recognizer: "torch.nn.Module") -> None:
            super().__init__()
            self.recognizer: Any = recognizer

        def forward(self, clips: "torch.Tensor") -> "torch.Tensor":
            scores = scores_in_test(self.recognizer, clips)
            return torch.softmax(scores, dim=1) if softmax else scores

    return Exportable(recognizer).eval()


def _load_checkpoint(model: Any, path: Path) -> None:
    expected, actual = model.state_dict(), state_dict_from_checkpoint(path)
    problems = [
        f"{title}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''} ({len(names)})"
        for title, names in _misfits(expected, actual).items()
        if names
    ]
    if problems:
        raise CheckpointError(
            f"checkpoint {path} does not fit the model: {'; '.join(problems)}; "
            "is it from another configuration?"
        )
    model.load_state_dict(actual)
    broken = [name for name, value in model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"checkpoint {path} has NaN or infinite values in {', '.join(broken[:5])} "
            f"({len(broken)}); its training broke, or the file is damaged: fetch it again"
        )


def _misfits(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> dict[str, list[str]]:
    """Name what does not fit by kind; nothing is computed, as a few bytes can claim any size."""
    both = sorted(expected.keys() & actual.keys())
    return {
        "missing keys": sorted(expected.keys() - actual.keys()),
        "unexpected keys": sorted(actual.keys() - expected.keys()),
        "wrong shapes": [
            f"{name} {tuple(actual[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in both
            if actual[name].shape != expected[name].shape
        ],
        "wrong types": [
            f"{name} {actual[name].dtype} instead of {expected[name].dtype}"
            for name in both
            if actual[name].is_floating_point() != expected[name].is_floating_point()
        ],
    }


def state_dict_from_checkpoint(path: Path) -> Mapping[str, Any]:
    """Read the weights of an OpenMMLab checkpoint, without running code from the file.

    Raises:
        CheckpointError: missing, truncated, its sha256 does not begin with the suffix of its name,
            or it holds something other than tensors.
    """
    import torch

    check_checkpoint_digest(path)
    _refuse_packed(path)
    try:
        with warnings.catch_warnings():
            # Ignore the warning about the pickle protocol; the load shows if the file is readable.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"checkpoint {path} was refused: {_refusal(error)}") from error
    # A damaged file can break its unpickler anywhere.
    except Exception as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {first_line(error)}; fetch it again"
        ) from error
    weights = content.get("state_dict", content) if isinstance(content, dict) else None
    if (
        not isinstance(weights, dict)
        or not weights
        or not all(isinstance(value, torch.Tensor) for value in weights.values())
    ):
        raise CheckpointError(f"checkpoint {path} holds no state dict of tensors")
    odd = {name: kind for name, value in weights.items() if (kind := _odd_kind(value))}
    if odd:
        name, kind = next(iter(odd.items()))
        raise CheckpointError(
            f"checkpoint {path} holds {len(odd)} tensors that are not plain numbers, such as {name}, "
            f"which is {kind}; ask its author for a plain state dict"
        )
    return {str(name): value for name, value in weights.items()}


def _odd_kind(tensor: Any) -> str:
    """Return what keeps a tensor from being copied as it is; empty for plain ones."""
    import torch

    kinds = {
        "sparse": tensor.layout != torch.strided,
        "quantised": tensor.is_quantized,
        "complex": tensor.is_complex(),
        "nested": tensor.is_nested,
        "without values": tensor.is_meta,
    }
    return next((kind for kind, is_it in kinds.items() if is_it), "")


def _refuse_packed(path: Path) -> None:
    """Refuse an archive that unpacks to more than its file holds; PyTorch does not compress.

    Refuse one, too, that Python cannot list, as PyTorch might still unpack it.
    """
    with path.open("rb") as file:
        if file.read(len(ARCHIVE)) != ARCHIVE:
            return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked_bytes = sum(member.file_size for member in archive.infolist())
    # A damaged list can break its reader anywhere.
    except Exception as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {first_line(error)}; fetch it again"
        ) from error
    if unpacked_bytes > path.stat().st_size:
        raise CheckpointError(
            f"checkpoint {path} is refused: it unpacks to {unpacked_bytes} bytes, more than the "
            "file has; torch.save does not compress"
        )


def _refusal(error: pickle.UnpicklingError) -> str:
    # torch wraps the reason in advice on how to load the file anyway; keep only the reason.
    reason = first_line(error.__context__ or error)
    if re.search("global|class|function", reason, re.IGNORECASE):
        return (
            "it holds objects other than tensors, and loading them could run code "
            f"({reason}); ask its author for a plain state dict"
        )
    return f"it is not a PyTorch checkpoint, or a damaged one ({reason}); fetch it again"


def check_checkpoint_digest(path: Path) -> str:
    """Return the sha256 of a checkpoint after comparing it with the suffix of its name.

    OpenMMLab names a checkpoint ``<model>-<first eight hex digits of its sha256>.pth``.

    Raises:
        CheckpointError: the file is missing, or its digest differs.
    """
    try:
        digest = sha256_from_file(path, CHECKPOINT_BYTES)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    suffix = path.stem.rsplit("-", 1)[-1]
    if len(suffix) < 8 or not digest.startswith(suffix):
        raise CheckpointError(
            f"checkpoint {path} is damaged or renamed: its name promises a sha256 that begins with "
            f"{suffix!r}, but it is {digest[:16]}…; fetch it again"
        )
    return digest


@contextlib.contextmanager
def quiet_mmaction() -> Iterator[None]:
    """Let mmcv and mmaction2 import and build without deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _import_torchvision()
        yield


def _import_torchvision() -> None:
    """Let ``import torchvision`` work with a torch that its compiled part was not built for.

    PyPI has no CPU build of torchvision; with a CPU build of torch its compiled part does not
    load, and the import then fails because two operators are unknown. Declaring them, without
    an implementation, is enough: no model here calls them.
    """
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", schema)
        importlib.import_module("torchvision")
