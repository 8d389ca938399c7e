"""ModelSpec -> OnnxModel -> simplified OnnxModel -> DeviceModel, each kept in the artifact store.

The key of an artifact is the digest of everything that affects it: weights, configuration, batch,
opset, package versions, the code of the stage, and for a device model the machine that builds it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.build import seeded_weights, simplify, torch_model
from harness.build.source import source_of
from harness.device import Device
from harness.errors import BuildError, ExportError, MissingInput, SimplifyError, StageError
from harness.host.artifacts import ArtifactStore, Build
from harness.host.child_process import run_in_child
from harness.host.digests import plain_fields
from harness.host.patience import HANG_S
from harness.host.progress import Heartbeat, Progress
from harness.host.provenance import code_digest, package_versions
from harness.host.site import FIXTURES, Site, find_checkpoint
from harness.spec import ONNX_FILE, DeviceModel, ModelSpec, OnnxModel, Weights

# The largest export takes a minute, and many times that on a busy host.
STAGE_LIMIT_S = 4.0 * HANG_S


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """The weights of a model: a checkpoint, or seeded weights, which have no file."""

    kind: Weights
    digest: str
    path: Path | None = None


@dataclasses.dataclass(frozen=True)
class Workshop:
    """Where stages keep their artifacts and logs, and how they report progress."""

    store: ArtifactStore
    log_dir: Path
    progress: Progress

    def run(
        self,
        title: str,
        failure: type[StageError],
        function: Callable[..., Any],
        *args: Any,
        heartbeat: Heartbeat | None = None,
        timeout_s: float | None = STAGE_LIMIT_S,
    ) -> dict[str, Any]:
        """Run a stage in its own process and add its time and memory to its facts.

        It is killed after ``timeout_s``, if that is not None.
        """
        self.log_dir.mkdir(parents=True, exist_ok=True)
        facts, cost = run_in_child(
            function,
            *args,
            heartbeat=heartbeat or self.progress.heartbeat(title),
            timeout_s=timeout_s,
            log=self.log_dir / f"{title.replace(' ', '-')}.log",
            failure=failure,
        )
        return {**facts, "seconds": cost.seconds, "peak_bytes": cost.peak_bytes}

    def stage(
        self, title: str, failure: type[StageError], function: Callable[..., Any], *args: Any
    ) -> Build:
        """Return what builds an artifact: a stage that gets its path as the last argument."""
        return lambda target: self.run(title, failure, function, *args, target)


def weights_from_site(spec: ModelSpec, site: Site) -> WeightsFile:
    """Find the checkpoint of a model and check its digest; without one, use seeded weights.

    Raises:
        CheckpointError: the file is damaged or renamed.
        MissingInput: the model is an ONNX file that is not here.
    """
    path = find_checkpoint(site, spec.checkpoint, FIXTURES / "checkpoints")
    if path is None and spec.reference == ONNX_FILE:
        raise MissingInput(
            f"{spec.checkpoint} is not on this machine, and {spec.name} exists only as that file; put "
            "it into a folder that site.toml names in checkpoints"
        )
    if path is None:
        return WeightsFile("seeded", f"seed:{seeded_weights.SEED}")
    return WeightsFile("checkpoint", torch_model.check_checkpoint_digest(path), path)


def onnx_from_source(
    spec: ModelSpec, batch: int, weights: WeightsFile, workshop: Workshop
) -> OnnxModel:
    """Export a model for one batch size, or for all of its gears.

    Raises:
        CheckpointError: the weights do not fit the model.
        ExportError: the exporter failed.
        ArtifactError: the store cannot be written.
    """
    label, source = spec.label_of_file(batch), source_of(spec)
    inputs = {
        "model": plain_fields(spec),
        "batch": None if spec.gears else batch,
        "weights": weights.digest,
        **source.export_shaped_by(spec),
    }
    title, words = f"export {spec.name} {label}", (spec, batch, weights.path)
    build = workshop.stage(title, ExportError, source.export, *words)
    artifact = workshop.store.get_or_build("onnx", f"{spec.name}_{label}.onnx", inputs, build)
    return OnnxModel(spec, batch, weights.kind, artifact)


def simplified_from_onnx(onnx: OnnxModel, workshop: Workshop) -> OnnxModel:
    """Simplify an exported model.

    Raises:
        SimplifyError: onnxsim failed or changed what the model computes.
        ArtifactError: the store cannot be written.
    """
    spec, batch = onnx.spec, onnx.batch
    label = spec.label_of_file(batch)
    inputs = {
        "onnx": onnx.artifact.sha256,
        "versions": package_versions("onnxsim", "onnx", "onnxruntime"),
        "code": code_digest(simplify),
    }
    title, words = f"simplify {spec.name} {label}", (spec, batch, onnx.artifact.path)
    build = workshop.stage(title, SimplifyError, simplify.write_simplified, *words)
    filename = f"{spec.name}_{label}_sim.onnx"
    artifact = workshop.store.get_or_build("simplified", filename, inputs, build)
    return dataclasses.replace(onnx, artifact=artifact)


def device_model_from_onnx(
    onnx: OnnxModel, device: Device, facts: Mapping[str, str], workshop: Workshop
) -> DeviceModel:
    """Build the model that the device runs, of a simplified one.

    ``facts`` are those of the machine and its toolchain that affect the result.

    Raises:
        BuildError: the device's compiler rejected the model.
        ArtifactError: the store cannot be written.
    """
    name, label = device.spec.name, onnx.spec.label_of_file(onnx.batch)
    inputs = {
        "onnx": onnx.artifact.sha256,
        "device": name,
        "machine": dict(facts),
        **device.shaped_by(onnx),
    }
    title = f"build {onnx.spec.name} {label} {name}"

    def build(target: Path) -> dict[str, Any]:
        # It waits its turn, and atc has a limit that site.toml sets.
        return workshop.run(title, BuildError, device.build, onnx, target, timeout_s=None)

    filename = f"{onnx.spec.name}_{label}_{name}{device.model_suffix}"
    artifact = workshop.store.get_or_build("device", filename, inputs, build)
    return DeviceModel(onnx, name, artifact)
