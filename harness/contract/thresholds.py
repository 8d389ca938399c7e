"""thresholds.toml -> Limits: the contract, with one home, a unit and a source for each number.

The layout, in which tables may be repeated for each model, device, batch size and tier::

    schema = 1
    [clip_sets.S]                               the whole set: how many clips
    [models.M]                                  clip set, weights, comparisons with PyTorch
    [models.M.devices.D]                        accuracy floors on that device
    [models.M.devices.D.throughput.bs4]         throughput reference; each is a cell
    [tiers.T]                                   which cells it runs, what it requires, how long
    [[waivers]]                                 a known failure, its owner, its last day

Unknown keys, tables of unknown models or devices, patterns that match nothing, empty requirements,
NaN, strings for numbers and numbers out of range are errors that name the key.
"""

import dataclasses
import hashlib
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pydantic

from harness import registry
from harness.contract.tables import ModelTable, ThresholdsFile, Tier, matches
from harness.errors import InputError, ThresholdsError
from harness.judge.limits import AccuracyLimits, Limits, ThroughputReference
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

    def with_more_timing(self, sessions: int, budget_minutes: float) -> "Thresholds":
        """Return the contract with room for more timed sessions; what it asks for stays."""
        tiers = {
            name: tier.with_more_timing(sessions, budget_minutes)
            for name, tier in self.file.tiers.items()
        }
        return dataclasses.replace(self, file=self.file.model_copy(update={"tiers": tiers}))

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
        precision = registry.device_spec(cell.device).precision
        return Limits(
            weights=model.weights,
            parity=model.parity[precision],
            host_parity=model.parity["fp32"],
            accuracy=AccuracyLimits(
                top1=device.top1,
                top5=device.top5,
                clip_count=clip_set.clip_count,
                clip_set_digest=clip_set.digest,
                unreadable_max=clip_set.unreadable_max,
                paired=model.paired,
                every_clip=model.every_clip.get(precision),
                matrix_cells=sum(
                    self.file.models[other.model].clip_set == model.clip_set
                    for other in self.cells()
                ),
            ),
            throughput=device.throughput[f"bs{cell.batch}"],
        )

    def references(self) -> Mapping[Cell, ThroughputReference]:
        """Return the reference speed of every cell."""
        return {cell: self.limits(cell).throughput for cell in self.cells()}


def thresholds_from_file(path: Path) -> Thresholds:
    """Read and check a thresholds file.

    Raises:
        ThresholdsError: it is missing, malformed or inconsistent; every problem is named.
    """
    try:
        content = path.read_bytes()
        text = content.decode()
        data = tomllib.loads(text)
    except OSError as error:
        raise ThresholdsError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ThresholdsError(f"{path} is not UTF-8: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ThresholdsError(f"{path} is not TOML: {error}{_quoted_line(text, error)}") from error
    except (ValueError, RecursionError) as error:
        # An integer of thousands of digits, brackets in thousands of brackets.
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


def tier_names(path: Path) -> tuple[str, ...]:
    """Return the names of the tiers, for the markers; none where the file cannot be read.

    What is wrong with the file is told by ``thresholds_from_file``, once somebody needs it.
    """
    try:
        tiers = tomllib.loads(path.read_text(encoding="utf-8")).get("tiers")
    except (OSError, ValueError, RecursionError):
        return ()
    return tuple(tiers) if isinstance(tiers, dict) else ()


def _quoted_line(text: str, error: tomllib.TOMLDecodeError) -> str:
    # tomllib gives the place in its message alone, and does not name a key that is there twice.
    lines = text.rstrip().splitlines()
    found = re.search(r"\(at line (\d+)", str(error))
    return f": {lines[int(found[1]) - 1 if found else -1].strip()}"


def _problems(thresholds: Thresholds) -> Iterable[str]:
    file = thresholds.file
    problems = [problem for name in file.models for problem in _model_problems(file, name)]
    yield from problems
    for name in sorted(file.clip_sets.keys() - {table.clip_set for table in file.models.values()}):
        yield f"clip_sets.{name}: no model uses it"
    if not problems:
        for name, tier in file.tiers.items():
            yield from _name_problems(name)
            yield from _clips_problems(thresholds, name, tier)
            yield from _pattern_problems(thresholds, name, tier)
            yield from _plan_problems(thresholds, name, tier)
        yield from _waiver_problems(thresholds)


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
    known = [device for device in table.devices if device in registry.device_names()]
    used = {"fp32", *(registry.device_spec(device).precision for device in known)}
    for precision in sorted(used - table.parity.keys()):
        yield f"{key}.parity.{precision}: missing, though the chain or a device computes in it"
    if table.every_clip and table.every_clip.keys() != table.parity.keys():
        yield f"{key}.every_clip: must have the precisions of {key}.parity, or be left out"
    for precision in sorted(table.parity.keys() - used):
        yield f"{key}.parity.{precision}: no device of the model computes in it"


def _device_problems(key: str, name: str, table: ModelTable, spec: ModelSpec) -> Iterable[str]:
    if name not in registry.device_names():
        yield f"{key}: no such device; there are: {', '.join(registry.device_names())}"
        return
    for batch in table.devices[name].throughput:
        if not re.fullmatch(r"bs[1-9]\d*", batch):
            yield f"{key}.throughput.{batch}: a batch size is written bs1, bs4, …, at least bs1"
        elif spec.frozen_batch is not None and batch != f"bs{spec.frozen_batch}":
            yield f"{key}.throughput.{batch}: {spec.name} supports bs{spec.frozen_batch} only"


def _pattern_problems(thresholds: Thresholds, name: str, tier: Tier) -> Iterable[str]:
    every_cell = [cell.id for cell in thresholds.cells()]
    for pattern in tier.cells:
        if not any(matches(cell, [pattern]) for cell in every_cell):
            yield f"tiers.{name}.cells: {pattern!r} matches no cell"
    checks = [f"{cell.id}:{check}" for cell in thresholds.cells(name) for check in CHECKS]
    for pattern in tier.required:
        if not any(matches(check, [pattern]) for check in checks):
            yield f"tiers.{name}.required: {pattern!r} matches no check of the tier's cells"


def _name_problems(name: str) -> Iterable[str]:
    if not re.fullmatch(r"[a-z]\w*", name) or name in {*registry.device_names(), *CHECKS}:
        yield f"tiers.{name}: a tier is a pytest marker: a word that is no device and no check"


def _clips_problems(thresholds: Thresholds, name: str, tier: Tier) -> Iterable[str]:
    file, pairs = thresholds.file, {cell.pair for cell in thresholds.cells(name)}
    for pair in sorted(tier.clips.keys() - pairs - {"default"}):
        yield f"tiers.{name}.clips.{pair}: the tier has no such model-device"
    for cell in thresholds.cells(name):
        count, clip_set = tier.clips_for(cell), file.models[cell.model].clip_set
        whole = file.clip_sets[clip_set].clip_count
        if count is not None and count >= whole:
            yield (
                f"tiers.{name}.clips: {count} clips for {cell.id} are no subset of the {whole} of "
                f"{clip_set}; name none to have them all"
            )


def _plan_problems(thresholds: Thresholds, name: str, tier: Tier) -> Iterable[str]:
    pairs = {cell.pair for cell in thresholds.cells(name)} | {"default"}
    for field, plans in (("parity_inputs", tier.parity_inputs), ("timing", tier.timing)):
        key = f"tiers.{name}.{field}"
        if "default" not in plans:
            yield f"{key}.default: missing"
        for pair in sorted(plans.keys() - pairs):
            yield f"{key}.{pair}: the tier has no such model-device"
    for pair, plan in tier.timing.items():
        if plan.sessions_max < plan.sessions_min:
            yield f"tiers.{name}.timing.{pair}.sessions_max: below sessions_min"


def _waiver_problems(thresholds: Thresholds) -> Iterable[str]:
    every_cell = {cell.id for cell in thresholds.cells()}
    run = {cell.id for tier in thresholds.file.tiers for cell in thresholds.cells(tier)}
    counts = Counter(waiver.id for waiver in thresholds.file.waivers)
    for number, waiver in enumerate(thresholds.file.waivers):
        key = f"waivers.{number}.cell: {waiver.cell!r}"
        if waiver.cell not in every_cell:
            yield f"{key} is no cell; there are: {', '.join(sorted(every_cell))}"
        elif waiver.cell not in run:
            yield f"{key} is run by no tier, so the waiver could never be reviewed"
    for name, count in counts.items():
        if count > 1:
            yield f"waivers: {name} is waived {count} times; keep one"
