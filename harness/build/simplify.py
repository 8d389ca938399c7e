"""OnnxModel -> simplified OnnxModel with onnxsim, followed by our own numerical check."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.build.onnx_export import onnx_facts, onnx_problems
from harness.errors import InvalidMeasurement, SimplifyError, first_line
from harness.measure.scores import scores_from_output
from harness.runtimes.ort.session import ort_errors, ort_session
from harness.spec import Feed, ModelSpec

# This is not the verdict, which the parity check gives on many inputs: a wrongly folded node
# is off by far more, and a fused batch normalisation only rounds differently.
MAX_RELATIVE_L2 = 1e-4
SEED = 20231215


def write_simplified(spec: ModelSpec, batch: int, source: Path, target: Path) -> dict[str, Any]:
    """Simplify an exported file and return facts for its provenance.

    Raises:
        SimplifyError: onnxsim failed, the result is not as declared, or its outputs differ.
        InvalidMeasurement: the exported file gives nothing to compare with.
    """
    _simplify(source, target)
    problems = onnx_problems(target, *spec.tensors_of_file(batch), spec.opset)
    if problems:
        raise SimplifyError(f"onnxsim spoilt {spec.name} at batch {batch}: {'; '.join(problems)}")
    batches = spec.gears or (batch,)
    relative_l2 = float(np.max([_relative_l2(spec, one, source, target) for one in batches]))
    if not relative_l2 <= MAX_RELATIVE_L2:
        raise SimplifyError(
            f"onnxsim changed what {spec.name} computes at batch {batch}: relative L2 error "
            f"{relative_l2:.2g} on seeded noise, rounding explains at most {MAX_RELATIVE_L2:g}"
        )
    return {**onnx_facts(target), "relative_l2_to_exported": relative_l2}


def _simplify(source: Path, target: Path) -> None:
    import onnx
    import onnxsim
    from google.protobuf.message import DecodeError

    try:
        # onnxsim's check compares a few random inputs at fixed tolerances and is known for false
        # alarms; our check follows, and then the parity check.
        model, _ = onnxsim.simplify(str(source), check_n=0)
        onnx.save(model, target)
    except (RuntimeError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise SimplifyError(f"onnxsim refused {source}: {first_line(error)}") from error


def _relative_l2(spec: ModelSpec, batch: int, source: Path, target: Path) -> float:
    rng, inputs = np.random.default_rng(SEED), spec.batched_inputs(batch)
    feed = {one.name: rng.standard_normal(one.shape).astype(np.float32) for one in inputs}
    with np.errstate(invalid="ignore"):
        expected, actual = _centred_scores(spec, source, feed), _centred_scores(spec, target, feed)
        scale = float(np.linalg.norm(expected))
        if not 0.0 < scale < math.inf:
            raise InvalidMeasurement(
                f"{spec.name} scores every class of seeded noise alike, or gives NaN or Inf, before "
                "it is simplified: nothing to compare with; look for NaN in the weights, and at the last "
                "operators of the exported model"
            )
        return float(np.linalg.norm(actual - expected)) / scale


def _centred_scores(spec: ModelSpec, path: Path, feed: Feed) -> npt.NDArray[np.float64]:
    """Return the logits minus their mean over the classes.

    A model that scores all classes nearly the same, as a seeded one does, would hide an error in
    its logits behind their mean, and all the more behind its softmax.
    """
    try:
        output = ort_session(path).run(None, dict(feed))[0]
    except ort_errors() as error:
        raise SimplifyError(
            f"{spec.name}: ONNX Runtime cannot run {path}: {first_line(error)}"
        ) from error
    scores = scores_from_output(output.astype(np.float64), spec.softmax_in_graph)
    centred: npt.NDArray[np.float64] = scores - scores.mean(axis=-1, keepdims=True)
    return centred
