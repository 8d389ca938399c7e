"""The strip of a farm: which host did what when."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from harness.language import _, n_
from harness.record.stints import Stint
from harness.report.evidence import Evidence
from harness.report.svg import drawing, line, nice_ticks, path, scale, tag, text

# Pauses of a host that do not end a span: between one shard and the next.
_PAUSE_S = 5.0
_LANE, _LEFT, _WIDTH = 16, 110.0, 720


@dataclasses.dataclass(frozen=True)
class Span:
    """What a host did without a longer pause, in seconds from the first; ``times`` is how many calls."""

    host: str
    what: str
    start_s: float
    end_s: float
    times: int
    faults: tuple[str, ...]


def spans(found: Mapping[str, Evidence]) -> list[Span]:
    """Return what the hosts of all cells did, by host, the first first; none without a farm."""
    stints = [stint for one in found.values() for stint in one.stints]
    origin_s = min((stint.start_s for stint in stints), default=0.0)
    ordered = sorted(stints, key=lambda one: (one.host, one.what, one.start_s))
    made = [
        span
        for _key, group in itertools.groupby(ordered, lambda one: (one.host, one.what))
        for span in _joined(list(group), origin_s)
    ]
    return sorted(made, key=lambda one: (one.host, one.start_s))


def strip_chart(items: Sequence[Span]) -> Markup:
    """Draw a row of bars for each host; bars at one time lie below each other, a cross is work lost.

    A number names what a bar is; the table behind has the words.
    """
    if not items:
        return Markup("")
    lanes, numbers = _lanes(items), numbers_of(items)
    height = _LANE * len(lanes) + 40
    end_s = max(one.end_s for one in items) or 1.0
    pixels = (_LEFT, _WIDTH - 16.0)
    parts = []
    for tick in nice_ticks(0.0, end_s / 60.0):
        x = scale((0.0, end_s / 60.0), pixels, tick)
        parts += [
            line((x, 4), (x, height - 30.0), "grid"),
            text(x, height - 14, f"{tick:g}", "middle"),
        ]
    parts.append(text(_LEFT - 8, height - 14, _("minutes"), "end"))
    for row, lane in enumerate(lanes):
        y = 6.0 + _LANE * row
        if row == 0 or lane[0].host != lanes[row - 1][0].host:
            parts.append(text(_LEFT - 8, y + 10, lane[0].host[:16], "end"))
        for one in lane:
            ends = scale((0.0, end_s), pixels, one.start_s), scale((0.0, end_s), pixels, one.end_s)
            parts += _bar(one, numbers[one.what], ends, y)
    return drawing(_WIDTH, height, _label(items), parts)


def strip_rows(items: Sequence[Span]) -> list[list[str]]:
    """Return the same as a table: host, number, what, from and to in seconds, calls, what was lost."""
    numbers = numbers_of(items)
    return [
        [
            *(one.host, str(numbers[one.what]), one.what),
            *(f"{one.start_s:.1f}", f"{one.end_s:.1f}", str(one.times), "; ".join(one.faults)),
        ]
        for one in items
    ]


def numbers_of(items: Iterable[Span]) -> dict[str, int]:
    """Return the number of each thing that was done, from 1, in the order of their starts."""
    ordered = sorted(items, key=lambda one: one.start_s)
    names = dict.fromkeys(one.what for one in ordered)
    return {name: number for number, name in enumerate(names, start=1)}


def _joined(stints: Sequence[Stint], origin_s: float) -> list[Span]:
    made: list[Span] = []
    for one in stints:
        start_s, end_s = one.start_s - origin_s, one.end_s - origin_s
        faults = (one.fault,) if one.fault else ()
        if made and start_s - made[-1].end_s <= _PAUSE_S:
            last = made.pop()
            start_s, end_s = last.start_s, max(last.end_s, end_s)
            made.append(
                Span(one.host, one.what, start_s, end_s, last.times + 1, last.faults + faults)
            )
        else:
            made.append(Span(one.host, one.what, start_s, end_s, 1, faults))
    return made


def _lanes(items: Sequence[Span]) -> list[list[Span]]:
    """Lay the spans of each host into as few rows as keep them apart."""
    lanes: list[list[Span]] = []
    for one in items:
        free = (
            lane for lane in lanes if lane[0].host == one.host and lane[-1].end_s <= one.start_s
        )
        lane = next(free, None)
        if lane is None:
            lanes.append([one])
        else:
            lane.append(one)
    return lanes


def _bar(one: Span, number: int, ends: tuple[float, float], y: float) -> list[Markup]:
    (start, end), class_ = ends, f"mark s{number % 4}"
    width = max(1.5, end - start)
    parts = [tag("rect", x=start, y=y, width=width, height=11, **{"class": class_})]
    if width > 7 * len(str(number)) + 2:
        parts.append(text(start + width / 2, y + 9.5, str(number), "middle", "inbar"))
    if one.faults:
        parts += [path([(end - 4, y + 1), (end + 4, y + 10)], "golden s1")]
        parts += [path([(end - 4, y + 10), (end + 4, y + 1)], "golden s1")]
    return parts


def _label(items: Sequence[Span]) -> str:
    groups = itertools.groupby(items, lambda one: one.host)
    told = _("; ").join(_worked(host, list(group)) for host, group in groups)
    return _("Which host did what when: {told}").format(told=told)


def _worked(host: str, items: Sequence[Span]) -> str:
    text = n_(
        "{host}: {n} span, {minutes} minutes of work",
        "{host}: {n} spans, {minutes} minutes of work",
        len(items),
    )
    minutes = sum(one.end_s - one.start_s for one in items) / 60.0
    return text.format(host=host, n=len(items), minutes=f"{minutes:.1f}")
