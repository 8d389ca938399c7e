"""The charts of the page: margins, the export chain, latencies, sessions, speed by batch, trends."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from markupsafe import Markup

from harness.language import _
from harness.locale.recorded import translated
from harness.measure.parity import EdgeParity
from harness.measure.statistics import Interval
from harness.measure.throughput import SessionTiming
from harness.report import formats
from harness.report.svg import drawing, line, mark, nice_ticks, path, scale, tag, text
from harness.report.table_values import SpeedFigure
from harness.report.values import MarginLine

_BINS = 40


def margin_chart(finding: MarginLine) -> Markup:
    """Draw what was measured, its interval and the limit, with the good side shaded."""
    if finding.measured is None:
        return Markup("")
    width, height, y = 220, 26, 13.0
    ends = [finding.measured, finding.limit]
    if finding.interval is not None:
        ends += [finding.interval.low, finding.interval.high]
    low, high = min(ends), max(ends)
    pad = 0.15 * (high - low) or abs(high) * 0.1 or 1.0
    domain, pixels = (low - pad, high + pad), (4.0, width - 4.0)

    def x(value: float) -> float:
        return scale(domain, pixels, value)

    limit_x = x(finding.limit)
    start, end = (limit_x, pixels[1]) if finding.comparison == ">=" else (pixels[0], limit_x)
    parts = [
        tag("rect", x=start, y=4, width=max(0.0, end - start), height=18, **{"class": "good"}),
        line((limit_x, 1.0), (limit_x, 25.0), "limit"),
    ]
    if finding.interval is not None:
        parts += _whisker(x(finding.interval.low), x(finding.interval.high), y)
    parts.append(mark(x(finding.measured), y, 0, "dot"))
    label = translated(finding.text) + _between(finding.interval)
    return drawing(width, height, label, parts)


def _whisker(low: float, high: float, y: float) -> list[Markup]:
    return [
        line((low, y), (high, y), "whisker"),
        line((low, y - 5), (low, y + 5), "whisker"),
        line((high, y - 5), (high, y + 5), "whisker"),
    ]


def chain_chart(edges: Sequence[EdgeParity], limits: Mapping[str, float]) -> Markup:
    """Draw the largest error of each edge of the export chain and its limit, logarithmically."""
    width, height, left, right = 560, 34 * len(edges) + 44, 150.0, 20.0
    errors = [edge.max_abs_error or 0.0 for edge in edges]
    positive = [value for value in [*errors, *limits.values()] if value > 0] or [1.0]
    domain = (math.floor(math.log10(min(positive))) - 1.0, math.ceil(math.log10(max(positive))))
    pixels = (left, width - right)

    def x(value: float) -> float:
        return scale(domain, pixels, math.log10(value) if value > 0 else domain[0])

    parts = []
    for power in range(int(domain[0]), int(domain[1]) + 1):
        place = scale(domain, pixels, power)
        parts += [
            line((place, 8), (place, height - 30.0), "grid"),
            text(place, height - 14, f"1e{power}", "middle"),
        ]
    for row, (edge, error) in enumerate(zip(edges, errors, strict=True)):
        y = 24.0 + 34 * row
        parts += [text(left - 10, y + 4, formats.edge_name(edge.name), "end")]
        parts += [line((left, y), (x(error), y), "bar"), mark(x(error), y, 0, "dot")]
        if edge.name in limits:
            place = x(limits[edge.name])
            parts.append(line((place, y - 10), (place, y + 10), "limit"))
    said = _("{name} {error}, limit {limit}")
    label = _("Largest absolute error of each edge: ") + _("; ").join(
        said.format(
            name=formats.edge_name(edge.name),
            error=f"{error:.3g}",
            limit=formats.number(limits.get(edge.name), 3),
        )
        for edge, error in zip(edges, errors, strict=True)
    )
    return drawing(width, height, label, parts)


def latency_chart(sessions: Sequence[SessionTiming]) -> Markup:
    """Draw the latencies of each session as a histogram of its own, on one scale."""
    rows = [one.device_io_ms or one.device_ms or one.e2e_ms for one in sessions]
    rows = [times for times in rows if times]
    if not rows:
        return Markup("")
    width, left, right = 560, 90.0, 20.0
    height = 40 * len(rows) + 36
    every = sorted(time for times in rows for time in times)
    # The slowest half percent would squeeze the rest into one bin; they are drawn at the edge.
    domain = (every[0], max(every[int(0.995 * (len(every) - 1))], every[0] * 1.01))
    pixels = (left, width - right)
    parts = []
    for tick in nice_ticks(*domain):
        place = scale(domain, pixels, tick)
        parts += [
            line((place, 6), (place, height - 28.0), "grid"),
            text(place, height - 12, f"{tick:g} ms", "middle"),
        ]
    for row, times in enumerate(rows, start=1):
        base = 40.0 * row
        parts += [text(left - 10, base - 8, _("session {n}").format(n=row), "end")]
        parts += [_histogram(times, domain, pixels, base)]
        x = scale(domain, pixels, median(times))
        parts.append(line((x, base - 32), (x, base + 2), "limit"))
    said = _("session {n}: median {median} ms, {min} to {max} ms")
    label = _("Latency a query: ") + _("; ").join(
        said.format(
            n=row, **{of.__name__: formats.number(of(times), 3) for of in (median, min, max)}
        )
        for row, times in enumerate(rows, start=1)
    )
    return drawing(width, height, label, parts)


def _histogram(
    times: Sequence[float], domain: tuple[float, float], pixels: tuple[float, float], base: float
) -> Markup:
    bins = Counter(min(_BINS - 1, int(scale(domain, (0.0, _BINS), time))) for time in times)
    most, step = max(bins.values()), (pixels[1] - pixels[0]) / _BINS
    d = "".join(
        f"M{pixels[0] + place * step:.1f} {base:.1f}v{-30.0 * count / most:.1f}"
        f"h{step - 1:.1f}V{base:.1f}z"
        for place, count in sorted(bins.items())
    )
    return tag("path", d=d, **{"class": "fill"})


def sessions_chart(
    values: Sequence[float], bounds: Interval | None, floor: float, unit: str
) -> Markup:
    """Draw the speed of each session, the bounds over them and the floor."""
    width, height, y = 560, 82, 26.0
    ends = [*values, floor, *([] if bounds is None else [bounds.low, bounds.high])]
    low, high = min(ends), max(ends)
    pad = 0.08 * (high - low) or 1.0
    domain, pixels = (low - pad, high + pad), (20.0, width - 20.0)

    def x(value: float) -> float:
        return scale(domain, pixels, value)

    parts = [text(width / 2, 78, unit, "middle")]
    for tick in nice_ticks(*domain):
        parts += [
            line((x(tick), 8), (x(tick), 44), "grid"),
            text(x(tick), 60, f"{tick:g}", "middle"),
        ]
    parts.append(line((x(floor), 4), (x(floor), 46), "limit"))
    if bounds is not None:
        parts += _whisker(x(bounds.low), x(bounds.high), y)
    parts += [mark(x(value), y, 0, "dot") for value in values]
    told = ", ".join(f"{value:.4g}" for value in values) + _between(bounds)
    label = _("Speed of each session in {unit}: {told}; floor {floor}")
    label = label.format(unit=unit, told=told, floor=f"{floor:.4g}")
    return drawing(width, height, label, parts)


def _between(interval: Interval | None) -> str:
    if interval is None:
        return ""
    ends = {"low": f"{interval.low:.6g}", "high": f"{interval.high:.6g}"}
    return _(", interval {low} to {high}").format(**ends)


def speed_chart(series: Mapping[str, Mapping[int, SpeedFigure]]) -> Markup:
    """Draw speed against batch size: a line, a mark and a name for each device, with its interval.

    A hollow mark is not decided, a dash is what the guide prints, a cross what the contract expects.
    """
    batches = sorted({batch for values in series.values() for batch in values})
    if not batches:
        return Markup("")
    width, height, left, right, bottom = 560, 240, 50.0, 110.0, 200.0
    domain, across = (0.0, 1.08 * max(_heights(series))), (left + 16, width - right)
    places = {
        batch: scale((0, max(1, len(batches) - 1)), across, number)
        for number, batch in enumerate(batches)
    }

    def y_of(value: float) -> float:
        return scale(domain, (bottom, 16.0), value)

    parts = [text(left, 12, _("clips/s"), "end")]
    for tick in nice_ticks(*domain):
        parts += [
            line((left, y_of(tick)), (across[1], y_of(tick)), "grid"),
            text(left - 6, y_of(tick) + 4, f"{tick:g}", "end"),
        ]
    parts += [text(x, bottom + 18, f"bs{batch}", "middle") for batch, x in places.items()]
    parts.append(text((left + across[1]) / 2, bottom + 36, _("batch size"), "middle"))
    names = _spread({name: y_of(values[max(values)].per_s) for name, values in series.items()})
    for number, (name, values) in enumerate(series.items()):
        points = [(places[batch], y_of(values[batch].per_s)) for batch in sorted(values)]
        parts.append(path(points, f"curve s{number % 4}"))
        for batch, figure in sorted(values.items()):
            parts += _speed_marks(figure, places[batch], number, y_of)
        parts.append(mark(across[1] + 14, names[name] - 4, number, f"mark s{number % 4}"))
        parts.append(text(across[1] + 22, names[name], name))
    return drawing(width, height, _speed_label(series), parts)


def _heights(series: Mapping[str, Mapping[int, SpeedFigure]]) -> Iterator[float]:
    for figure in (figure for values in series.values() for figure in values.values()):
        yield figure.per_s
        yield from (one for one in (figure.guide, figure.golden) if one is not None)
        if figure.bounds is not None:
            yield min(figure.bounds.high, 2.0 * figure.per_s)


def _speed_marks(
    figure: SpeedFigure, x: float, number: int, y_of: Callable[[float], float]
) -> Iterator[Markup]:
    series = f"s{number % 4}"
    if figure.bounds is not None:
        yield line(
            (x, y_of(figure.bounds.low)), (x, y_of(figure.bounds.high)), f"interval {series}"
        )
    if figure.guide is not None and figure.scope == figure.guide_scope:
        y = y_of(figure.guide)
        yield line((x - 10, y), (x + 10, y), f"interval {series}")
    if figure.golden is not None:
        y = y_of(figure.golden)
        yield path([(x - 5, y - 5), (x + 5, y + 5)], f"golden {series}")
        yield path([(x - 5, y + 5), (x + 5, y - 5)], f"golden {series}")
    open_mark = "" if figure.is_decided else " hollow"
    yield mark(x, y_of(figure.per_s), number, f"mark {series}{open_mark}")


def _speed_label(series: Mapping[str, Mapping[int, SpeedFigure]]) -> str:
    told = "; ".join(
        f"{name}: " + ", ".join(f"bs{batch} {values[batch].per_s:.4g}" for batch in sorted(values))
        for name, values in series.items()
    )
    return _("Throughput by batch size: {told}").format(told=told)


def _spread(wanted: Mapping[str, float], gap: float = 15.0) -> dict[str, float]:
    """Move labels down until none covers another."""
    placed: dict[str, float] = {}
    last = -math.inf
    for name, y in sorted(wanted.items(), key=lambda item: item[1]):
        last = max(y + 4, last + gap)
        placed[name] = last
    return placed


def trend_chart(values: Sequence[float], changes: Sequence[int], label: str) -> Markup:
    """Draw a nightly series with a line at each change point."""
    width, height = 560, 90
    domain = (min(values), max(values))
    across, down = (50.0, width - 12.0), (74.0, 12.0)
    last = max(1, len(values) - 1)
    points = [
        (scale((0, last), across, number), scale(domain, down, value))
        for number, value in enumerate(values)
    ]
    parts = [text(44, 78, f"{domain[0]:.4g}", "end"), text(44, 16, f"{domain[1]:.4g}", "end")]
    parts.append(path(points, "curve s0"))
    parts += [mark(x, y, 0, "mark s0") for x, y in points[-1:]]
    for change in changes:
        x = scale((0, last), across, change - 0.5)
        parts += [line((x, 8), (x, 80), "limit"), text(x + 3, 88, _("change"))]
    return drawing(width, height, label, parts)
