"""The contract in its old form (schema 1), in which every cell repeats everything -> today's.

What a stored run was judged by stays as it is, and is read through ``file_of_schema_1`` alone.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pydantic

from harness.contract.tables import DeviceTable, ModelTable, ThresholdsFile
from harness.contract.toml import table_lines
from harness.contract.written import malformed, named
from harness.judge.limits import AccuracyFloor, ThroughputReference
from harness.judge.table import Table

Tables = dict[str, Any]


def file_of_schema_1(tables: Mapping[str, Any]) -> ThresholdsFile:
    """Return the complete tables of a contract in the old form, with the guides' numbers.

    The old form had no key for those: the page found them by words of the sources, as is done here.

    Raises:
        ThresholdsError: it is malformed; every problem is named by its key.
    """
    try:
        file = ThresholdsFile.model_validate({k: v for k, v in tables.items() if k != "schema"})
    except pydantic.ValidationError as error:
        raise malformed(named(error)) from error
    models = {
        name: model.model_copy(
            update={
                "devices": {
                    device: table.model_copy(
                        update={
                            "top1": _with_guide(table.top1, table.top1),
                            "top5": _with_guide(table.top5, table.top1),
                            "throughput": {
                                batch: _speed_with_guide(reference)
                                for batch, reference in table.throughput.items()
                            },
                        }
                    )
                    for device, table in model.devices.items()
                }
            }
        )
        for name, model in file.models.items()
    }
    return file.model_copy(update={"models": models})


def _with_guide(floor: AccuracyFloor, top1: AccuracyFloor) -> AccuracyFloor:
    # "golden: its 310P column", said of top-1 and meant of both.
    return floor.model_copy(
        update={"guide": floor.golden if "golden: its" in top1.source else None}
    )


def _speed_with_guide(reference: ThroughputReference) -> ThroughputReference:
    is_guide = "guide" in reference.source and reference.unit == "clips/s"
    return reference.model_copy(update={"guide": reference.golden if is_guide else None})


def toml_of_schema_2(file: ThresholdsFile) -> str:
    """Return a contract in today's form: shared keys are written once, sources are named by a key."""
    keys: dict[str, str] = {}
    tables = _with_source_keys(_tables(file), keys)
    tables = {"schema": 2, "sources": {key: text for text, key in keys.items()}, **tables}
    lines = list(table_lines(tables))
    for waiver in file.waivers:
        lines += ["\n[[waivers]]", *table_lines(_keys(waiver))]
    return "\n".join(lines) + "\n"


def _tables(file: ThresholdsFile) -> Tables:
    models = file.models.values()
    precisions = dict.fromkeys(name for model in models for name in model.parity)
    parity: Tables = {
        name: _most_common(_keys(model.parity[name]) for model in models if name in model.parity)
        for name in precisions
    }
    devices = {
        name: _alike([row for model in models for row in _rows(model.devices.get(name)).values()])
        for name in dict.fromkeys(name for model in models for name in model.devices)
    }
    return {
        "clip_sets": {name: _keys(table) for name, table in file.clip_sets.items()},
        "parity": parity,
        "devices": devices,
        "models": {name: _model(model, parity, devices) for name, model in file.models.items()},
        "tiers": {name: _keys(tier) for name, tier in file.tiers.items()},
    }


def _model(model: ModelTable, parity: Tables, devices: Tables) -> Tables:
    own = {name: _less(_keys(limits), parity[name]) for name, limits in model.parity.items()}
    tables = list(model.devices.values())
    floors = {
        name: _keys(getattr(tables[0], name))
        for name in ("top1", "top5")
        if all(getattr(table, name) == getattr(tables[0], name) for table in tables)
    }
    every_clip = {name: _keys(limits) for name, limits in model.every_clip.items()}
    return {
        "clip_set": model.clip_set,
        **({} if model.weights is None else {"weights": model.weights}),
        "paired": _keys(model.paired),
        **floors,
        "parity": {name: keys for name, keys in own.items() if keys},
        "every_clip": every_clip,
        "devices": {
            name: _device(table, floors, devices[name]) for name, table in model.devices.items()
        },
    }


def _device(device: DeviceTable, floors: Tables, terms: Tables) -> Tables:
    rows = {batch: _less(row, terms) for batch, row in _rows(device).items()}
    alike = _alike(list(rows.values()))
    own = {name: _keys(getattr(device, name)) for name in ("top1", "top5") if name not in floors}
    return {
        **own,
        "throughput": {**alike, **{batch: _less(row, alike) for batch, row in rows.items()}},
    }


def _rows(device: DeviceTable | None) -> dict[str, Tables]:
    return {} if device is None else {k: _keys(one) for k, one in device.throughput.items()}


def _keys(table: Table) -> Tables:
    return table.model_dump(exclude_defaults=True)


def _most_common(tables: Iterable[Tables]) -> Tables:
    counts = Counter(tuple(table.items()) for table in tables)
    return dict(counts.most_common(1)[0][0])


def _alike(rows: Sequence[Tables]) -> Tables:
    """Return what all rows have alike, but for the numbers that a row is for."""
    return {
        key: value
        for key, value in rows[0].items()
        if key not in ("guide", "golden", "tolerance")
        and all(key in row and row[key] == value for row in rows)
    }


def _less(row: Tables, shared: Tables) -> Tables:
    return {key: value for key, value in row.items() if shared.get(key) != value}


def _with_source_keys(tables: Tables, keys: dict[str, str]) -> Tables:
    """Return tables whose sources are keys; ``keys`` gets the key of each text."""
    return {
        name: _source_key(value, keys)
        if name == "source"
        else (_with_source_keys(value, keys) if isinstance(value, dict) else value)
        for name, value in tables.items()
    }


def _source_key(text: str, keys: dict[str, str]) -> str:
    words = "_".join(re.findall("[a-z0-9]+", text.lower())[:5]) or "source"
    names = itertools.chain([words], (f"{words}_{number}" for number in itertools.count(2)))
    return keys.setdefault(text, next(name for name in names if name not in keys.values()))
