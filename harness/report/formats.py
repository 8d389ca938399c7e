"""Names, numbers and texts as the page and its Markdown summary write them."""

import hashlib
import html
import math
import re

from harness.language import _
from harness.report.comparison_values import Change
from harness.report.values import MarginLine

# What gives Markdown a meaning, but for < > & that HTML entities stand for; what turns text around.
_MARKUP = re.compile(r"([\\`*_{}\[\]|#~@!])")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")


def slug(name: str) -> str:
    """Return a name as the fragment of an address; one with other characters gets a digest."""
    plain = re.sub(r"[^A-Za-z0-9_.:-]+", "-", name)[:80]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number for a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}g}"


def estimate(value: float | None, low: float, high: float, factor: float = 1.0) -> str:
    """Return an estimate with its interval, both with two digits of the interval's half width."""
    if value is None:
        return "–"
    half = factor * (high - low) / 2
    digits = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 4
    numbers = (f"{round(factor * one, digits) + 0.0:.{digits}f}" for one in (value, low, high))
    return _("{value} ({low} to {high})").format(
        **dict(zip(("value", "low", "high"), numbers, strict=True))
    )


def finding_estimate(finding: MarginLine) -> str:
    """Return what a comparison is about: the estimate with its interval, where there is one."""
    value = finding.measured if finding.estimate is None else finding.estimate
    interval = finding.interval
    if interval is None:
        return number(value, 6)
    return estimate(value, interval.low, interval.high)


def changed(one: Change, value: float) -> str:
    """Return a value of a change in its own unit."""
    return percent(value) if one.unit == "points" else number(value)


def change(one: Change) -> str:
    """Return a change with its interval and unit."""
    unit = _(one.unit)
    if not one.change:
        return _("same")
    if one.low is None or one.high is None:
        return _("{change} {unit}, noise not known").format(change=f"{one.change:+.2g}", unit=unit)
    sign = "+" if one.change > 0 else ""
    return f"{sign}{estimate(one.change, one.low, one.high)} {unit}"


def percent(value: float | None, digits: int = 2) -> str:
    """Return a share as per cent; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def signed(value: float | None, unit: str = "", digits: int = 2) -> str:
    """Return a deviation with its sign; a dash where there is none."""
    # The sum turns a negative zero into a zero.
    return "–" if value is None else f"{round(value, digits) + 0.0:+.{digits}f} {unit}".rstrip()


def cell_text(text: object, length: int | None = 300) -> str:
    """Return text for a cell of a Markdown table: no line break, no bar, no markup."""
    flat = _BIDI.sub("", " ".join(str(text).split()))[:length]
    return html.escape(_MARKUP.sub(r"\\\1", flat), quote=False)


def code(text: str) -> str:
    """Return a command as code in Markdown; one with markup in it is left out."""
    return "" if re.search(r"[`<>\n]", text) else f"`{text}`"


def edge_name(name: str) -> str:
    """Return an edge of the export chain as it is drawn, such as ``torch → onnx``."""
    return name.replace("_to_", " → ")


def frame_name(jpeg: str) -> str:
    """Return the name of a picture in the style sheet."""
    return "f" + hashlib.sha256(jpeg.encode()).hexdigest()[:16]
