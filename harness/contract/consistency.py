"""Whether the tables of a contract fit each other, and the models and devices of the suite."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from harness import registry
from harness.contract.tables import ModelTable, ThresholdsFile, Tier, matches
from harness.errors import InputError
from harness.spec import ALL_CHECKS, Cell, ModelSpec


def problems(file: ThresholdsFile) -> Iterator[str]:
    """Name everything in complete tables that does not fit the rest of them, or the suite."""
    found = [problem for name in file.models for problem in _model_problems(file, name)]
    yield from found
    for name in sorted(file.clip_sets.keys() - {table.clip_set for table in file.models.values()}):
        yield f"clip_sets.{name}: no model uses it"
    if not found:
        for name, tier in file.tiers.items():
            cells = file.cells(tier)
            yield from _name_problems(name)
            yield from _clips_problems(file, name, tier, cells)
            yield from _pattern_problems(file, name, tier, cells)
            yield from _plan_problems(name, tier, cells)
            yield from _soak_problems(file, name, tier, cells)
        yield from _waiver_problems(file)


def _model_problems(file: ThresholdsFile, name: str) -> Iterator[str]:
    key = f"models.{name}"
    if name not in registry.model_names():
        yield f"{key}: no such model; there are: {', '.join(registry.model_names())}"
        return
    table, spec = file.models[name], registry.model_spec(name)
    if table.clip_set in file.clip_sets:
        yield from _class_problems(key, spec, file.clip_sets[table.clip_set].class_count)
    else:
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


def _class_problems(key: str, spec: ModelSpec, class_count: int | None) -> Iterator[str]:
    columns = spec.output.shape[-1]
    if columns != spec.class_count:
        yield f"{key}: the output of {spec.name} has {columns} columns for {spec.class_count} classes"
    if class_count not in (None, spec.class_count):
        yield (
            f"{key}.clip_set: {spec.name} tells {spec.class_count} classes apart, {spec.dataset} has "
            f"{class_count}; correct the model's data set, or class_count in [clip_sets]"
        )


def _device_problems(key: str, name: str, table: ModelTable, spec: ModelSpec) -> Iterator[str]:
    if name not in registry.device_names():
        yield f"{key}: no such device; there are: {', '.join(registry.device_names())}"
        return
    device = table.devices[name]
    for row in device.throughput:
        yield from (f"{key}.throughput.{row}: {text}" for text in _row_problems(row, name, spec))
    for check in ("startup", "soak"):
        for row in getattr(device, check).keys() - device.throughput.keys():
            yield f"{key}.{check}.{row}: no such cell; it needs a row in {key}.throughput as well"


def _row_problems(row: str, device: str, spec: ModelSpec) -> Iterator[str]:
    if not re.fullmatch(r"bs[1-9]\d*(-\w+)?", row):
        yield "a batch size is written bs1, bs4, …, at least bs1; with a precision, bs1-origin"
        return
    cell = Cell.of_row(spec.name, device, row)
    if spec.frozen_batch not in (None, cell.batch):
        yield f"{spec.name} supports bs{spec.frozen_batch} only"
    try:
        registry.precision_of(spec, cell)
    except InputError as error:
        yield str(error)
        return
    if cell.precision and registry.device_spec(device).precision != "fp16":
        yield f"{device} computes as the file says, so no row of it names a precision"


def _pattern_problems(
    file: ThresholdsFile, name: str, tier: Tier, cells: Sequence[Cell]
) -> Iterator[str]:
    every_cell = [cell.id for cell in file.cells()]
    for pattern in tier.cells:
        if not any(matches(cell, [pattern]) for cell in every_cell):
            yield f"tiers.{name}.cells: {pattern!r} matches no cell"
    checks = [f"{cell.id}:{check}" for cell in cells for check in file.checks(cell, tier)]
    for pattern in tier.required:
        if not any(matches(check, [pattern]) for check in checks):
            yield f"tiers.{name}.required: {pattern!r} matches no check of the tier's cells"


def _name_problems(name: str) -> Iterator[str]:
    if not re.fullmatch(r"[a-z]\w*", name) or name in {*registry.device_names(), *ALL_CHECKS}:
        yield f"tiers.{name}: a tier is a pytest marker: one word, not the name of a device or a check"


def _clips_problems(
    file: ThresholdsFile, name: str, tier: Tier, cells: Sequence[Cell]
) -> Iterator[str]:
    pairs = {cell.pair for cell in cells}
    for pair in sorted(tier.clips.keys() - pairs - {"default"}):
        yield f"tiers.{name}.clips.{pair}: the tier has no such model-device"
    for cell in cells:
        count, clip_set = tier.clips_for(cell), file.models[cell.model].clip_set
        whole = file.clip_sets[clip_set].clip_count
        if count is not None and count >= whole:
            yield (
                f"tiers.{name}.clips: {count} clips for {cell.id} are not a subset of the {whole} "
                f"of {clip_set}; leave the key out to measure all of them"
            )


def _plan_problems(name: str, tier: Tier, cells: Sequence[Cell]) -> Iterator[str]:
    pairs = {cell.pair for cell in cells} | {"default"}
    for field, plans in (("parity_inputs", tier.parity_inputs), ("timing", tier.timing)):
        key = f"tiers.{name}.{field}"
        if "default" not in plans:
            yield f"{key}.default: missing"
        for pair in sorted(plans.keys() - pairs):
            yield f"{key}.{pair}: the tier has no such model-device"
    for pair, plan in tier.timing.items():
        if plan.sessions_max < plan.sessions_min:
            yield f"tiers.{name}.timing.{pair}.sessions_max: below sessions_min"


def _soak_problems(
    file: ThresholdsFile, name: str, tier: Tier, cells: Sequence[Cell]
) -> Iterator[str]:
    if tier.soak_minutes and not any("soak" in file.checks(cell, tier) for cell in cells):
        yield f"tiers.{name}.soak_minutes: no cell of the tier has a row in a soak table"


def _waiver_problems(file: ThresholdsFile) -> Iterator[str]:
    every_cell = {cell.id for cell in file.cells()}
    run = {cell.id for tier in file.tiers.values() for cell in file.cells(tier)}
    counts = Counter(waiver.id for waiver in file.waivers)
    for number, waiver in enumerate(file.waivers):
        key = f"waivers.{number}.cell: {waiver.cell!r}"
        if waiver.cell not in every_cell:
            yield f"{key} is not a cell; there are: {', '.join(sorted(every_cell))}"
        elif waiver.cell not in run:
            yield f"{key} is run by no tier, so the waiver could never be reviewed"
    for name, count in counts.items():
        if count > 1:
            yield f"waivers: {name} is waived {count} times; keep one"
