"""Speed by batch size, the best one, and how the devices compare, beside the guides' own numbers.

Pure functions of records. A number is of a chip, of a card with several, or of a host; where the
scope of a guide's number is not the one that was measured, the line says so.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from harness import registry
from harness.judge.limits import ThroughputReference
from harness.language import _
from harness.measure.statistics import Interval
from harness.measure.throughput import ThroughputMeasurement
from harness.record.record import Record
from harness.spec import Cell, Status


@dataclasses.dataclass(frozen=True)
class CellSpeed:
    """The speed of one cell in clips/s, by the definition of its floor.

    Attributes:
        bounds: one-sided 95 % bounds over sessions; None after one session.
        scope: what was measured: a chip, a card or a host.
        guide: what the guide prints, in clips/s; None where it prints nothing.
        guide_scope: what that is of.
    """

    cell: Cell
    per_s: float
    bounds: Interval | None
    scope: str
    guide: float | None
    guide_scope: str


@dataclasses.dataclass(frozen=True)
class BestBatch:
    """The fastest batch size of a model on a device.

    ``not_slower`` are the others whose bounds overlap with those of the fastest: sessions did not
    tell them apart. ``guide`` is the fastest of the guide's table for the batches that were measured.
    """

    cell: Cell
    not_slower: tuple[int, ...]
    guide: int | None


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as fast one device is as another, at one batch size, or at the best of each."""

    pair: tuple[CellSpeed, CellSpeed]
    is_best: bool

    @property
    def value(self) -> float:
        """The ratio."""
        return self.pair[0].per_s / self.pair[1].per_s

    @property
    def guide(self) -> float | None:
        """The ratio of the guide's numbers for the same batches; None where it has none."""
        one, other = (speed.guide for speed in self.pair)
        return None if one is None or other is None else one / other

    @property
    def devices(self) -> list[str]:
        """Their names."""
        return [speed.cell.device for speed in self.pair]

    @property
    def scopes(self) -> tuple[str, str]:
        """What the measured numbers are of."""
        return self.pair[0].scope, self.pair[1].scope

    @property
    def guide_scopes(self) -> tuple[str, str]:
        """What the guide's numbers are of."""
        return self.pair[0].guide_scope, self.pair[1].guide_scope


@dataclasses.dataclass(frozen=True)
class Variant:
    """A model that was built another way, and the plain build of the same batch size."""

    speed: CellSpeed
    plain: CellSpeed

    @property
    def ratio(self) -> float:
        """How many times as fast it is."""
        return self.speed.per_s / self.plain.per_s

    @property
    def bounds(self) -> Interval | None:
        """Of the ratio: from the slow end of one to the fast end of the other, if neither misses."""
        one, other = self.speed.bounds, self.plain.bounds
        if one is None or other is None or other.low <= 0.0:
            return None
        ends = one.low / other.high, one.high / other.low
        confidence = one.confidence + other.confidence - 1.0
        return Interval(low=ends[0], high=ends[1], confidence=confidence)


def speeds_from_records(
    records: Iterable[Record], references: Mapping[Cell, ThroughputReference]
) -> tuple[CellSpeed, ...]:
    """Return the speeds that count; a record that is invalid, or without a reference, has none.

    The guides' comparisons are of one precision, so a cell that names another is left out.
    """
    return tuple(one for one in _speeds(records, references) if not one.cell.precision)


def variants(
    records: Iterable[Record], references: Mapping[Cell, ThroughputReference]
) -> tuple[Variant, ...]:
    """Return the speeds of cells that name a precision or a gear, where the plain cell has one too."""
    found = {speed.cell: speed for speed in _speeds(records, references)}
    pairs = ((speed, dataclasses.replace(cell, precision="")) for cell, speed in found.items())
    return tuple(
        Variant(speed, found[plain])
        for speed, plain in pairs
        if plain != speed.cell and plain in found
    )


def best_batches(speeds: Sequence[CellSpeed]) -> tuple[BestBatch, ...]:
    """Return the best batch size of every model and device of which several were measured."""
    return tuple(_best(group) for group in _by_model_and_device(speeds).values() if len(group) > 1)


def ratios(speeds: Sequence[CellSpeed]) -> tuple[Ratio, ...]:
    """Return the guides' comparisons: at each batch size of both devices, then best to best."""
    groups = _by_model_and_device(speeds)
    return tuple(
        ratio
        for model in dict.fromkeys(speed.cell.model for speed in speeds)
        for name, spec in registry.device_specs().items()
        for other in spec.compared_with
        if (model, name) in groups and (model, other) in groups
        for ratio in _ratios(groups[model, name], groups[model, other])
    )


def guide_names(devices: Iterable[str]) -> list[str]:
    """Return what the guides call some devices."""
    specs = registry.device_specs()
    return [specs[name].label or name for name in devices]


def speed_lines(
    records: Sequence[Record], references: Mapping[Cell, ThroughputReference]
) -> list[str]:
    """Return the tables for a person; nothing where there is nothing to compare."""
    speeds = speeds_from_records(records, references)
    best, compared = best_batches(speeds), ratios(speeds)
    built = variants(records, references)
    if not best and not compared and not built:
        return []
    groups = _by_model_and_device(speeds)
    lines = [_("Speed by batch size in clips/s (the guide's in brackets):")]
    lines += [_group_line(group, best) for group in groups.values()]
    if any(record.is_emulated for record in records):
        lines.append(f"    {_('EMULATED times: they say nothing about a chip')}")
    return [*lines, *map(_ratio_line, compared), *map(_variant_line, built)]


def _speeds(
    records: Iterable[Record], references: Mapping[Cell, ThroughputReference]
) -> list[CellSpeed]:
    found = [
        speed
        for record in records
        if record.cell in references
        if (speed := _speed(record, references[record.cell])) is not None
    ]
    return sorted(found, key=lambda one: (one.cell.model, one.cell.device, one.cell.batch))


def _speed(record: Record, reference: ThroughputReference) -> CellSpeed | None:
    measured = record.measurement
    is_valid = record.verdict.status is not Status.INVALID
    if not is_valid or not isinstance(measured, ThroughputMeasurement):
        return None
    # What a host is judged by is the time of one thread; this table is of what a user gets.
    speed = measured.speed("device_io" if reference.is_of_host else reference.definition)
    if speed is None:
        return None
    series = speed.per_s
    # A session may be on one chip, whatever the guide's number is of.
    spec = registry.device_specs().get(record.device)
    scope = reference.scope if spec is None or spec.scope is None else spec.scope
    guide_scope = reference.guide_scope or reference.scope
    return CellSpeed(record.cell, series.mean, series.bounds, scope, reference.guide, guide_scope)


def _by_model_and_device(
    speeds: Sequence[CellSpeed],
) -> dict[tuple[str, str], list[CellSpeed]]:
    groups: dict[tuple[str, str], list[CellSpeed]] = {}
    for speed in speeds:
        groups.setdefault((speed.cell.model, speed.cell.device), []).append(speed)
    return groups


def _fastest(group: Sequence[CellSpeed]) -> CellSpeed:
    return max(group, key=lambda speed: speed.per_s)


def _best(group: Sequence[CellSpeed]) -> BestBatch:
    best = _fastest(group)
    published = [(speed.guide, -speed.cell.batch) for speed in group if speed.guide is not None]
    return BestBatch(
        best.cell,
        tuple(speed.cell.batch for speed in group if speed is not best and _overlap(speed, best)),
        -max(published)[1] if len(published) > 1 else None,
    )


def _overlap(one: CellSpeed, best: CellSpeed) -> bool:
    if one.bounds is None or best.bounds is None:
        return False
    return one.bounds.high >= best.bounds.low


def _ratios(ours: Sequence[CellSpeed], theirs: Sequence[CellSpeed]) -> list[Ratio]:
    other = {speed.cell.batch: speed for speed in theirs}
    pairs = [(speed, other[speed.cell.batch]) for speed in ours if speed.cell.batch in other]
    best = _fastest(ours), _fastest(theirs)
    return [*(Ratio(pair, is_best=False) for pair in pairs), Ratio(best, is_best=True)]


def _group_line(group: Sequence[CellSpeed], best: Sequence[BestBatch]) -> str:
    cell, scope, guide_scope = group[0].cell, group[0].scope, group[0].guide_scope
    numbers = "  ".join(_number(speed) for speed in group)
    said = {"name": f"{cell.model} {cell.device}", "scope": _(scope), "guide": _(guide_scope)}
    line = "    " + _("{name}, by {scope}: {numbers}").format(**said, numbers=numbers)
    for one in best:
        if one.cell in [speed.cell for speed in group]:
            line += _("; ") + _("best bs{n}").format(n=one.cell.batch) + _also(one)
    if guide_scope != scope and any(speed.guide is not None for speed in group):
        line += _("; the guide's numbers are by {guide}, not by {scope}").format(**said)
    return line


def _number(speed: CellSpeed) -> str:
    guide = "" if speed.guide is None else f" ({speed.guide:.4g})"
    return f"bs{speed.cell.batch} {speed.per_s:.4g}{guide}"


def _also(best: BestBatch) -> str:
    others = _(", ").join(f"bs{batch}" for batch in best.not_slower)
    text = _(", not told apart from {others}").format(others=others) if others else ""
    return text if best.guide is None else text + _(" (guide: bs{n})").format(n=best.guide)


def _variant_line(variant: Variant) -> str:
    cell, bounds = variant.speed.cell, variant.bounds
    text, values = _("{cell} against bs{n}: {value} times as fast"), {"value": variant.ratio}
    if bounds is not None:
        text += _(" ({low} to {high})")
        values |= {"low": bounds.low, "high": bounds.high}
    numbers = {name: f"{value:.2f}" for name, value in values.items()}
    return "    " + text.format(cell=cell.id, n=cell.batch, **numbers)


def _ratio_line(ratio: Ratio) -> str:
    cells = [speed.cell for speed in ratio.pair]
    batches = " / ".join(dict.fromkeys(cell.row for cell in cells))
    text = _("{name} at the best {batches}: ") if ratio.is_best else _("{name} at {batches}: ")
    line = "    " + text.format(
        name=f"{cells[0].model} {' / '.join(ratio.devices)}", batches=batches
    )
    line += _scoped(ratio.value, ratio.scopes)
    if ratio.guide is None:
        return line
    names = " / ".join(guide_names(ratio.devices))
    line += _("; guide, {names}: ").format(names=names) + _scoped(ratio.guide, ratio.guide_scopes)
    is_alike = ratio.scopes == ratio.guide_scopes
    return line if is_alike else line + _(": not of the same scope, so not to be compared")


def _scoped(value: float, scopes: tuple[str, str]) -> str:
    one, other = map(_, scopes)
    return _("{value} ({one} to {other})").format(value=f"{value:.2f}", one=one, other=other)
