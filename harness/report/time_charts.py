"""Charts of what passes with time: starts, and a soak from its beginning to its end, with their tables."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from markupsafe import Markup

from harness.judge.verdict import Finding
from harness.language import _
from harness.measure.soak import SoakMeasurement
from harness.measure.soak_lines import SoakLine, SoakSample, Stretch
from harness.measure.speed import SpeedSeries
from harness.measure.startup import StartupMeasurement
from harness.report.formats import number
from harness.report.svg import drawing, line, mark, nice_ticks, path, scale, text

Points = Sequence[tuple[float, float]]
WIDTH, LEFT, RIGHT = 560, 130.0, 20.0
ACROSS = (LEFT, WIDTH - RIGHT)
_PANEL = 84.0
# What is sampled, and its unit.
_SAMPLED: Sequence[tuple[Callable[[SoakSample], float | None], str]] = (
    (lambda one: one.temperature_c, "°C"),
    (lambda one: one.power_w, "W"),
    (lambda one: one.frequency_mhz, "MHz"),
    (lambda one: one.memory_mb, "MB"),
    (lambda one: one.host_mb, "MB"),
)


def start_rows(measured: StartupMeasurement) -> list[list[str]]:
    """Return the times of each start in ms by what was timed: name, mean, least, most."""
    return [
        [name, *(number(value) for value in (one.mean, min(one.per_session), max(one.per_session)))]
        for name, one in _times(measured).items()
    ]


def start_chart(measured: StartupMeasurement, findings: Sequence[Finding]) -> Markup:
    """Draw the times of all starts, cold and warm, with the limits of those that have one."""
    series = _times(measured)
    if not series:
        return Markup("")
    limits = {_(one.name): one.limit for one in findings if one.unit == "ms"}
    times = [time for one in series.values() for time in one.per_session]
    domain, height = (0.0, 1.1 * max([*times, *limits.values()])), 34 * len(series) + 40
    parts: list[Markup] = []
    for tick in nice_ticks(*domain):
        x = scale(domain, ACROSS, tick)
        parts.append(line((x, 6), (x, height - 30.0), "grid"))
        parts.append(text(x, height - 14, f"{tick:g} ms", "middle"))
    for row, (name, one) in enumerate(series.items()):
        y = 24.0 + 34 * row
        parts.append(text(LEFT - 10, y + 4, name, "end"))
        parts += [mark(scale(domain, ACROSS, time), y, 0, "dot") for time in one.per_session]
        if name in limits:
            x = scale(domain, ACROSS, limits[name])
            parts.append(line((x, y - 10), (x, y + 10), "limit"))
    told = "; ".join(f"{name}: {number(one.mean)} ms" for name, one in series.items())
    return drawing(WIDTH, height, _("Times of the starts: {told}").format(told=told), parts)


def _times(measured: StartupMeasurement) -> dict[str, SpeedSeries]:
    named = {
        _("cold load time"): measured.cold_load_ms,
        _("cold first inference"): measured.cold_first_ms,
        _("warm load time"): measured.warm_load_ms,
        _("warm first inference"): measured.warm_first_ms,
    }
    return {name: one for name, one in named.items() if one is not None}


def soak_chart(measured: SoakMeasurement, lines: Sequence[SoakLine]) -> Markup:
    """Draw speed and whatever was sampled against time, a panel each; what nobody told is a gap."""
    if not measured.per_s:
        return Markup("")
    panels = list(_panels(measured, lines))
    minutes = (0.0, max(measured.lasted_s, measured.planned_s) / 60.0)
    height = int(_PANEL * len(panels) + 34)
    parts: list[Markup] = []
    for tick in nice_ticks(*minutes):
        x = scale(minutes, ACROSS, tick)
        parts += [line((x, 6), (x, height - 28.0), "grid")]
        parts.append(text(x, height - 12, _("{n} min").format(n=f"{tick:g}"), "middle"))
    for place, (name, runs) in enumerate(panels):
        parts += _panel(name, runs, minutes, _PANEL * place)
    names = ", ".join(name for name, _runs in panels)
    said = _("By minute: {names}. {speeds} at first, {last} at last").format(
        names=names, speeds=number(measured.per_s[0]), last=number(measured.per_s[-1])
    )
    return drawing(WIDTH, height, said, parts)


def _panel(
    name: str, runs: Sequence[Points], minutes: tuple[float, float], top: float
) -> Iterator[Markup]:
    values = [y for run in runs for _x, y in run]
    low, high = min(values), max(values)
    pad = 0.1 * (high - low) or 0.02 * abs(high) or 1.0
    domain, down = (low - pad, high + pad), (top + _PANEL - 10.0, top + 10.0)
    yield text(LEFT - 10, top + 24, name, "end")
    yield text(LEFT - 10, top + 42, f"{number(low)} – {number(high)}", "end")
    for run in runs:
        points = [(scale(minutes, ACROSS, x), scale(domain, down, y)) for x, y in run]
        yield path(points, "curve s0") if len(points) > 1 else mark(*points[0], 0, "dot")


def _panels(
    measured: SoakMeasurement, lines: Sequence[SoakLine]
) -> Iterator[tuple[str, Sequence[Points]]]:
    """Yield the name of each panel, and its points in runs without a gap."""
    stretches = [one for one in lines if isinstance(one, Stretch)]
    speeds = zip(stretches, measured.per_s, strict=True)
    yield soak_header(measured)[1], [[(one.middle_s / 60.0, speed) for one, speed in speeds]]
    samples = [one for one in lines if isinstance(one, SoakSample)]
    for (value_of, _unit), name in zip(_SAMPLED, _names(), strict=True):
        points = [(one.at_s / 60.0, value_of(one)) for one in samples]
        runs = [
            [(x, y) for x, y in group if y is not None]
            for is_known, group in itertools.groupby(points, lambda point: point[1] is not None)
            if is_known
        ]
        if runs:
            yield name, runs


def soak_header(measured: SoakMeasurement) -> list[str]:
    """Return the heads of the columns of the table behind the chart."""
    is_host = measured.definition == "processor"
    unit = _("clips a processor second") if is_host else _("clips/s")
    return [_("To minute"), unit, *_names()]


def soak_rows(measured: SoakMeasurement, lines: Sequence[SoakLine]) -> list[list[str]]:
    """Return a row a stretch: its end, its speed, and the mean of what was sampled in it."""
    samples = [one for one in lines if isinstance(one, SoakSample)]
    rows = []
    stretches = [one for one in lines if isinstance(one, Stretch)]
    for stretch, speed in zip(stretches, measured.per_s, strict=True):
        inside = [one for one in samples if stretch.start_s <= one.at_s <= stretch.end_s]
        means = [_mean([value_of(one) for one in inside]) for value_of, _unit in _SAMPLED]
        rows.append([f"{stretch.end_s / 60.0:.1f}", number(speed), *map(number, means)])
    return rows


def _names() -> list[str]:
    names = (
        _("Temperature"),
        _("Power"),
        _("Frequency"),
        _("Device memory"),
        _("Host memory"),
    )
    return [f"{name}, {unit}" for name, (_of, unit) in zip(names, _SAMPLED, strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
