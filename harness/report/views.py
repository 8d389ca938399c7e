"""What the page picks out of a release for one of its parts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from harness import registry
from harness.decide.summary import margin_of
from harness.language import _, later
from harness.measure.parity import EdgeParity
from harness.measure.speed import SERIES, Speed, SpeedSeries
from harness.measure.throughput import SessionTiming
from harness.nightly.series import Point
from harness.report.evidence import Evidence
from harness.report.formats import edge_name, estimate, number
from harness.report.table_values import SpeedFigure, ThroughputRow
from harness.report.values import CellLine, CheckLine, Release
from harness.spec import PYTORCH, Check, shown_checks

ONNX_FILE_SAID = later("the ONNX file")

NO_DEVICE = "no device"

# What words of the matrix mean, for those that stand in it.
_MEANINGS = {
    "seeded": later(
        "random weights stand in for the trained ones, which were not on that host: what ran is real, but "
        "it says nothing of accuracy and is never signed off"
    ),
    "partial": later(
        "run in a smaller tier or on a part of the clips, so not enough for a release"
    ),
    "emulated": later("an emulator answered in the device's place, so its times are made up"),
    "inconclusive": later("the limit lies inside the interval, so nothing is decided"),
    "invalid": later("something was measured, but in a way that does not count"),
    "waived": later("a known failure that its owner has accepted until the day named"),
    "not run": later("the device was there, but the check did not run"),
    NO_DEVICE: later("no run was on a host that has the device"),
}

# What is timed under which name.
_TIMED = {
    "device": later("computing on the device, without copies"),
    "device_io": later("with the copies to and from the device"),
    "e2e": later("from the clip's file to its class"),
    "processor": later("processor time of one thread"),
    "latency_p50_ms": later("median time of a query"),
}


def timed(names: Iterable[str]) -> dict[str, str]:
    """Return what is timed under each name, or under what it begins with before a dot."""
    known = dict.fromkeys(name.partition(".")[0] for name in names)
    return {name: _(_TIMED[name]) for name in known if name in _TIMED}


def shown_outcome(line: CheckLine, device: str, release: Release) -> str:
    """Return the outcome of a check; what did not run for want of its device is told apart."""
    is_absent = line.outcome == "not run" and device not in _present(release)
    return NO_DEVICE if is_absent else line.outcome


def meanings(release: Release) -> dict[str, str]:
    """Return what the words in the matrix mean that need it."""
    words = {word for cell in release.cells for word in _words(cell, release)}
    return {_(word): _(text) for word, text in _MEANINGS.items() if word in words}


def _words(cell: CellLine, release: Release) -> Iterator[str]:
    for line in cell.checks:
        yield shown_outcome(line, cell.device, release)
        yield from flags(line)


def matrix(release: Release) -> list[CellLine]:
    """Return the cells that have a row of their own."""
    return [cell for cell in release.cells if not is_absent(cell, release)]


def folded(release: Release) -> dict[str, list[CellLine]]:
    """Return the cells of devices that no run had, by device: a row for each device."""
    found: dict[str, list[CellLine]] = {}
    for cell in release.cells:
        if is_absent(cell, release):
            found.setdefault(cell.device, []).append(cell)
    return found


def is_absent(cell: CellLine, release: Release) -> bool:
    """Whether nothing of a cell ran, as no run had its device."""
    return all(shown_outcome(line, cell.device, release) == NO_DEVICE for line in cell.checks)


def _present(release: Release) -> set[str]:
    return {row.device for row in release.tables.versions}


def margin(line: CheckLine, found: Evidence | None) -> str:
    """Return what a cell of the matrix says of a check: the estimate with its interval, or the margin."""
    text = margin_of(line.check, line.findings) if line.margin else ""
    if line.check == "accuracy" and found is not None and found.accuracy is not None:
        top1 = found.accuracy.top1
        if top1.n and line.findings:
            ends = top1.interval
            return f"{estimate(top1.share, ends.low, ends.high, 100.0)} %, {text}"
    return text


def by_cell(ids: Iterable[str]) -> dict[str, list[str]]:
    """Group ids of checks by their cell."""
    cells: dict[str, list[str]] = {}
    for name in ids:
        cell, _, check = name.rpartition(":")
        cells.setdefault(cell or name, []).extend([check] if cell else [])
    return cells


def columns(release: Release) -> tuple[Check, ...]:
    """Return the checks that have a column."""
    return shown_checks(line.check for line in release.check_lines)


def flags(line: CheckLine) -> list[str]:
    """Return the blockers of a check as single words for the matrix."""
    return list(dict.fromkeys(blocker.kind for blocker in line.blockers))


def speed_series(rows: Sequence[ThroughputRow], model: str) -> dict[str, dict[int, SpeedFigure]]:
    """Return speeds of a model by device and batch size, for the chart."""
    series: dict[str, dict[int, SpeedFigure]] = {}
    for row in rows:
        if row.model == model and row.batch is not None:
            for device, figure in row.speeds.items():
                series.setdefault(device, {})[row.batch] = figure
    return series


def limits_of_chain(cell: CellLine) -> dict[str, float]:
    """Return the limit of the largest error by edge."""
    ending = " max abs error"
    return {
        one.name.removesuffix(ending): one.limit
        for line in cell.checks
        if line.check == "parity"
        for one in line.findings
        if one.name.endswith(ending)
    }


def beside(text: str, cell: CellLine) -> str:
    """Return a text that says PyTorch as one that says what the model of a cell is compared with."""
    if cell.model not in registry.model_names():
        return text
    if registry.model_spec(cell.model).reference == PYTORCH:
        return text
    said = text.replace(PYTORCH, _(ONNX_FILE_SAID))
    return said[:1].upper() + said[1:] if text.startswith(PYTORCH) else said


def ratio(speed: Speed) -> str:
    """Say how fast a host is beside its reference; empty where none was timed."""
    found = (
        (speed.series(against), unit) for against, (_name, unit) in SERIES.items() if unit[0] == "x"
    )
    return "".join(f", {number(series.mean)} {_(unit)}" for series, unit in found if series)


def series_in(speed: Speed, unit: str) -> SpeedSeries | None:
    """Return the speed of each session in a unit of floors."""
    return next(
        (speed.series(one) for one, (_name, known) in SERIES.items() if known == unit), None
    )


def devices_of(items: Iterable[ThroughputRow]) -> list[str]:
    """Return the devices of some rows in the order of the guides."""
    found = {device for row in items for device in row.speeds}
    order = [*registry.device_specs(), *sorted(found)]
    return sorted(found, key=order.index)


def speed_rows(
    series: Mapping[str, Mapping[int, SpeedFigure]], devices: Sequence[str]
) -> list[list[str]]:
    """Return the speeds by batch size and device, with their intervals."""
    batches = sorted({batch for values in series.values() for batch in values})
    return [
        [f"bs{batch}", *(speed_text(series.get(one, {}).get(batch)) for one in devices)]
        for batch in batches
    ]


def speed_text(figure: SpeedFigure | None) -> str:
    """Return a speed with its bounds, and whether it was told from its floor."""
    if figure is None:
        return "–"
    bounds = figure.bounds
    text = (
        number(figure.per_s) if bounds is None else estimate(figure.per_s, bounds.low, bounds.high)
    )
    return text if figure.is_decided else f"{text}, {_('inconclusive')}"


def chain_rows(edges: Sequence[EdgeParity], limits: Mapping[str, float]) -> list[list[str]]:
    """Return the largest error of each edge and its limit."""
    return [
        [edge_name(edge.name), number(edge.max_abs_error), number(limits.get(edge.name))]
        for edge in edges
    ]


def session_rows(values: Sequence[float]) -> list[list[str]]:
    """Return the speed of each session."""
    return [[str(place), number(value)] for place, value in enumerate(values, 1)]


def trend_rows(points: Sequence[Point]) -> list[list[str]]:
    """Return the value of each night."""
    return [[point.day, number(point.value)] for point in points]


def latency_rows(sessions: Sequence[SessionTiming]) -> list[list[str]]:
    """Return median, least and most of each session in ms, for the table of a chart."""
    rows = [one.device_io_ms or one.device_ms or one.e2e_ms for one in sessions]
    return [
        [str(place), *(number(value) for value in (median(times), min(times), max(times)))]
        for place, times in enumerate(rows, 1)
        if times
    ]
