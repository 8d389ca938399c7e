"""thresholds.toml as it is written -> the complete tables of every cell.

Whatever several cells share is written once. The keys of a row override those of the table around it,
and those override the device's; a model's parity overrides the parity of all, a device's accuracy the
model's.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import pydantic

from harness import registry
from harness.contract.tables import ClipSetTable, Precision, ThresholdsFile, Tier, Waiver
from harness.errors import ThresholdsError
from harness.judge.limits import (
    DeviceModelLimits,
    EveryClipLimits,
    MultiplyAddsLimits,
    PairedLimits,
    ParityLimits,
    ThroughputReference,
)
from harness.judge.table import (
    Digest,
    Filled,
    Positive,
    Table,
    Text,
    WeightsDigest,
)
from harness.spec import Cell

# Keys of a table that is complete only together with another.
Keys = Mapping[str, Any]


class WrittenDevice(Table):
    """What is particular to a model on one device."""

    top1: Mapping[str, Any] = {}
    top5: Mapping[str, Any] = {}
    throughput: Mapping[str, Any] = {}
    no_golden: Annotated[tuple[Text, ...], pydantic.Field(strict=False)] = ()
    device_model: DeviceModelLimits | None = None
    startup: Mapping[str, Any] = {}
    soak: Mapping[str, Any] = {}


class WrittenModel(Table):
    """What is particular to a model."""

    clip_set: Text
    weights: WeightsDigest | None = None
    paired: PairedLimits
    top1: Mapping[str, Any] = {}
    top5: Mapping[str, Any] = {}
    parity: Mapping[Precision, Keys] = {}
    every_clip: Mapping[Precision, Keys] = {}
    multiply_adds: MultiplyAddsLimits | None = None
    devices: Annotated[Mapping[str, WrittenDevice], pydantic.Field(min_length=1)]


class NoGolden(Table):
    """The bounds of a speed that nobody has published or measured."""

    floor: Positive
    ceiling: Positive
    unit: Literal["clips/s"]
    definition: str
    scope: str
    source: Filled

    def reference(self) -> Keys:
        """Return the bounds as a throughput row."""
        terms = self.model_dump(include={"unit", "definition", "scope", "source"})
        return {
            **terms,
            "golden": self.floor,
            "tolerance": 0.0,
            "implausible": self.ceiling / self.floor,
        }


class WrittenFile(Table):
    """The whole file."""

    version: Literal[2] = pydantic.Field(alias="schema")
    inputs: Digest | None = None
    sources: Mapping[str, Filled]
    clip_sets: Mapping[str, ClipSetTable]
    parity: Mapping[Precision, ParityLimits]
    every_clip: Mapping[Precision, EveryClipLimits] = {}
    multiply_adds: MultiplyAddsLimits | None = None
    devices: Mapping[str, Keys] = {}
    no_golden: NoGolden | None = None
    models: Annotated[Mapping[str, WrittenModel], pydantic.Field(min_length=1)]
    tiers: Annotated[Mapping[str, Tier], pydantic.Field(min_length=1)]
    waivers: Annotated[tuple[Waiver, ...], pydantic.Field(strict=False)] = ()


def file_from_tables(tables: Keys) -> ThresholdsFile:
    """Return the complete tables of a file.

    Raises:
        ThresholdsError: it is malformed; every problem is named by its key.
    """
    sources = tables.get("sources")
    texts = sources if isinstance(sources, dict) else {}
    try:
        file = WrittenFile.model_validate(_with_texts(tables, texts))
    except pydantic.ValidationError as error:
        raise malformed([*_source_problems(tables, texts), *named(error)]) from error
    problems = [*_source_problems(tables, texts), *_problems(file)]
    if problems:
        raise malformed(problems)
    models = {name: _model(file, model) for name, model in file.models.items()}
    shared = {name: getattr(file, name) for name in ("inputs", "clip_sets", "tiers", "waivers")}
    try:
        return ThresholdsFile.model_validate({**shared, "models": models})
    except pydantic.ValidationError as error:
        raise malformed(named(error)) from error


def written_row(tables: Keys, cell: Cell) -> Keys:
    """Return the throughput row of a cell as the file has it; empty where it has none.

    ``tables`` are those of a file that ``file_from_tables`` takes.
    """
    device = tables["models"][cell.model]["devices"][cell.device]
    row: Keys = device.get("throughput", {}).get(cell.row, {})
    return row


def named(error: pydantic.ValidationError) -> list[str]:
    """Return a line for each error, with the key that it is of."""
    return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]


def malformed(problems: list[str]) -> ThresholdsError:
    """Return the error that names some problems; the path of the file goes before it."""
    return ThresholdsError("\n  ".join(["is malformed:", *problems]))


# What is shared


def _model(file: WrittenFile, model: WrittenModel) -> Keys:
    return {
        "clip_set": model.clip_set,
        "weights": model.weights,
        "paired": model.paired,
        "parity": _by_precision(file.parity, model.parity),
        "every_clip": _by_precision(file.every_clip, model.every_clip),
        "multiply_adds": model.multiply_adds or file.multiply_adds,
        "devices": {name: _device(file, model, name) for name in model.devices},
    }


def _by_precision(
    shared: Mapping[Precision, Table], own: Mapping[Precision, Keys]
) -> Mapping[Precision, Keys]:
    tables = {name: limits.model_dump() for name, limits in shared.items()}
    names = dict.fromkeys([*shared, *own])
    return {name: {**tables.get(name, {}), **own.get(name, {})} for name in names}


def _device(file: WrittenFile, model: WrittenModel, name: str) -> Keys:
    device, bounds = model.devices[name], file.no_golden
    rows = _complete_rows(device.throughput, file.devices.get(name, {}))
    if bounds is not None:
        rows |= dict.fromkeys(device.no_golden, bounds.reference())
    return {
        "top1": _floor(model.top1, device.top1),
        "top5": _floor(model.top5, device.top5),
        "throughput": rows,
        "no_golden": device.no_golden,
        "device_model": device.device_model,
        "startup": _complete_rows(device.startup),
        "soak": _complete_rows(device.soak),
    }


def _floor(shared: Keys, own: Keys) -> Keys:
    """Return an accuracy floor; where it is the model's, both say where its numbers come from."""
    sources = [keys["source"] for keys in (shared, own) if "source" in keys]
    if "floor" in own or not all(isinstance(source, str) for source in sources):
        return {**shared, **own}
    joined = {"source": "; ".join(dict.fromkeys(sources))} if sources else {}
    return {**shared, **own, **joined}


def _complete_rows(table: Keys, shared: Keys = MappingProxyType({})) -> dict[str, Any]:
    """Return the rows of a table, each with the keys that stand around it."""
    terms = {**shared, **_terms(table)}
    return {
        batch: {**terms, **row} if isinstance(row, Mapping) else row
        for batch, row in _rows(table).items()
    }


def _rows(table: Keys) -> Keys:
    return {key: row for key, row in table.items() if _is_row(key, row)}


def _terms(table: Keys) -> Keys:
    return {key: value for key, value in table.items() if not _is_row(key, value)}


def _is_row(key: str, value: object) -> bool:
    return isinstance(value, Mapping) or key.startswith("bs")


# Sources


def _with_texts(tables: Keys, texts: Keys) -> Keys:
    """Return tables in which every source that names a text is that text."""
    return {
        key: texts[value]
        if key == "source" and isinstance(value, str) and value in texts
        else (_with_texts(value, texts) if isinstance(value, dict) and key != "sources" else value)
        for key, value in tables.items()
    }


def _source_problems(tables: Keys, texts: Keys) -> Iterator[str]:
    used = dict(_used_sources(tables))
    for key, name in used.items():
        if name not in texts:
            yield f"{key}: {name!r} is not in [sources]; there are: {', '.join(texts)}"
    for name in sorted(texts.keys() - set(used.values())):
        yield f"sources.{name}: no number comes from it"


def _used_sources(tables: Keys, path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tables.items():
        if key == "source" and isinstance(value, str):
            yield f"{path}{key}", value
        elif isinstance(value, dict) and f"{path}{key}" != "sources":
            yield from _used_sources(value, f"{path}{key}.")


# What nothing uses, and what is there twice


def _problems(file: WrittenFile) -> Iterator[str]:
    for name, terms in file.devices.items():
        yield from _term_problems(f"devices.{name}", terms)
        tables = [model.devices[name] for model in file.models.values() if name in model.devices]
        if not any(_rows(table.throughput) for table in tables):
            yield f"devices.{name}: no model has a throughput on it"
    for name, model in file.models.items():
        for key, limits in (("parity", model.parity), ("every_clip", model.every_clip)):
            for precision in sorted(limits.keys() - _precisions(model)):
                yield f"models.{name}.{key}.{precision}: no device of the model computes in it"
        for device, table in model.devices.items():
            yield from _device_problems(f"models.{name}.devices.{device}", table)
    used = set().union(*map(_precisions, file.models.values()))
    for precision in sorted({*file.parity, *file.every_clip} - used):
        yield f"parity.{precision}, every_clip: no device of any model computes in it"
    yield from _bounds_problems(file)


def _bounds_problems(file: WrittenFile) -> Iterator[str]:
    devices = [device for model in file.models.values() for device in model.devices.values()]
    is_used = any(device.no_golden for device in devices)
    if is_used and file.no_golden is None:
        yield "no_golden: missing, though a device names batch sizes without a golden"
    if file.no_golden is not None and not is_used:
        yield "no_golden: every cell has a golden"


def _term_problems(key: str, terms: Keys) -> Iterator[str]:
    for name in sorted(terms.keys() - ThroughputReference.model_fields.keys()):
        yield f"{key}.{name}: no such key; there are: {', '.join(ThroughputReference.model_fields)}"


def _precisions(model: WrittenModel) -> set[str]:
    """Precisions of the chain before the device, and of the devices that there are."""
    known = model.devices.keys() & set(registry.device_names())
    return {"fp32", *(registry.device_spec(device).precision for device in known)}


def _device_problems(key: str, table: WrittenDevice) -> Iterator[str]:
    yield from _term_problems(f"{key}.throughput", _terms(table.throughput))
    for batch in sorted({*table.no_golden} & table.throughput.keys()):
        yield f"{key}.no_golden: {batch} has a golden in {key}.throughput.{batch}; keep one"
    for name, limits in (("startup", table.startup), ("soak", table.soak)):
        if limits and not _rows(limits):
            yield f"{key}.{name}: has no row, such as bs1, so it limits nothing"
