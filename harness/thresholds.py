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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from harness import registry
from harness.errors import InputError, ThresholdsError
from harness.spec import CHECKS, Cell, Check, ModelSpec

Fraction = Annotated[float, pydantic.Field(ge=0.0, le=1.0)]
Positive = Annotated[float, pydantic.Field(gt=0.0)]
NotNegative = Annotated[float, pydantic.Field(ge=0.0)]
Count = Annotated[int, pydantic.Field(ge=1)]
Text = Annotated[str, pydantic.Field(min_length=1)]


class Table(pydantic.BaseModel):
    """A table of the file: strict types, no unknown key, no NaN, never changed."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class ParityLimits(Table):
    """How far a stage of the chain may be from the one before it.

    ``fp64_factor`` bounds RMSE(stage, fp64) by that multiple of RMSE(fp32 PyTorch, fp64) plus
    ``fp64_atol``; the others bound the errors of logits or log-probabilities.
    """

    fp64_factor: Positive
    fp64_atol: NotNegative
    max_abs_error: NotNegative
    p999_abs_error: NotNegative
    relative_l2: NotNegative
    cosine: Fraction
    top1_agreement: Fraction
    top5_overlap: Fraction
    source: Text


class AccuracyFloor(Table):
    """Least share of clips that must be right, with its origin."""

    floor: Fraction
    unit: Literal["share of clips"] = "share of clips"
    golden: Fraction | None = None
    source: Text


class PairedLimits(Table):
    """The paired comparison with PyTorch: the loss of top-1 that is still not inferior."""

    margin: Fraction
    confidence: Annotated[float, pydantic.Field(gt=0.5, lt=1.0)]
    source: Text


class ThroughputReference(Table):
    """A published or measured speed and how much slower is still acceptable.

    ``scope`` says whether the number is of one chip or of a card with several; ``against`` whether
    it is absolute or the ratio to PyTorch measured in the same run, interleaved.
    """

    golden: Positive
    tolerance: Fraction
    unit: Literal["clips/s", "x PyTorch"]
    definition: Literal["device", "device_io", "e2e"]
    scope: Literal["chip", "card", "host"]
    against: Literal["absolute", "pytorch"] = "absolute"
    implausible: Annotated[float, pydantic.Field(gt=1.0)] = 3.0
    source: Text

    @property
    def floor(self) -> float:
        """Slowest acceptable speed."""
        return self.golden * (1.0 - self.tolerance)

    @property
    def ceiling(self) -> float:
        """Speed above which the work was not done: cached or empty."""
        return self.golden * self.implausible


class AccuracyLimits(Table):
    """Floors of one device, the expected number of clips and the paired comparison."""

    top1: AccuracyFloor
    top5: AccuracyFloor
    clip_count: Count
    unreadable_max: Annotated[int, pydantic.Field(ge=0)] = 0
    paired: PairedLimits


class Limits(Table):
    """Everything that one cell is judged by.

    ``host_parity`` bounds the edges of the chain before the device, ``parity`` those on it.
    """

    parity: ParityLimits
    host_parity: ParityLimits
    accuracy: AccuracyLimits
    throughput: ThroughputReference


class ClipSetTable(Table):
    """A whole data set."""

    clip_count: Count
    unreadable_max: Annotated[int, pydantic.Field(ge=0)] = 0
    source: Text


class DeviceTable(Table):
    """What a model must reach on one device."""

    top1: AccuracyFloor
    top5: AccuracyFloor
    throughput: Annotated[Mapping[str, ThroughputReference], pydantic.Field(min_length=1)]


class ModelTable(Table):
    """What a model must reach."""

    clip_set: Text
    parity: Mapping[Literal["fp32", "fp16"], ParityLimits]
    paired: PairedLimits
    devices: Annotated[Mapping[str, DeviceTable], pydantic.Field(min_length=1)]


class TimingPlan(Table):
    """How long the sessions of a cell are timed."""

    sessions_min: Count
    sessions_max: Count
    warmup_queries: Count
    min_queries: Count
    min_seconds: NotNegative


class Tier(Table):
    """How much is run, and what must have passed.

    ``cells`` and ``required`` are shell patterns over ``model-device-bsN`` and
    ``model-device-bsN:check``. ``parity_inputs`` and ``timing`` are by ``model-device``, with a
    ``default``.
    """

    cells: Annotated[tuple[Text, ...], pydantic.Field(min_length=1, strict=False)]
    required: Annotated[tuple[Text, ...], pydantic.Field(min_length=1, strict=False)]
    parity_inputs: Mapping[str, Count]
    timing: Mapping[str, TimingPlan]

    def inputs_for(self, cell: Cell) -> int:
        """Fewest inputs that parity of a cell is shown on."""
        return self.parity_inputs.get(_pair(cell), self.parity_inputs["default"])

    def timing_for(self, cell: Cell) -> TimingPlan:
        """How long the sessions of a cell are timed."""
        return self.timing.get(_pair(cell), self.timing["default"])

    def requires(self, cell: Cell, check: Check) -> bool:
        """Whether a check must have passed."""
        return _matches(f"{cell.id}:{check}", self.required)


class ThresholdsFile(Table):
    """The whole file."""

    version: Literal[1] = pydantic.Field(alias="schema")
    clip_sets: Mapping[str, ClipSetTable]
    models: Annotated[Mapping[str, ModelTable], pydantic.Field(min_length=1)]
    tiers: Annotated[Mapping[str, Tier], pydantic.Field(min_length=1)]


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
        return tuple(cell for cell in cells if _matches(cell.id, patterns))

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
        names = getattr(tier, field).keys()
        if "default" not in names:
            yield f"{key}.{field}.default: missing"
        pairs = {_pair(cell) for cell in thresholds.cells(name)}
        for pair in sorted(names - pairs - {"default"}):
            yield f"{key}.{field}.{pair}: the tier has no such model-device"
    for pair, plan in tier.timing.items():
        if plan.sessions_max < plan.sessions_min:
            yield f"{key}.timing.{pair}.sessions_max: below sessions_min"


def _pair(cell: Cell) -> str:
    return f"{cell.model}-{cell.device}"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
