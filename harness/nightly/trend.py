"""Series of the history as text and as a picture, with the change points marked."""

import datetime
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.nightly.comparison import Past, level_changes
from harness.nightly.losses import RULES
from harness.nightly.series import Series, changed_facts

BARS = "▁▂▃▄▅▆▇█"
MARK = "|"
SHOWN_NIGHTS = 60
FORMATS = (".svg", ".png", ".pdf")
_ROW_INCHES = 1.9


def trend_lines(series: Series, nights: int = SHOWN_NIGHTS) -> list[str]:
    """Return a series as a title, a sparkline with a bar before each change, and the changes."""
    points = level_changes(Past(series, None, 0))
    first = max(0, len(series.points) - nights)
    values = series.values
    shown = values[first:]
    low, high = min(shown), max(shown)
    starts = {point.index - first for point in points}
    bars = "".join(
        (MARK if index in starts else "") + _bar(value, low, high)
        for index, value in enumerate(shown)
    )
    last = f"{values[-1]:.4g} on {series.points[-1].started[:10]}"
    lines = [
        series.key.id,
        f"  {bars}",
        f"  {len(values)} nights, {low:.4g} to {high:.4g}, last {last}",
    ]
    for point in points:
        before, night = series.points[point.index - 1], series.points[point.index]
        lines.append(
            f"  {night.started[:10]}  {100 * point.change:+.1f} %  {point.before:.4g} -> "
            f"{point.after:.4g}  (p < {RULES.point_p:g})"
        )
        lines += [f"    {change}" for change in changed_facts(before.facts, night.facts)]
    return lines


def _bar(value: float, low: float, high: float) -> str:
    if high == low:
        return BARS[len(BARS) // 2]
    return BARS[min(len(BARS) - 1, int(len(BARS) * (value - low) / (high - low)))]


def draw(series: Sequence[Series], path: Path) -> None:
    """Draw a panel a series: the nights, the level between changes, and what changed.

    Raises:
        InputError: there is nothing to draw, or no such format, or the file cannot be written.
    """
    if not series:
        raise InputError("no series to draw; `harness history show` lists them")
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: a picture ends in {', '.join(FORMATS)}")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "harness", "font.size": 8}):
        figure = Figure(figsize=(9.0, _ROW_INCHES * len(series) + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(series), 1, squeeze=False)[:, 0]
        for panel, one in zip(panels, series, strict=True):
            _draw_one(panel, one)
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        try:
            figure.savefig(path, metadata=metadata, dpi=110)
        except OSError as error:
            raise InputError(f"cannot write the picture {path}: {error.strerror}") from error


def _draw_one(panel: Any, series: Series) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    moments = [datetime.datetime.fromisoformat(point.started) for point in series.points]
    panel.plot(moments, series.values, "o-", markersize=2.5, linewidth=0.6, color="#4878a8")
    points = level_changes(Past(series, None, 0))
    edges = [0, *(point.index for point in points), len(moments)]
    for start, end in itertools.pairwise(edges):
        level = sum(series.values[start:end]) / (end - start)
        panel.hlines(level, moments[start], moments[end - 1], color="#222222", linewidth=1.4)
    for point in points:
        is_worse = (point.change < 0) == series.key.is_higher_better
        colour = "#b03030" if is_worse else "#2f7d32"
        panel.axvline(moments[point.index], color=colour, linestyle="--", linewidth=1.0)
        word = "worse" if is_worse else "better"
        panel.annotate(
            f"{100 * point.change:+.1f} % ({word})",
            (moments[point.index], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -9),
            textcoords="offset points",
            color=colour,
        )
    panel.set_title(series.key.id, loc="left", fontsize=8)
    panel.margins(y=0.25)
    locator = AutoDateLocator()
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    panel.spines[["top", "right"]].set_visible(False)
