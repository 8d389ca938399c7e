"""Where a model comes from: PyTorch with a configuration and weights, or an ONNX file and nothing else.

A source gives the ONNX file of a batch size, and the scores that everything after it is compared with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.build import (
    exact_graph,
    inference,
    multiply_adds,
    narrow_tsm,
    onnx_export,
    onnx_file,
    seeded_weights,
    torch_model,
)
from harness.errors import ExportError, InputError
from harness.host.digests import digest_from_json
from harness.host.provenance import code_digest, package_versions, sha256_from_file
from harness.spec import ONNX_FILE, Feed, ModelSpec
from harness.zoo.config import config_from_file, config_path, mmaction2_folder

if TYPE_CHECKING:
    import torch

Shape = Mapping[str, object]


class OpenModel(Protocol):
    """A model as its source computes it, on this host."""

    def run(self, feed: Feed) -> Feed:
        """Run a batch of any size in float32.

        Raises:
            RunError: it cannot be run.
        """
        ...

    def run_exactly(self, feed: Feed) -> Feed:
        """Run a batch of any size in float64.

        Raises:
            InexactError: it cannot be computed in float64.
        """
        ...

    def digest(self) -> str:
        """Return the sha256 of the weights."""
        ...


class Source(Protocol):
    """A kind of origin that a model can have."""

    def export(self, spec: ModelSpec, batch: int, path: Path | None, target: Path) -> Shape:
        """Write the ONNX file for one batch size and return facts for its provenance.

        ``path`` is the model's checkpoint or its file; None: seeded weights.

        Raises:
            CheckpointError: the weights do not fit the model.
            ExportError: it cannot be written as declared.
        """
        ...

    def open(self, spec: ModelSpec, path: Path | None, threads: int | None = None) -> OpenModel:
        """Load the model; ``threads`` is how many compute, by default one per processor.

        Raises:
            CheckpointError: the weights do not fit the model.
            RunError: it cannot be loaded.
        """
        ...

    def export_shaped_by(self, spec: ModelSpec) -> Shape:
        """Return what shapes the ONNX file, besides the declaration and the weights."""
        ...

    def scores_shaped_by(self, spec: ModelSpec) -> Shape:
        """Return the same of the scores."""
        ...


def source_of(spec: ModelSpec) -> Source:
    """Return where a model comes from."""
    return FromFile() if spec.reference == ONNX_FILE else FromTorch()


class OpenTorch(OpenModel):
    """A PyTorch model, whose parameters are in one precision at a time."""

    def __init__(self, model: "torch.nn.Module", spec: ModelSpec) -> None:
        self._model, self._spec, self._is_exact = model, spec, False

    def run(self, feed: Feed) -> Feed:
        """Run a batch in float32."""
        return torch_model.run_torch(self._in(is_exact=False), self._spec, feed)

    def run_exactly(self, feed: Feed) -> Feed:
        """Run a batch in float64."""
        return torch_model.run_torch(self._in(is_exact=True), self._spec, feed)

    def digest(self) -> str:
        """Return the sha256 of its state."""
        return torch_model.digest_from_state(self._in(is_exact=False))

    def _in(self, *, is_exact: bool) -> "torch.nn.Module":
        # A conversion walks over all parameters, which a timed query must not.
        if is_exact != self._is_exact:
            self._model = self._model.double() if is_exact else self._model.float()
            self._is_exact = is_exact
        return self._model


class FromTorch(Source):
    """A configuration of mmaction2 and a checkpoint, or seeded weights."""

    def export(self, spec: ModelSpec, batch: int, path: Path | None, target: Path) -> Shape:
        """Trace the model."""
        return onnx_export.write_onnx(spec, batch, path, target)

    def open(self, spec: ModelSpec, path: Path | None, threads: int | None = None) -> OpenTorch:
        """Build the model and load its weights."""
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        return OpenTorch(torch_model.torch_model_from_spec(spec, path), spec)

    def export_shaped_by(self, spec: ModelSpec) -> Shape:
        """Return the configuration, the packages and the code of the exporter."""
        return {
            "config": _config_digest(spec),
            "versions": package_versions("torch", "mmaction2", "mmcv-full", "onnx"),
            "code": code_digest(
                *(onnx_export, torch_model, narrow_tsm, inference, seeded_weights, multiply_adds)
            ),
        }

    def scores_shaped_by(self, spec: ModelSpec) -> Shape:
        """Return the packages and the code of the model."""
        return {
            "versions": package_versions("torch", "mmaction2", "mmcv-full", "numpy"),
            "code": code_digest(torch_model, narrow_tsm, inference, seeded_weights),
        }


class FromFile(Source):
    """An ONNX file, which is its own reference."""

    def export(self, spec: ModelSpec, batch: int, path: Path | None, target: Path) -> Shape:
        """Fix the file's batch size, sizes and opset as declared."""
        return onnx_file.write_for_batch(spec, batch, _there(path), target)

    def open(
        self, spec: ModelSpec, path: Path | None, threads: int | None = None
    ) -> onnx_file.OpenFile:
        """Load the file as it is, without optimisation."""
        return onnx_file.OpenFile(spec, _there(path), threads)

    def export_shaped_by(self, spec: ModelSpec) -> Shape:
        """Return the packages and the code that fix the file."""
        return {"versions": package_versions("onnx"), "code": code_digest(onnx_file, onnx_export)}

    def scores_shaped_by(self, spec: ModelSpec) -> Shape:
        """Return the packages and the code that run the file."""
        return {
            "versions": package_versions("onnx", "onnxruntime", "numpy", "torch"),
            "code": code_digest(onnx_file, exact_graph),
        }


def _there(path: Path | None) -> Path:
    if path is None:
        raise ExportError("a model that exists only as an ONNX file has no seeded weights")
    return path


def _config_digest(spec: ModelSpec) -> str:
    """Digest the configuration; mmaction2's version covers its own base files."""
    try:
        folder, path = mmaction2_folder(), config_path(spec.config)
    except InputError as error:
        raise ExportError(str(error)) from error
    if path.is_relative_to(folder):
        return sha256_from_file(path)
    return digest_from_json([sha256_from_file(file) for file in config_from_file(path).files])
