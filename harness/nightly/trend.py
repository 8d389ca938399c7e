"""Trends: series with their changes of level, for the page, the terminal and a picture."""

import dataclasses
import datetime
import itertools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.measure.speed import SERIES
from harness.nightly.change_points import ChangePoint
from harness.nightly.comparison import is_judged, level_changes
from harness.nightly.losses import RULES
from harness.nightly.series import Series, changed_facts

BARS = "▁▂▃▄▅▆▇█"
MARK = "|"
SHOWN_NIGHTS = 60
FORMATS = (".svg", ".png", ".pdf")
_ROW_INCHES, _WIDTH_INCHES, _EDGE_INCHES = 1.9, 9.0, 0.4
# The same trends give the same file, byte for byte.
_STYLE = {"svg.hashsalt": "harness", "font.size": 8}
_VALUES = {"marker": "o", "markersize": 2.5, "linewidth": 0.6, "color": "#4878a8"}
_LEVEL = {"color": "#222222", "linewidth": 1.4}
_WORSE, _BETTER, _CHANGE = "#b03030", "#2f7d32", {"linestyle": "--", "linewidth": 1.0}
_NOTE = {"xycoords": ("data", "axes fraction"), "xytext": (3, -9), "textcoords": "offset points"}
_TITLE = {"loc": "left", "fontsize": 8}
_UNITS = dict(SERIES.values())


@dataclasses.dataclass(frozen=True)
class Change:
    """A change of level, with the ``day`` of its first night and the ``facts`` that changed then."""

    point: ChangePoint
    day: str
    facts: tuple[str, ...]

    @property
    def text(self) -> str:
        """Say it in one line."""
        what = ", ".join(self.facts) or "no recorded fact changed"
        return f"{self.day}: {self.point.before:.4g} to {self.point.after:.4g} ({what})"


@dataclasses.dataclass(frozen=True)
class Trend:
    """A series and where its level changed, oldest first."""

    series: Series
    changes: tuple[Change, ...]

    @property
    def unit(self) -> str:
        """The unit of the values; empty for a share or an error."""
        return _UNITS.get(self.series.key.metric.rpartition(".")[2], "")

    @property
    def starts(self) -> list[int]:
        """Where in the values each new level starts."""
        return [change.point.index for change in self.changes]


def trend_of(series: Series) -> Trend:
    """Return the trend of a series that has at least one point."""
    found = []
    for point in level_changes(series):
        before, after = series.points[point.index - 1], series.points[point.index]
        found.append(Change(point, after.day, changed_facts(before.facts, after.facts)))
    return Trend(series, tuple(found))


def trends_of_cells(series: Sequence[Series], cells: Collection[str]) -> tuple[Trend, ...]:
    """Return the trends that are judged of some cells by id, from the whole series of a history."""
    wanted = {one.key: one for one in series if one.key.cell.id in cells and one.points}
    return tuple(trend_of(wanted[key]) for key in sorted(wanted) if is_judged(key, wanted))


def trend_lines(trend: Trend, nights: int = SHOWN_NIGHTS) -> list[str]:
    """Return a trend as a title, a sparkline with a bar before each change, and the changes."""
    values, points = trend.series.values, trend.series.points
    first = max(0, len(values) - nights)
    low, high = min(values[first:]), max(values[first:])
    bars = "".join(
        (MARK if index in trend.starts else "") + _bar(value, low, high)
        for index, value in enumerate(values[first:], start=first)
    )
    last = f"{values[-1]:.4g} on {points[-1].day}"
    lines = [
        trend.series.key.id,
        f"  {bars}",
        f"  {len(values)} nights, {low:.4g} to {high:.4g}, last {last}",
    ]
    for change in trend.changes:
        point = change.point
        lines.append(
            f"  {change.day}  {100 * point.change:+.1f} %  {point.before:.4g} -> "
            f"{point.after:.4g}  (p < {RULES.point_p:g})"
        )
        lines += [f"    {fact}" for fact in change.facts]
    return lines


def _bar(value: float, low: float, high: float) -> str:
    if high == low:
        return BARS[len(BARS) // 2]
    return BARS[min(len(BARS) - 1, int(len(BARS) * (value - low) / (high - low)))]


def draw(trends: Sequence[Trend], path: Path) -> None:
    """Draw a panel a trend: the nights, the level between changes, and what changed.

    Raises:
        InputError: there is nothing to draw, or no such format, or the file cannot be written.
    """
    if not trends:
        raise InputError("no series to draw; `harness history show` lists them")
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: a picture ends in {', '.join(FORMATS)}")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = _WIDTH_INCHES, _ROW_INCHES * len(trends) + _EDGE_INCHES
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(trends), squeeze=False)
        for row, one in enumerate(trends):
            _draw_one(panels[row, 0], one)
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        try:
            figure.savefig(path, metadata=metadata, dpi=110)
        except OSError as error:
            raise InputError(f"cannot write the picture {path}: {error.strerror}") from error


def _draw_one(panel: Any, trend: Trend) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    series = trend.series
    moments = [datetime.datetime.fromisoformat(point.started) for point in series.points]
    panel.plot(moments, series.values, **_VALUES)
    edges = [0, *trend.starts, len(moments)]
    for start, end in itertools.pairwise(edges):
        level = sum(series.values[start:end]) / (end - start)
        panel.hlines(level, moments[start], moments[end - 1], **_LEVEL)
    for point in (change.point for change in trend.changes):
        is_worse = (point.change < 0) == series.key.is_higher_better
        word, colour = ("worse", _WORSE) if is_worse else ("better", _BETTER)
        panel.axvline(moments[point.index], color=colour, **_CHANGE)
        note = f"{100 * point.change:+.1f} % ({word})"
        panel.annotate(note, (moments[point.index], 1.0), color=colour, **_NOTE)
    panel.set_title(series.key.id, **_TITLE)
    panel.margins(y=0.25)
    locator = AutoDateLocator()
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    panel.spines[["top", "right"]].set_visible(False)
