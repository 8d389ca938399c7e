"""The contract as a matrix for a person: what each cell must reach, and where the number comes from."""

import textwrap
from collections.abc import Iterator, Sequence

from harness.contract.tables import DeviceTable, ModelTable
from harness.contract.thresholds import Thresholds
from harness.errors import InputError
from harness.judge.limits import (
    AccuracyFloor,
    DeviceModelLimits,
    EveryClipLimits,
    MultiplyAddsLimits,
    ParityLimits,
    SoakLimits,
    StartupLimits,
    ThroughputReference,
    floor_count,
)

Bounds = MultiplyAddsLimits | ParityLimits | EveryClipLimits

WIDTH = 120
HEAD = ("cell", "", "floor", "golden", "guide", "tolerance", "unit", "source")
RIGHT = (False, False, True, True, True, True, False, False)
NONE = "–"


class Footnotes:
    """Numbers for texts, in the order in which they are asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        """Return the number of a text, as in ``[3]``."""
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"

    def lines(self) -> Iterator[str]:
        """Return the texts, wrapped."""
        for text in self.texts:
            yield from _wrapped(self.mark(text).ljust(5), text)


def matrix_lines(thresholds: Thresholds, model: str | None = None) -> list[str]:
    """Return the matrix of one model, or of all, with the sources below it.

    Raises:
        InputError: the contract has no such model; the message lists those that it has.
    """
    models = thresholds.file.models
    if model is not None and model not in models:
        known = ", ".join(models)
        raise InputError(f"{thresholds.path} has no model {model!r}; there are: {known}")
    notes, lines = Footnotes(), list[str]()
    for name in models if model is None else [model]:
        clip_count = thresholds.file.clip_sets[models[name].clip_set].clip_count
        lines += [*_model_lines(name, models[name], clip_count, notes), ""]
    return [*lines, "sources", *notes.lines()]


def _model_lines(name: str, model: ModelTable, clip_count: int, notes: Footnotes) -> Iterator[str]:
    yield f"{name} on {clip_count:,} clips of {model.clip_set}"
    paired = model.paired
    yield (
        f"  loses at most {100 * paired.margin:g} points of top-1 to PyTorch, shown at confidence "
        f"{paired.confidence:g} {notes.mark(paired.source)}"
    )
    for head, limits in _bounds(model):
        yield from _wrapped(f"  {head}: ", _bounds_text(limits, notes))
    rows = [
        row
        for device, table in model.devices.items()
        for row in _device_rows(device, table, clip_count, notes)
    ]
    yield from _table([HEAD, *rows])


def _bounds(model: ModelTable) -> Iterator[tuple[str, Bounds]]:
    if model.multiply_adds is not None:
        yield "multiply-adds beside PyTorch's", model.multiply_adds
    for precision, limits in model.parity.items():
        yield f"parity in {precision}", limits
    for precision, every in model.every_clip.items():
        yield f"every clip in {precision}", every


def _bounds_text(limits: Bounds, notes: Footnotes) -> str:
    numbers = limits.model_dump(exclude={"source"}).items()
    return f"{', '.join(f'{key} {value:g}' for key, value in numbers)} {notes.mark(limits.source)}"


def _device_rows(
    device: str, table: DeviceTable, clip_count: int, notes: Footnotes
) -> Iterator[tuple[str, ...]]:
    for label, floor in (("top-1", table.top1), ("top-5", table.top5)):
        yield (device, label, *_floor_fields(floor, clip_count), notes.mark(floor.source))
    if table.device_model is not None:
        yield from _limit_rows(device, table.device_model, notes)
    for batch, reference in table.throughput.items():
        has_golden = batch not in table.no_golden
        yield from speed_rows(f"{device}-{batch}", reference, notes, has_golden=has_golden)
    for rows in (table.startup, table.soak):
        for batch, found in rows.items():
            yield from _limit_rows(f"{device}-{batch}", found, notes)


def _limit_rows(
    cell: str, limits: DeviceModelLimits | StartupLimits | SoakLimits, notes: Footnotes
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each limit, by the name that the contract has for it."""
    for key, limit in limits.model_dump(exclude={"source"}, exclude_none=True).items():
        side = "at least" if "_min" in key else "at most"
        yield (cell, key, f"{limit:g}", NONE, NONE, NONE, side, notes.mark(limits.source))


def _floor_fields(floor: AccuracyFloor, clip_count: int) -> tuple[str, ...]:
    least = f"{floor_count(floor.floor, clip_count):,} = {_percent(floor.floor)}"
    return (least, _percent(floor.golden), _percent(floor.guide), NONE, "right clips")


def speed_rows(
    cell: str, reference: ThroughputReference, notes: Footnotes, *, has_golden: bool
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each processor that a golden was measured on; of an accelerator, one."""
    for processor in (reference.processor, *reference.golden_on):
        here, marks = reference.on_processor(processor), list[str]()
        if processor == reference.processor is not None:
            elsewhere = f"a tolerance of {reference.tolerance_elsewhere:g} on one without a golden"
            marks = [f"on {processor}; {elsewhere}"]
        elif processor is not None:
            marks = [f"on {processor}"]
        fields = _speed_fields(here, has_golden=has_golden)
        yield (cell, "speed", *fields, " ".join(map(notes.mark, [here.source, *marks])))


def _speed_fields(reference: ThroughputReference, *, has_golden: bool) -> tuple[str, ...]:
    chips = f" of {reference.chips} chips" if reference.chips > 1 else ""
    scope = "" if reference.is_of_host else f" a {reference.scope}{chips}"
    scope += f" of {reference.chip}" if reference.chip else ""
    guide = NONE if reference.guide is None else f"{reference.guide:.3f}"
    return (
        f"{reference.floor:.3f}",
        f"{reference.golden:.3f}" if has_golden else NONE,
        f"{guide} a {reference.guide_scope}" if reference.guide_scope else guide,
        f"{100 * reference.tolerance:g} %" if has_golden else NONE,
        f"{reference.unit}{scope}, {reference.definition}",
    )


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.2f} %"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, RIGHT, strict=True)
        texts = (text.rjust(width) if right else text.ljust(width) for text, width, right in cells)
        yield ("  " + "  ".join(texts)).rstrip()


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    )
