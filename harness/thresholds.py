"""thresholds.toml -> Limits: the contract, with one home, a unit and a source for each number.

The layout, in which tables may be repeated for each model, device, batch size and tier::

    schema = 1
    [clip_sets.S]                               the whole set: how many clips
    [models.M]                                  clip set, parity limits, paired comparison
    [models.M.devices.D]                        accuracy floors on that device
    [models.M.devices.D.throughput.bs4]         throughput reference; each is a cell
    [tiers.T]                                   which cells it runs, what it requires, how long

Unknown keys, tables of unknown models or devices, patterns that match nothing, empty requirements,
NaN, strings for numbers and numbers out of range are errors that name the key.
"""

import dataclasses
import fnmatch
import hashlib
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pydantic

from harness import registry
from harness.errors import InputError, ThresholdsError
from harness.limits import AccuracyLimits, Limits, ModelTable, ThresholdsFile, Tier, matches
from harness.spec import CHECKS, Cell, ModelSpec


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The contract as read from a file; ``digest`` is the sha256 of its bytes."""

    path: Path
    digest: str
    file: ThresholdsFile

    def tier(self, name: str) -> Tier:
        """Return a tier.

        Raises:
            InputError: there is none of that name.
        """
        if name not in self.file.tiers:
            known = ", ".join(self.file.tiers)
            raise InputError(f"{self.path} has no tier {name!r}; there are: {known}")
        return self.file.tiers[name]

    def cells(self, tier: str | None = None) -> tuple[Cell, ...]:
        """All cells, or those of a tier, in the order of the file."""
        cells = tuple(
            Cell(model, device, int(batch.removeprefix("bs")))
            for model, table in self.file.models.items()
            for device, device_table in table.devices.items()
            for batch in device_table.throughput
        )
        if tier is None:
            return cells
        patterns = self.tier(tier).cells
        return tuple(cell for cell in cells if matches(cell.id, patterns))

    def limits(self, cell: Cell) -> Limits:
        """Return what a cell is judged by.

        Raises:
            InputError: the file has no such cell.
        """
        if cell not in self.cells():
            raise InputError(
                f"{self.path} has no cell {cell.id}; there are: "
                f"{', '.join(known.id for known in self.cells())}"
            )
        model = self.file.models[cell.model]
        device = model.devices[cell.device]
        clip_set = self.file.clip_sets[model.clip_set]
        return Limits(
            parity=model.parity[registry.device(cell.device).spec.precision],
            host_parity=model.parity["fp32"],
            accuracy=AccuracyLimits(
                top1=device.top1,
                top5=device.top5,
                clip_count=clip_set.clip_count,
                unreadable_max=clip_set.unreadable_max,
                paired=model.paired,
            ),
            throughput=device.throughput[f"bs{cell.batch}"],
        )


def thresholds_from_file(path: Path) -> Thresholds:
    """Read and check a thresholds file.

    Raises:
        ThresholdsError: it is missing, malformed or inconsistent; every problem is named.
    """
    try:
        content = path.read_bytes()
        data = tomllib.loads(content.decode())
    except OSError as error:
        raise ThresholdsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ThresholdsError(f"{path} is not TOML: {error}") from error
    try:
        file = ThresholdsFile.model_validate(data)
    except pydantic.ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ThresholdsError("\n  ".join([f"{path} is malformed:", *lines])) from error
    thresholds = Thresholds(path, hashlib.sha256(content).hexdigest(), file)
    problems = list(_problems(thresholds))
    if problems:
        raise ThresholdsError("\n  ".join([f"{path} is inconsistent:", *problems]))
    return thresholds


def _problems(thresholds: Thresholds) -> Iterable[str]:
    file = thresholds.file
    problems = [problem for name in file.models for problem in _model_problems(file, name)]
    yield from problems
    if not problems:
        for name, tier in file.tiers.items():
            yield from _tier_problems(thresholds, name, tier)


def _model_problems(file: ThresholdsFile, name: str) -> Iterable[str]:
    key = f"models.{name}"
    if name not in registry.model_names():
        yield f"{key}: no such model; there are: {', '.join(registry.model_names())}"
        return
    table, spec = file.models[name], registry.model_spec(name)
    if table.clip_set not in file.clip_sets:
        yield f"{key}.clip_set: there is no table clip_sets.{table.clip_set}"
    if table.clip_set != spec.dataset:
        yield f"{key}.clip_set: {table.clip_set}, but the model is of {spec.dataset}"
    for device in table.devices:
        yield from _device_problems(f"{key}.devices.{device}", device, table, spec)


def _device_problems(key: str, name: str, table: ModelTable, spec: ModelSpec) -> Iterable[str]:
    if name not in registry.device_names():
        yield f"{key}: no such device; there are: {', '.join(registry.device_names())}"
        return
    for precision in sorted({"fp32", registry.device(name).spec.precision} - table.parity.keys()):
        yield f"{key}: it computes in {precision}, and there are no parity limits for that"
    for batch in table.devices[name].throughput:
        if not re.fullmatch(r"bs[1-9]\d*", batch):
            yield f"{key}.throughput.{batch}: a batch size is written bs1, bs4, …, at least bs1"
        elif spec.frozen_batch is not None and batch != f"bs{spec.frozen_batch}":
            yield f"{key}.throughput.{batch}: {spec.name} supports bs{spec.frozen_batch} only"


def _tier_problems(thresholds: Thresholds, name: str, tier: Tier) -> Iterable[str]:
    key = f"tiers.{name}"
    cells = [cell.id for cell in thresholds.cells(name)]
    checks = [f"{cell}:{check}" for cell in cells for check in CHECKS]
    every_cell = [cell.id for cell in thresholds.cells()]
    for pattern in tier.cells:
        if not fnmatch.filter(every_cell, pattern):
            yield f"{key}.cells: {pattern!r} matches no cell"
    for pattern in tier.required:
        if not fnmatch.filter(checks, pattern):
            yield f"{key}.required: {pattern!r} matches no check of the tier's cells"
    for field in ("parity_inputs", "timing"):
        models = getattr(tier, field).keys()
        if "default" not in models:
            yield f"{key}.{field}.default: missing"
        for model in models - thresholds.file.models.keys() - {"default"}:
            yield f"{key}.{field}.{model}: no such model"
    for model, plan in tier.timing.items():
        if plan.sessions_max < plan.sessions_min:
            yield f"{key}.timing.{model}.sessions_max: below sessions_min"
