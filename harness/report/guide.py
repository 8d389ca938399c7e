"""The tables that the two guides print as their last section, filled from what was measured."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from harness import registry
from harness.contract.thresholds import Thresholds
from harness.decide.speeds import (
    CellSpeed,
    Ratio,
    Variant,
    best_batches,
    guide_names,
    ratios,
    speeds_from_records,
    variants,
)
from harness.device import DeviceSpec
from harness.host.suite_code import UNKNOWN
from harness.judge.limits import ThroughputReference
from harness.judge.matrix import AccuracyCell, matrix_chance
from harness.measure.accuracy import AccuracyMeasurement
from harness.record.record import Record
from harness.report.table_values import (
    AccuracyRow,
    GuideTables,
    RatioFigure,
    SpeedFigure,
    ThroughputRow,
    VariantRow,
    VersionRow,
)
from harness.report.values import RunLine
from harness.spec import Cell, Status


def guide_tables(
    records: Sequence[Record], runs: Sequence[RunLine], thresholds: Thresholds
) -> GuideTables:
    """Fill the tables; a device that was not there has no row."""
    seen = [record for record in records if record.is_device_present]
    return GuideTables(
        versions=_distinct(_version_rows(seen, {run.run_id: run for run in runs})),
        accuracy=tuple(_accuracy_rows(seen, thresholds)),
        accuracy_chance=matrix_chance(list(_accuracy_cells(seen, thresholds))),
        throughput=tuple(_throughput_rows(seen, thresholds)),
        variants=tuple(map(_variant_row, variants(seen, thresholds.references()))),
    )


def _version_rows(records: Iterable[Record], runs: Mapping[str, RunLine]) -> Iterator[VersionRow]:
    first = {
        (record.run_id, record.device, record.host_facts.get("host", "")): record
        for record in reversed(list(records))
    }
    for run_id, device, host in sorted(first):
        record, run = first[run_id, device, host], runs[run_id]
        facts, environment = record.device_facts, {**run.environment, **record.host_facts}
        spec = registry.device_specs().get(device)
        is_host = spec is not None and spec.is_host
        yield VersionRow(
            run_id=run_id,
            host=host or run.host,
            device=device,
            chip=environment.get("cpu.model", UNKNOWN) if is_host else _fact("chip", facts, spec),
            driver=_fact("driver", facts, spec),
            firmware=_fact("firmware", facts, spec),
            runtime=_runtime(facts, spec),
            python=environment.get("python", UNKNOWN),
            torch=environment.get("package.torch", UNKNOWN),
            os=environment.get("os", UNKNOWN),
        )


def _distinct(rows: Iterable[VersionRow]) -> tuple[VersionRow, ...]:
    """Keep one row of those that differ in nothing but their run: the first."""
    first: dict[str, VersionRow] = {}
    for row in rows:
        first.setdefault(row.model_copy(update={"run_id": ""}).model_dump_json(), row)
    return tuple(first.values())


def _fact(name: str, facts: Mapping[str, str], spec: DeviceSpec | None) -> str:
    """Return a fact; what a device does not have is not unknown."""
    return facts.get(name, UNKNOWN if spec is None or name in spec.facts else "none")


def _runtime(facts: Mapping[str, str], spec: DeviceSpec | None) -> str:
    if spec is None or spec.version_fact not in facts:
        return UNKNOWN
    return f"{spec.runtime} {facts[spec.version_fact]}"


def _accuracy_rows(records: Sequence[Record], thresholds: Thresholds) -> Iterator[AccuracyRow]:
    rows: dict[tuple[str, str], AccuracyRow] = {}
    for record in records:
        measured = record.measurement
        if not isinstance(measured, AccuracyMeasurement) or not measured.clip_count:
            continue
        row = _accuracy_row(record, measured, thresholds)
        known = rows.get((row.model, row.device))
        if known is None or row.top1 < known.top1:
            rows[row.model, row.device] = row
    yield from rows.values()


def _accuracy_cells(records: Iterable[Record], thresholds: Thresholds) -> Iterator[AccuracyCell]:
    known = thresholds.cells()
    for record in records:
        measured = record.measurement if record.check == "accuracy" else None
        if isinstance(measured, AccuracyMeasurement) and record.cell in known:
            yield AccuracyCell(record.model, measured, thresholds.limits(record.cell).accuracy)


def _accuracy_row(
    record: Record, measured: AccuracyMeasurement, thresholds: Thresholds
) -> AccuracyRow:
    top1, top5 = measured.top1.k / measured.clip_count, measured.top5.k / measured.clip_count
    guide1, guide5, notes = None, None, list(_doubts(record, measured))
    if record.cell in thresholds.cells():
        limits = thresholds.limits(record.cell).accuracy
        guide1, guide5 = limits.top1.guide, limits.top5.guide
        if guide1 is None and limits.top1.golden is not None:
            notes.append(f"no figure in the guide; top-1 {100 * limits.top1.golden:.2f} % expected")
    return AccuracyRow(
        model=record.model,
        device=record.device,
        batch=record.batch,
        clip_count=measured.clip_count,
        top1=top1,
        top5=top5,
        guide_top1=guide1,
        guide_top5=guide5,
        deviation_top1=None if guide1 is None else 100 * (top1 - guide1),
        deviation_top5=None if guide5 is None else 100 * (top5 - guide5),
        note=", ".join(notes),
    )


def _doubts(record: Record, measured: AccuracyMeasurement) -> Iterator[str]:
    if not measured.is_whole:
        yield "a subset"
    if record.is_emulated:
        yield "emulated"


def _throughput_rows(records: Sequence[Record], thresholds: Thresholds) -> Iterator[ThroughputRow]:
    references = thresholds.references()
    speeds = speeds_from_records(records, references)
    undecided = {
        record.cell
        for record in records
        if record.check == "throughput" and record.verdict.status is Status.INCONCLUSIVE
    }
    best = {one.cell for one in best_batches(speeds)}
    compared = ratios(speeds)
    for model in dict.fromkeys(speed.cell.model for speed in speeds):
        own = [speed for speed in speeds if speed.cell.model == model]
        top = [speed for speed in own if speed.cell in best]
        batches = sorted({speed.cell.batch for speed in own})
        for batch in (*batches, *([None] if top else [])):
            shown = top if batch is None else [one for one in own if one.cell.batch == batch]
            yield ThroughputRow(
                model=model,
                batch=batch,
                speeds={
                    one.cell.device: _figure(one, best, references[one.cell]).model_copy(
                        update={"is_decided": one.cell not in undecided}
                    )
                    for one in shown
                },
                ratios=tuple(
                    _ratio_figure(ratio)
                    for ratio in compared
                    if ratio.pair[0].cell.model == model and _is_of(ratio, batch)
                ),
            )


def _variant_row(variant: Variant) -> VariantRow:
    cell = variant.speed.cell
    return VariantRow(
        model=cell.model,
        device=cell.device,
        batch=cell.batch,
        precision=cell.precision,
        per_s=variant.speed.per_s,
        plain_per_s=variant.plain.per_s,
        ratio=variant.ratio,
        bounds=variant.bounds,
    )


def _is_of(ratio: Ratio, batch: int | None) -> bool:
    is_alike = not ratio.is_best and ratio.pair[0].cell.batch == batch
    return ratio.is_best if batch is None else is_alike


def _ratio_figure(ratio: Ratio) -> RatioFigure:
    return RatioFigure(
        name="/".join(guide_names(ratio.devices)),
        value=ratio.value,
        scopes=ratio.scopes,
        guide=ratio.guide,
        guide_scopes=ratio.guide_scopes,
    )


def _figure(
    speed: CellSpeed, best: Collection[Cell], reference: ThroughputReference
) -> SpeedFigure:
    guide, is_alike = speed.guide, speed.scope == speed.guide_scope
    return SpeedFigure(
        per_s=speed.per_s,
        scope=speed.scope,
        guide=guide,
        guide_scope=None if guide is None else speed.guide_scope,
        deviation=speed.per_s / guide - 1.0 if guide is not None and is_alike else None,
        is_best=speed.cell in best,
        bounds=speed.bounds,
        golden=None if reference.is_of_host else reference.golden,
    )
