"""The tables that the two guides print as their last section, filled from what was measured."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.accuracy import AccuracyMeasurement
from harness.environment import UNKNOWN
from harness.limits import ThroughputReference
from harness.records import Record
from harness.report.values import (
    AccuracyRow,
    GuideTables,
    RunLine,
    SpeedFigure,
    ThroughputRow,
    VersionRow,
)
from harness.thresholds import Thresholds
from harness.throughput import ThroughputMeasurement

# The guide's column 310 is of a card with four chips; a session here has one chip.
CHIPS_PER_CARD = {"ascend310": 4}
RATIOS = {"310P/310": ("ascend310p", "ascend310"), "310P/T4": ("ascend310p", "cuda")}
SCOPES = {"ascend310": "chip", "ascend310p": "chip", "cuda": "card", "cpu": "host"}


def guide_tables(
    records: Sequence[Record], runs: Sequence[RunLine], thresholds: Thresholds
) -> GuideTables:
    """Fill the tables; a device that was not there has no row."""
    seen = [record for record in records if record.is_device_present]
    return GuideTables(
        versions=tuple(_version_rows(seen, {run.run_id: run for run in runs})),
        accuracy=tuple(_accuracy_rows(seen, thresholds)),
        throughput=tuple(_throughput_rows(seen, thresholds)),
    )


def _version_rows(records: Iterable[Record], runs: Mapping[str, RunLine]) -> Iterator[VersionRow]:
    first = {(record.run_id, record.device): record for record in reversed(list(records))}
    for run_id, device in sorted(first):
        facts, run = first[run_id, device].device_facts, runs[run_id]
        environment = run.environment
        # What a device does not have is not unknown.
        missing = UNKNOWN if device.startswith("ascend") else "none"
        yield VersionRow(
            run_id=run_id,
            host=run.host,
            device=device,
            chip=facts.get(
                "chip", environment.get("cpu.model", UNKNOWN) if device == "cpu" else UNKNOWN
            ),
            driver=facts.get("driver", "none" if device == "cpu" else UNKNOWN),
            firmware=facts.get("firmware", missing),
            cann=facts.get("cann", missing),
            runtime=_runtime(facts),
            python=environment.get("python", UNKNOWN),
            torch=environment.get("package.torch", UNKNOWN),
            os=environment.get("os", UNKNOWN),
        )


def _runtime(facts: Mapping[str, str]) -> str:
    if "onnxruntime" in facts:
        return f"ONNX Runtime {facts['onnxruntime']}"
    return f"CANN {facts['cann']}" if "cann" in facts else UNKNOWN


def _accuracy_rows(records: Sequence[Record], thresholds: Thresholds) -> Iterator[AccuracyRow]:
    rows: dict[tuple[str, str], AccuracyRow] = {}
    for record in records:
        measured = record.measured()
        if not isinstance(measured, AccuracyMeasurement) or not measured.clip_count:
            continue
        row = _accuracy_row(record, measured, thresholds)
        known = rows.get((row.model, row.device))
        if known is None or row.top1 < known.top1:
            rows[row.model, row.device] = row
    yield from rows.values()


def _accuracy_row(
    record: Record, measured: AccuracyMeasurement, thresholds: Thresholds
) -> AccuracyRow:
    top1, top5 = measured.top1.k / measured.clip_count, measured.top5.k / measured.clip_count
    guide1, guide5, notes = None, None, list(_doubts(record, measured))
    if record.cell in thresholds.cells():
        limits = thresholds.limits(record.cell).accuracy
        guide1, guide5 = limits.top1.golden, limits.top5.golden
        # Where the guide gives no figure of a device, the contract takes the model zoo's.
        if guide1 is not None and "golden: its" not in limits.top1.source:
            notes.append("beside mmaction2's model zoo")
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
    speeds: dict[str, dict[int, dict[str, SpeedFigure]]] = {}
    for record in records:
        figure = _speed_figure(record, thresholds)
        if figure is not None:
            batches = speeds.setdefault(record.model, {})
            batches.setdefault(record.batch, {})[record.device] = figure
    for model, batches in speeds.items():
        best = _best(batches)
        for batch in sorted(batches):
            marked = {
                device: figure.model_copy(update={"is_best": best[device] is figure})
                for device, figure in batches[batch].items()
            }
            yield _row(model, batch, marked)
        if len(batches) > 1:
            yield _row(model, None, best)


def _best(batches: Mapping[int, Mapping[str, SpeedFigure]]) -> dict[str, SpeedFigure]:
    best: dict[str, SpeedFigure] = {}
    for figures in batches.values():
        for device, figure in figures.items():
            if device not in best or figure.per_s > best[device].per_s:
                best[device] = figure
    return best


def _row(model: str, batch: int | None, speeds: Mapping[str, SpeedFigure]) -> ThroughputRow:
    return ThroughputRow(
        model=model,
        batch=batch,
        speeds=speeds,
        ratios=_ratios({name: _in_guide_scope(name, one) for name, one in speeds.items()}),
        guide_ratios=_ratios({name: one.guide for name, one in speeds.items() if one.guide}),
    )


def _ratios(per_s: Mapping[str, float]) -> dict[str, float]:
    return {
        name: per_s[over] / per_s[under]
        for name, (over, under) in RATIOS.items()
        if over in per_s and under in per_s
    }


def _in_guide_scope(device: str, figure: SpeedFigure) -> float:
    is_card = figure.guide_scope == "card" and figure.scope == "chip"
    return figure.per_s * (CHIPS_PER_CARD.get(device, 1) if is_card else 1)


def _speed_figure(record: Record, thresholds: Thresholds) -> SpeedFigure | None:
    measured = record.measured()
    if not isinstance(measured, ThroughputMeasurement) or record.cell not in thresholds.cells():
        return None
    reference = thresholds.limits(record.cell).throughput
    speed = measured.speed(reference.definition)
    if speed is None:
        return None
    figure = SpeedFigure(
        per_s=speed.per_s.mean,
        scope=SCOPES.get(record.device, "host"),
        guide=reference.golden if _is_of_guide(reference) else None,
        guide_scope=reference.scope if _is_of_guide(reference) else None,
    )
    if figure.guide is None:
        return figure
    compared = _in_guide_scope(record.device, figure)
    note = "" if compared == figure.per_s else f"{compared:.4g} clips/s per card of four chips"
    return figure.model_copy(update={"deviation": compared / figure.guide - 1.0, "note": note})


def _is_of_guide(reference: ThroughputReference) -> bool:
    """Whether a golden is the guide's own figure and no floor of ours."""
    return reference.unit == "clips/s" and "guide" in reference.source
