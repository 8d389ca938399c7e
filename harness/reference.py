"""What PyTorch says: the reference of parity and accuracy, computed once and kept by digest."""

import dataclasses
import functools
import io
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import narrow_tsm, pytorch, scores
from harness.build import WeightsFile, Workshop, code_digest, package_versions
from harness.data import loading, rawframes, sampling, skipping, transforms, video
from harness.data.loading import sample_from_clip
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.environment import environment_facts
from harness.errors import ClipError, RunError
from harness.inputs import ParityInputs
from harness.resume import Journal, Work, journal_at, journal_path, predict_resumed
from harness.run import run_tensors, stream_from_runner
from harness.spec import Clip, ClipSet, ModelSpec, Predictions, Sample, digest_from_json
from harness.stages import keep_freed_memory

REFERENCE_BATCH = 8


@dataclasses.dataclass(frozen=True)
class TorchScores:
    """Scores [input x crop, class] of PyTorch in float32, the reference, and in float64."""

    fp32: npt.NDArray[np.float64]
    fp64: npt.NDArray[np.float64]


def torch_scores(
    spec: ModelSpec, weights: WeightsFile, inputs: ParityInputs, workshop: Workshop
) -> TorchScores:
    """Run PyTorch on the parity inputs, one at a time, in both precisions."""
    artifact = workshop.store.get_or_build(
        "torch-scores",
        f"{spec.name}.npz",
        {**_inputs(spec, weights), "tensors": inputs.digest},
        lambda target: workshop.run(
            f"pytorch fp32 and fp64 {spec.name}",
            RunError,
            write_torch_scores,
            *(spec, weights.path, inputs.tensors, target),
        ),
    )
    with np.load(artifact.path) as arrays:
        return TorchScores(arrays["fp32"], arrays["fp64"])


def torch_predictions(
    spec: ModelSpec,
    weights: WeightsFile,
    clip_set: ClipSet,
    workshop: Workshop,
    whole: ClipSet | None = None,
) -> Predictions:
    """Run PyTorch in float32 on a clip set; what a killed run did is kept.

    A clip that could not be read then and can be now is predicted now: a disk that was not there
    one night shall not spoil the reference of all others.

    Args:
        spec: the model.
        weights: of the model.
        clip_set: what it is run on.
        workshop: keeps the predictions.
        whole: the set that ``clip_set`` is part of, by which decoded clips are kept.
    """
    whole = whole or clip_set
    preds = _kept_predictions(spec, weights, (clip_set, whole), workshop)
    back = [clip for clip in clip_set.clips if clip.id in preds.unreadable and _reads(clip, spec)]
    if not back:
        return preds
    digest = digest_from_json({"of": clip_set.digest, "read later": [clip.id for clip in back]})
    rest = dataclasses.replace(clip_set, clips=tuple(back), digest=digest)
    later = torch_predictions(spec, weights, rest, workshop, whole)
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
        title, total = f"pytorch predictions {spec.name}", len(clip_set.clips)
        path = journal_path(workshop.store.root / "partial", inputs, clip_set.clips)
        journal = Journal(path, spec, clip_set.clips)
        count = workshop.progress.counter(title, total)
        facts = workshop.run(
            title,
            RunError,
            write_torch_predictions,
            *(spec, weights.path, clip_set, (workshop.store.root, inputs, whole), target),
            heartbeat=lambda _: count(journal.count()),
        )
        count(total)
        return facts

    artifact = workshop.store.get_or_build("torch-predictions", f"{spec.name}.npz", inputs, build)
    return predictions_from_npz(artifact.path)


def write_torch_scores(
    spec: ModelSpec,
    checkpoint: Path | None,
    tensors: Sequence[npt.NDArray[np.float32]],
    target: Path,
) -> dict[str, Any]:
    """Compute the scores of both precisions; runs in a process of its own."""
    keep_freed_memory()
    model = pytorch.torch_model_from_spec(spec, checkpoint)
    arrays = {}
    for name in ("fp32", "fp64"):
        model = model.double() if name == "fp64" else model
        stream = stream_from_runner(functools.partial(pytorch.run_torch, model, spec))
        arrays[name] = run_tensors(stream, spec, 1, tensors)
    with target.open("wb") as file:
        np.savez(file, **arrays)
    return {"inputs": len(tensors)}


def write_torch_predictions(
    spec: ModelSpec,
    checkpoint: Path | None,
    clip_set: ClipSet,
    kept: tuple[Path, Mapping[str, object], ClipSet],
    target: Path,
) -> dict[str, Any]:
    """Compute the predictions; runs in a process of its own.

    Args:
        spec: the model.
        checkpoint: its weights.
        clip_set: what it is run on.
        kept: the cache with what is decoded and predicted so far, what shapes the predictions, and
            the set by which decoded clips are kept.
        target: gets the predictions.
    """
    keep_freed_memory()
    model = pytorch.torch_model_from_spec(spec, checkpoint)
    stream = stream_from_runner(functools.partial(pytorch.run_torch, model, spec))
    cache, inputs, whole = kept
    crops = CropStore(cache / "crops", spec.protocol, whole)
    stopped = threading.Event()
    samples = functools.partial(stored_samples, crops, batch=REFERENCE_BATCH, stopped=stopped)
    with journal_at(cache / "partial", inputs, spec, clip_set.clips) as journal:
        work = Work(clip_set.clips, samples, journal, stopped.set)
        preds = predict_resumed(stream, spec, REFERENCE_BATCH, work)
    target.write_bytes(npz_from_predictions(preds))
    return {"clips": len(preds.clip_ids), "unreadable": len(preds.unreadable)}


def npz_from_arrays(**arrays: npt.NDArray[Any]) -> bytes:
    """Return arrays as one compressed file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def merged(shards: Sequence[Predictions], clip_set: ClipSet) -> Predictions:
    """Join the predictions of shards, in the order of the clip set.

    Raises:
        ClipError: together they are not the clip set: clips are missing, foreign or there twice.
    """
    ids = [name for shard in shards for name in (*shard.clip_ids, *shard.unreadable)]
    wanted = {clip.id for clip in clip_set.clips}
    for names, what in (
        (wanted - set(ids), "are in none of the shards"),
        (set(ids) - wanted, "are not in the data set"),
        ({name for name, count in Counter(ids).items() if count > 1}, "are in two shards"),
    ):
        if names:
            shown = ", ".join(sorted(names)[:5])
            raise ClipError(f"{len(names)} clips {what}: {shown}; name every shard once")
    shapes = {shard.scores.shape[1:] for shard in shards}
    if len(shapes) > 1:
        listed = ", ".join(str(list(shape)) for shape in sorted(shapes))
        raise ClipError(f"the shards have scores of {listed}: they are of different models")
    row = {name: row for row, name in enumerate(n for shard in shards for n in shard.clip_ids)}
    order = tuple(clip.id for clip in clip_set.clips if clip.id in row)
    scores = np.concatenate([shard.scores for shard in shards])
    unreadable = {name: why for shard in shards for name, why in shard.unreadable.items()}
    return Predictions(order, scores[np.array([row[name] for name in order], int)], unreadable)


def _reads(clip: Clip, spec: ModelSpec) -> bool:
    return isinstance(sample_from_clip(clip, spec.protocol), Sample)


def npz_from_predictions(preds: Predictions) -> bytes:
    """Return predictions as one compressed file."""
    return npz_from_arrays(
        clip_ids=np.array(preds.clip_ids, dtype=str),
        scores=preds.scores,
        unreadable_ids=np.array(list(preds.unreadable), dtype=str),
        unreadable_reasons=np.array(list(preds.unreadable.values()), dtype=str),
    )


def npz_from_labels(clip_set: ClipSet) -> bytes:
    """Return what predictions are scored against: clip ids, labels, classes, and of which set."""
    return npz_from_arrays(
        name=np.array(clip_set.name),
        digest=np.array(clip_set.digest),
        is_whole=np.array(clip_set.is_whole),
        clip_ids=np.array([clip.id for clip in clip_set.clips], dtype=str),
        labels=np.array([clip.label for clip in clip_set.clips], dtype=np.int64),
        class_names=np.array(clip_set.class_names, dtype=str),
    )


def labels_from_npz(path: Path) -> ClipSet:
    """Read what ``npz_from_labels`` wrote; the clips have no files, their paths are their ids."""
    with np.load(path) as arrays:
        pairs = zip(arrays["clip_ids"].tolist(), arrays["labels"].tolist(), strict=True)
        return ClipSet(
            name=str(arrays["name"]),
            clips=tuple(Clip(name, Path(name), label) for name, label in pairs),
            class_names=tuple(arrays["class_names"].tolist()),
            digest=str(arrays["digest"]),
            is_whole=bool(arrays["is_whole"]),
        )


def predictions_from_npz(path: Path) -> Predictions:
    """Read what ``npz_from_predictions`` wrote."""
    with np.load(path) as arrays:
        unreadable = zip(
            arrays["unreadable_ids"].tolist(), arrays["unreadable_reasons"].tolist(), strict=True
        )
        return Predictions(tuple(arrays["clip_ids"].tolist()), arrays["scores"], dict(unreadable))


def _inputs(spec: ModelSpec, weights: WeightsFile) -> dict[str, object]:
    return {
        "model": dataclasses.asdict(spec),
        "weights": weights.digest,
        "versions": package_versions("torch", "mmaction2", "mmcv-full", "numpy"),
        "code": code_digest(pytorch, narrow_tsm, scores),
        # Float sums depend on the processor's instructions.
        "machine": rounding_facts(),
    }


def _decoding_inputs() -> dict[str, object]:
    """Return what shapes the way from a clip to a tensor."""
    return {
        "versions": package_versions("av", "decord", "opencv-contrib-python-headless"),
        "code": code_digest(loading, rawframes, sampling, skipping, transforms, video),
    }


def rounding_facts() -> dict[str, str]:
    """Return the facts of this machine that change the rounding of sums."""
    facts = environment_facts(None)
    return {name: facts[name] for name in ("cpu.model", "cpu.isa")}
