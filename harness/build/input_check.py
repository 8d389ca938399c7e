"""Whether a model is fed what mmaction2 would feed it, shown clip by clip.

Two kinds of clips are looked at. Those whose answers are known come with the suite: where the decoders
of this machine are those that made the answers, every bit counts; elsewhere mmaction2 makes answers
here, once a machine, that count bit for bit, and the known ones bound how far decoders may differ.
The others are a sample of the clips of a run, which mmaction2 reads as well.
"""

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.build import mmaction_inputs, torch_model
from harness.build.build import Workshop
from harness.clips import Clip, ClipSet, Sample
from harness.data.datasets import motion8
from harness.data.input_differences import input_difference
from harness.data.known_inputs import (
    KnownInput,
    KnownInputs,
    decoding_environment,
    known_clips,
    known_inputs,
)
from harness.data.loading import steps_from_clip
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.errors import ClipError, InvalidMeasurement, MissingInput, RunError
from harness.host.provenance import code_digest
from harness.spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class InputCheck:
    """What the inputs were compared with, and what differs, if anything does."""

    text: str
    problem: str | None = None


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What clips must give, by their id, and whether to the last bit."""

    text: str
    is_exact: bool = True
    inputs: Mapping[str, KnownInput] = dataclasses.field(default_factory=dict)


def check_known_clips(spec: ModelSpec, wanted: str, workshop: Workshop) -> InputCheck:
    """Compare what the suite makes of the known clips with what mmaction2 makes of them.

    ``wanted`` is the sha256 of the known answers that the contract names.
    """
    try:
        answers = _known(spec, known_inputs(wanted))
    except InvalidMeasurement as error:
        return InputCheck("", str(error))
    if not any(one.is_exact for one in answers):
        answers.append(_made_here(spec, workshop))
    return _compared(spec, motion8(), known_clips(), answers, workshop)


def check_sample(
    spec: ModelSpec, clip_set: ClipSet, clips: Sequence[Clip], workshop: Workshop
) -> InputCheck:
    """Compare what the suite makes of some clips of a set with what mmaction2 makes of them."""
    with tempfile.TemporaryDirectory() as folder:
        target, title = Path(folder) / "inputs.json", f"second reading {spec.name}"
        try:
            workshop.run(title, RunError, write_mmaction_inputs, spec, clips, target)
        except MissingInput as error:
            return InputCheck(
                _said(f"{clip_set.name} is not read a second time: {error}", workshop)
            )
        except ClipError as error:
            return InputCheck("", str(error))
        answers = _answers_from_file(target, spec)
    return _compared(spec, clip_set, clips, [answers], workshop)


def write_mmaction_inputs(spec: ModelSpec, clips: Sequence[Clip], target: Path) -> dict[str, Any]:
    """Write what mmaction2 makes of some clips; runs in its own process."""
    inputs = tuple(mmaction_inputs.mmaction_inputs(spec, clips))
    reader, environment = mmaction_inputs.mmaction_name(), decoding_environment()
    made = KnownInputs(reader=reader, environment=environment, models={spec.name: inputs})
    target.write_text(made.model_dump_json(), encoding="utf-8")
    return {"clips": len(inputs)}


def _known(spec: ModelSpec, known: KnownInputs) -> list[_Answers]:
    if spec.name not in known.models:
        return []
    is_exact = known.environment == decoding_environment()
    text = f"known answers of {known.reader}" + ("" if is_exact else ", as far as decoders differ")
    return [_Answers(text, is_exact, {one.clip_id: one for one in known.models[spec.name]})]


def _made_here(spec: ModelSpec, workshop: Workshop) -> _Answers:
    """Return what mmaction2 makes of the known clips here; nothing where it cannot, and why."""
    title, words = f"known inputs {spec.name}", (spec, known_clips())
    build = workshop.stage(title, RunError, write_mmaction_inputs, *words)
    try:
        inputs = {
            "model": dataclasses.asdict(spec),
            "clips": motion8().digest,
            "environment": decoding_environment(),
            "reader": mmaction_inputs.mmaction_name(),
            "code": code_digest(mmaction_inputs, torch_model),
        }
        artifact = workshop.store.get_or_build("known-inputs", f"{spec.name}.json", inputs, build)
    except MissingInput as error:
        return _Answers(_said(f"{spec.name} is not read by mmaction2: {error}", workshop))
    return _answers_from_file(artifact.path, spec)


def _answers_from_file(path: Path, spec: ModelSpec) -> _Answers:
    made = KnownInputs.from_json(path.read_bytes(), path)
    inputs = {one.clip_id: one for one in made.models[spec.name]}
    return _Answers(f"{made.reader} on this machine", inputs=inputs)


def _compared(
    spec: ModelSpec,
    clip_set: ClipSet,
    clips: Sequence[Clip],
    answers: Sequence[_Answers],
    workshop: Workshop,
) -> InputCheck:
    """Compare clips with all answers that there are to them, and with the records of their store."""
    store = CropStore(workshop.store.root / "crops", spec.protocol, clip_set)
    for clip in clips:
        difference = next(_differences(spec, clip, answers, store), None)
        if difference is not None:
            where = f"inputs of {spec.name} from clip {clip.id} of {clip_set.name}"
            return InputCheck("", f"{where} are not those of mmaction2: {difference}")
    names = ", ".join(clip.id for clip in clips)
    return InputCheck(f"{clip_set.name} {names}: {'; '.join(one.text for one in answers)}")


def _said(text: str, workshop: Workshop) -> str:
    workshop.progress.say(text)
    return text


def _differences(
    spec: ModelSpec, clip: Clip, answers: Sequence[_Answers], store: CropStore
) -> Iterator[str]:
    try:
        seen = steps_from_clip(clip, spec.protocol)
    except ClipError as error:
        yield f"decode: {error}"
        return
    for one in answers:
        known = one.inputs.get(clip.id)
        found = known and input_difference(known, seen, is_exact=one.is_exact)
        if found:
            yield f"{found} (compared with {one.text})"
    for item in stored_samples(store, [clip], workers=0):
        if not isinstance(item, Sample) or not np.array_equal(item.tensor, seen.tensor):
            yield (
                f"store: {store.folder} does not hold what decoding gives; remove it with `harness "
                f"dataset store --remove {store.folder.name[:12]}` if another kind of machine filled it"
            )
