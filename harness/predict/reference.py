"""PyTorch's scores: the reference for parity and accuracy, computed once and kept by digest."""

import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.build.build import WeightsFile, Workshop
from harness.build.exact_graph import InexactError
from harness.build.source import OpenModel, source_of
from harness.clips import Clip, ClipSet, Predictions, Sample
from harness.data import loading, rawframes, sampling, skipping, transforms, video, whole
from harness.data.loading import sample_from_clip
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.errors import InvalidMeasurement, RunError
from harness.host.child_process import keep_freed_memory
from harness.host.digests import digest_from_json, plain_fields
from harness.host.environment import rounding_facts
from harness.host.patience import HANG_S, going_on
from harness.host.provenance import code_digest, package_versions
from harness.host.reading import arrays_from_npz
from harness.measure import scores
from harness.predict.exact_scores import MAX_RELATIVE_L2, shipped_scores
from harness.predict.journal import Journal, Work, journal_at, journal_path, predict_resumed
from harness.predict.parity_inputs import ParityInputs
from harness.predict.run import run_tensors, stream_from_runner
from harness.predict.shards import merged
from harness.record.npz import npz_from_predictions, predictions_from_npz
from harness.spec import ONNX_FILE, Feed, ModelSpec

Scores = npt.NDArray[np.float64]
REFERENCE_BATCH = 8
# An input in both precisions takes seconds, and minutes where the host is busy.
INPUTS_A_LIMIT = 3.0
# Relative L2; parity allows no more between any two stages in float32.
MAX_ROUNDING = 1e-4


@dataclasses.dataclass(frozen=True)
class ReferenceScores:
    """Scores [input x crop, class] of PyTorch in float32, the reference, and in float64."""

    fp32: npt.NDArray[np.float64]
    fp64: npt.NDArray[np.float64]


def reference_scores(
    spec: ModelSpec, weights: WeightsFile, inputs: ParityInputs, workshop: Workshop
) -> ReferenceScores:
    """Run PyTorch on the parity inputs, one at a time, in both precisions.

    The float64 scores that ship with the suite are used if they match.

    Raises:
        InvalidMeasurement: PyTorch's scores cannot serve as a reference: they are not finite, are
            all the same, or differ from run to run.
    """
    title, words = f"{_title(spec)} fp32 and fp64 {spec.name}", (spec, weights.path, inputs)
    limit_s = HANG_S * (1.0 + len(inputs.tensors) / INPUTS_A_LIMIT)
    artifact = workshop.store.get_or_build(
        "reference-scores",
        f"{spec.name}.npz",
        {**_inputs(spec, weights), "tensors": inputs.digest},
        lambda target: workshop.run(
            title, RunError, write_reference_scores, *words, target, timeout_s=limit_s
        ),
    )
    arrays = arrays_from_npz(artifact.path)
    found = ReferenceScores(arrays["fp32"], arrays["fp64"])
    problem = _problem(found, arrays["again"])
    if problem is None:
        return found
    problem = f"{spec.reference} {problem}"
    advice = f"check {spec.checkpoint}" if weights.path else "set calibrated=True in its SPEC"
    raise InvalidMeasurement(
        f"{spec.name} cannot serve as a reference: {problem}; {advice}, and look for a layer that "
        "draws random numbers"
    )


def _problem(found: ReferenceScores, again: npt.NDArray[np.float64]) -> str | None:
    """Say why the scores cannot serve as a reference, or return None."""
    broken = scores.nonfinite_count(found.fp32) + scores.nonfinite_count(found.fp64)
    if broken:
        return f"gives NaN or Inf in {broken} of {2 * found.fp32.size} scores"
    first = found.fp32[: len(again)]
    if not np.linalg.norm(again - first) <= MAX_RELATIVE_L2 * np.linalg.norm(first):
        return "gives other scores when it runs the same input again"
    if scores.is_constant(found.fp32):
        return "gives the same scores for every input or class"
    return None


def reference_predictions(
    spec: ModelSpec,
    weights: WeightsFile,
    clip_set: ClipSet,
    workshop: Workshop,
    whole: ClipSet | None = None,
) -> Predictions:
    """Run PyTorch in float32 on a clip set; results of a killed run are kept.

    A clip that was unreadable then but is readable now gets predicted now: a disk that was missing
    one night must not spoil the reference for every later night. Decoded clips are kept under the
    name of the whole set that ``clip_set`` is part of.
    """
    whole = whole or clip_set
    preds = _kept_predictions(spec, weights, (clip_set, whole), workshop)
    back = [clip for clip in clip_set.clips if clip.id in preds.unreadable and _reads(clip, spec)]
    if not back:
        return preds
    digest = digest_from_json({"of": clip_set.digest, "read later": [clip.id for clip in back]})
    rest = dataclasses.replace(clip_set, clips=tuple(back), digest=digest)
    later = reference_predictions(spec, weights, rest, workshop, whole)
    returned = {clip.id for clip in back}
    still = {name: why for name, why in preds.unreadable.items() if name not in returned}
    return merged([dataclasses.replace(preds, unreadable=still), later], clip_set)


def _kept_predictions(
    spec: ModelSpec, weights: WeightsFile, clips: tuple[ClipSet, ClipSet], workshop: Workshop
) -> Predictions:
    clip_set, whole = clips
    inputs = {
        **_inputs(spec, weights),
        "clips": clip_set.digest,
        "decoding": _decoding_inputs(),
    }

    def build(target: Path) -> dict[str, Any]:
        title, total = f"{_title(spec)} predictions {spec.name}", len(clip_set.clips)
        path = journal_path(workshop.store.root / "partial", inputs, clip_set.clips)
        journal = Journal(path, spec, clip_set.clips)
        count = workshop.progress.counter(title, total)

        def done() -> int:
            count(finished := journal.count())
            return finished

        facts = workshop.run(
            title,
            RunError,
            write_reference_predictions,
            *(spec, weights.path, clip_set, (workshop.store.root, inputs, whole), target),
            heartbeat=going_on(title, done),
            timeout_s=None,
        )
        count(total)
        return facts

    artifact = workshop.store.get_or_build(
        "reference-predictions", f"{spec.name}.npz", inputs, build
    )
    return predictions_from_npz(artifact.path)


def write_reference_scores(
    spec: ModelSpec,
    checkpoint: Path | None,
    inputs: ParityInputs,
    target: Path,
    *,
    is_recomputed: bool = False,
) -> dict[str, Any]:
    """Compute the scores of both precisions; runs in its own process.

    ``is_recomputed`` forces the computation of float64, to make the file that ships.
    """
    keep_freed_memory()
    model = source_of(spec).open(spec, checkpoint)
    weights = model.digest()
    fp32 = _scores(model.run, spec, inputs)
    first = dataclasses.replace(inputs, ids=inputs.ids[:1], tensors=inputs.tensors[:1])
    again = _scores(model.run, spec, first)
    shipped = None if is_recomputed else shipped_scores(spec.name, weights, inputs.digest, fp32)
    fp64, origin = (
        (shipped, "shipped") if shipped is not None else _exact(model, spec, inputs, fp32)
    )
    with target.open("wb") as file:
        np.savez(file, fp32=fp32, fp64=fp64, again=again, weights=weights, inputs=inputs.digest)
    return {"inputs": len(inputs.tensors), "fp64": origin}


def _exact(
    model: OpenModel, spec: ModelSpec, inputs: ParityInputs, fp32: Scores
) -> tuple[Scores, str]:
    """Return the scores in float64 where they can be computed, else those in float32, and which."""
    try:
        fp64 = _scores(model.run_exactly, spec, inputs)
        if spec.reference == ONNX_FILE:
            _refuse_wrong(fp64, fp32)
    except InexactError as error:
        return fp32, f"float32 in its place: {error}"
    return fp64, "computed"


def _refuse_wrong(fp64: Scores, fp32: Scores) -> None:
    """Fail where float64 is another model: ONNX's own reference errs in rare operators."""
    distance = np.linalg.norm(fp64 - fp32) / np.linalg.norm(fp32)
    if distance > MAX_ROUNDING:
        raise InexactError(
            f"ONNX's reference is {distance:.1e} from ONNX Runtime, rounding explains {MAX_ROUNDING:g}"
        )


def _scores(run: Callable[[Feed], Feed], spec: ModelSpec, inputs: ParityInputs) -> Scores:
    return run_tensors(stream_from_runner(run), spec, 1, inputs.tensors)


def _title(spec: ModelSpec) -> str:
    return spec.reference.lower().removeprefix("the ")


def write_reference_predictions(
    spec: ModelSpec,
    checkpoint: Path | None,
    clip_set: ClipSet,
    kept: tuple[Path, Mapping[str, object], ClipSet],
    target: Path,
) -> dict[str, Any]:
    """Compute the predictions; runs in its own process.

    ``kept`` is the cache of decoded clips and predictions, the key of the predictions, and the set
    under whose name decoded clips are kept.
    """
    keep_freed_memory()
    stream = stream_from_runner(source_of(spec).open(spec, checkpoint).run)
    cache, inputs, whole = kept
    crops = CropStore(cache / "crops", spec.protocol, whole)
    stopped = threading.Event()
    samples = functools.partial(stored_samples, crops, batch=REFERENCE_BATCH, stopped=stopped)
    with journal_at(cache / "partial", inputs, spec, clip_set.clips) as journal:
        work = Work(clip_set.clips, samples, journal, stopped.set)
        preds = predict_resumed(stream, spec, REFERENCE_BATCH, work)
    target.write_bytes(npz_from_predictions(preds))
    return {"clips": len(preds.clip_ids), "unreadable": len(preds.unreadable)}


def _reads(clip: Clip, spec: ModelSpec) -> bool:
    return isinstance(sample_from_clip(clip, spec.protocol), Sample)


def _inputs(spec: ModelSpec, weights: WeightsFile) -> dict[str, object]:
    return {
        "model": plain_fields(spec),
        "weights": weights.digest,
        "scores": code_digest(scores),
        **source_of(spec).scores_shaped_by(spec),
        # Float sums depend on the processor's instructions.
        "machine": rounding_facts(),
    }


def _decoding_inputs() -> dict[str, object]:
    """Return everything that affects the path from clip to tensor."""
    return {
        "versions": package_versions(*video.decoders()),
        "code": code_digest(loading, rawframes, sampling, skipping, transforms, video, whole),
    }
