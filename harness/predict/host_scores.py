"""Scores of an ONNX file on the host: a link of the parity chain, computed once, kept by digest."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.build.build import Workshop
from harness.host.digests import plain_fields
from harness.host.environment import rounding_facts
from harness.host.patience import patiently
from harness.host.provenance import code_digest, package_versions
from harness.host.reading import arrays_from_npz
from harness.measure import scores
from harness.predict import run
from harness.predict.parity_inputs import ParityInputs
from harness.predict.run import run_tensors
from harness.record.npz import npz_from_arrays
from harness.runtimes.ort import session as loaded
from harness.runtimes.ort.session import OrtSession, unoptimised_session
from harness.spec import OnnxModel


def onnx_scores(
    model: OnnxModel, inputs: ParityInputs, workshop: Workshop
) -> npt.NDArray[np.float64]:
    """Return the scores [input x crop, class] of an ONNX file, which all devices and nights share.

    It runs without optimisation, so that each edge of the chain shows the effect of its own stage.

    Raises:
        RunError: ONNX Runtime cannot load or run it, or hangs.
    """
    spec, path = model.spec, model.artifact.path

    def build(target: Path) -> dict[str, object]:
        with patiently(f"loading {path}") as call:
            session = OrtSession(call(unoptimised_session, path), path)
        title = f"onnx {spec.name} batch {model.batch} on the host"
        count = workshop.progress.counter(title, len(inputs.tensors))
        rows = run_tensors(session.run_many, spec, model.batch, inputs.tensors, progress=count)
        target.write_bytes(npz_from_arrays(scores=rows))
        return {"inputs": len(inputs.tensors)}

    shaped_by = {
        "model": model.artifact.sha256,
        "batch": model.batch,
        "spec": plain_fields(spec),
        "tensors": inputs.digest,
        "versions": package_versions("onnxruntime", "numpy"),
        "code": code_digest(loaded, run, scores),
        "machine": rounding_facts(),
    }
    artifact = workshop.store.get_or_build(
        f"{model.artifact.kind}-scores", f"{spec.name}.npz", shaped_by, build
    )
    return np.asarray(arrays_from_npz(artifact.path)["scores"], np.float64)
