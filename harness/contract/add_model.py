"""A new model's declaration and its tables in the contract, as a person would write them."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import harness.models
from harness import registry
from harness.contract.thresholds import thresholds_from_file
from harness.contract.toml import literal
from harness.errors import HarnessError, InputError
from harness.host.reading import toml_from_text
from harness.spec import ONNX_FILE, ModelSpec
from harness.zoo.model import protocol_differences

# What MLPerf lets a submission lose of its reference.
KEPT_SHARE = 0.99
MARGIN_MIN = 0.002
# Times the least loss that so many clips can exclude: 3.5 times the 2.706 of the 95 % bound.
MARGIN_CLIPS = 9.5


@dataclasses.dataclass(frozen=True)
class NewModel:
    """A model to add.

    Attributes:
        spec: its declaration.
        top1, top5: published or measured accuracies, as shares; None where none is known.
        source: where they come from.
        clip_count: clips of its data set.
        devices: to judge it on.
        batches: batch sizes on each device.
    """

    spec: ModelSpec
    top1: float
    top5: float | None
    source: str
    clip_count: int
    devices: Sequence[str]
    batches: Sequence[int]


def declaration(spec: ModelSpec) -> str:
    """Return the text of ``harness/models/<name>.py``."""
    if spec.reference == ONNX_FILE:
        return _file_declaration(spec)
    return (
        f'"""{spec.name}: {Path(spec.config).stem} of mmaction2."""\n\n'
        "from harness.zoo.model import model_spec_from_config\n\n"
        "SPEC = model_spec_from_config(\n"
        f'    "{spec.config}",\n'
        f'    "{spec.checkpoint}",\n'
        f'    name="{spec.name}",\n'
        f'    dataset="{spec.dataset}",\n'
        "    calibrated=True,\n"
        ")\n"
    )


def _file_declaration(spec: ModelSpec) -> str:
    protocol = protocol_differences(spec.config, spec.protocol)
    fields: dict[str, object] = {
        "name": spec.name,
        "dataset": spec.dataset,
        "inputs": {one.name: one.shape for one in spec.inputs},
        "output": (spec.output.name, spec.output.shape),
        "config": spec.config,
        "protocol": protocol,
        "softmax_in_graph": spec.softmax_in_graph,
        "opset": spec.opset,
        "frozen_batch": spec.frozen_batch,
        "frames": spec.frames,
    }
    plain = {"config": "", "protocol": {}, "opset": 11, "frozen_batch": None, "frames": ()}
    told = {key: value for key, value in fields.items() if plain.get(key, object) != value}
    return (
        f'"""{spec.name}: {spec.checkpoint}, a model that exists only as this ONNX file."""\n\n'
        "from harness.zoo.model import model_spec_from_file\n\n"
        f"SPEC = model_spec_from_file(\n    {_code(spec.checkpoint)},\n"
        + "".join(f"    {key}={_code(value)},\n" for key, value in told.items())
        + ")\n"
    )


def _code(value: object) -> str:
    """Return a value as Python has it, text in double quotes."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case dict():
            return f"{{{', '.join(f'{_code(key)}: {_code(one)}' for key, one in value.items())}}}"
        case tuple():
            comma = "," if len(value) == 1 else ""
            return f"({', '.join(map(_code, value))}{comma})"
        case _:
            return repr(value)


def contract_with(text: str, new: NewModel) -> str:
    """Return the text of a contract with the tables of a model.

    Raises:
        InputError: the contract is not laid out in tables as this suite's is.
    """
    name = new.spec.name
    sources = [f"{name}_accuracy = {literal(new.source)}", *_shared_sources(text, new)]
    text = _before(text, "[clip_sets]", "\n".join(sources) + "\n")
    if not _has_set(text, new):
        text = _before(text, "[parity.", _clip_set(new) + "\n")
    return _before(text, "[tiers.", _model_tables(new) + "\n")


def write_model(new: NewModel, contract: Path) -> tuple[Path, str]:
    """Write a model's declaration and its tables; return the file and the contract's new text.

    Raises:
        InputError: a model has that name already, or what was written does not hold together; then
            nothing is changed.
    """
    path = Path(next(iter(harness.models.__path__))) / f"{new.spec.name}.py"
    before = contract.read_text(encoding="utf-8")
    after = contract_with(before, new)
    path.write_text(declaration(new.spec), encoding="utf-8")
    contract.write_text(after, encoding="utf-8")
    registry.look_again()
    try:
        thresholds_from_file(contract)
    except HarnessError as error:
        path.unlink()
        contract.write_text(before, encoding="utf-8")
        registry.look_again()
        raise InputError(f"{new.spec.name} was not added: {error}") from error
    return path, after


def require_new_name(name: str) -> None:
    """Fail if a model has that name, or if it cannot name one.

    Raises:
        InputError: it does, or it cannot.
    """
    if name in registry.model_names():
        raise InputError(f"there is a model {name} already; choose another with --name")
    if not name.isidentifier() or name != name.lower():
        raise InputError(f"{name!r} cannot name a model; use lower-case letters, digits and _")


def _before(text: str, table: str, added: str) -> str:
    """Put lines before the comment above the first table that begins so."""
    lines = text.splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if line.startswith(table)]
    if not places:
        raise InputError(f"the contract has no table that begins {table}, to put the model before")
    place = places[0]
    while lines[place - 1].startswith("#"):
        place -= 1
    if table == "[clip_sets]":
        # The sources end where the blank line before the next table is.
        place -= 1
    return "".join([*lines[:place], added, *lines[place:]])


def _shared_sources(text: str, new: NewModel) -> list[str]:
    count, shared = f"{new.clip_count:,} clips", dict[str, str]()
    if "cpu" in new.devices:
        shared["not_measured"] = (
            "a sanity bound, from a tenth of the reference's speed on: run harness calibrate"
        )
    shared[_paired_source(new)] = (
        f"{count}: even without a discordant one the 95 % bound is {271 / new.clip_count:.2g} points; "
        f"{100 * _margin(new):.3g} points let a few be lost"
    )
    if not _has_set(text, new):
        shared[f"{new.spec.dataset}_clips"] = f"{count}, as given to harness model add"
    return [f"{key} = {literal(said)}" for key, said in shared.items() if f"\n{key} = " not in text]


def _has_set(text: str, new: NewModel) -> bool:
    return new.spec.dataset in toml_from_text(text).get("clip_sets", {})


def _paired_source(new: NewModel) -> str:
    return "paired_20k" if new.clip_count == 19796 else f"paired_{new.spec.dataset}"


def _margin(new: NewModel) -> float:
    return max(MARGIN_MIN, math.ceil(1000 * MARGIN_CLIPS / new.clip_count) / 1000)


def _clip_set(new: NewModel) -> str:
    name = new.spec.dataset
    return (
        f"[clip_sets.{name}]\nclip_count = {new.clip_count}\nclass_count = {new.spec.class_count}\n"
        f'source = "{name}_clips"\n'
    )


def _model_tables(new: NewModel) -> str:
    spec, source = new.spec, f"{new.spec.name}_accuracy"
    suffix = Path(spec.checkpoint).stem.rsplit("-", 1)[-1]
    paired = {"margin": _margin(new), "confidence": 0.95, "source": _paired_source(new)}
    top1 = _floor(new.top1, source)
    # The five best hold the best: without a figure of its own, top-5 is held to that of top-1.
    top5 = top1 if new.top5 is None else _floor(new.top5, source)
    lines = [
        f"# {spec.checkpoint if spec.reference == ONNX_FILE else Path(spec.config).stem + ' of mmaction2'}.",
        f"[models.{spec.name}]",
        f"clip_set = {literal(spec.dataset)}",
        f"weights = {literal(suffix)}",
        f"paired = {literal(paired)}",
        f"top1 = {literal(top1)}",
        f"top5 = {literal(top5)}",
    ]
    batches = [f"bs{batch}" for batch in new.batches]
    if "cpu" in new.devices:
        row = {"golden": 1.0, "tolerance": 0.9, "implausible": 100.0, "source": "not_measured"}
        lines += ["", f"[models.{spec.name}.devices.cpu.throughput]"]
        lines += [f"{batch} = {literal(row)}" for batch in batches]
    others = [device for device in new.devices if device != "cpu"]
    if others:
        lines += ["", f"[models.{spec.name}.devices]"]
        lines += [f"{device} = {literal({'no_golden': batches})}" for device in others]
    return "\n".join(lines) + "\n"


def _floor(share: float, source: str) -> dict[str, object]:
    return {"golden": share, "floor": round(KEPT_SHARE * share, 4), "source": source}
