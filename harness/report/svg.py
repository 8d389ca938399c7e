"""Charts drawn as SVG when the page is made: text in them, a title for screen readers, no script.

Colours come from the classes of the page's style sheet; a shape or a label repeats each of them.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

Points = Sequence[tuple[float, float]]


def tag(name: str, content: str | Markup = "", **attributes: object) -> Markup:
    """Return an SVG element; text and attributes are escaped, ``_`` in a name becomes ``-``."""
    parts = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _text(value))
        for key, value in attributes.items()
    ]
    start = Markup("<") + Markup(name) + Markup("").join(parts)
    if not content:
        return start + Markup("/>")
    return start + Markup(">") + escape(content) + Markup("</") + Markup(name) + Markup(">")


def _text(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def drawing(width: int, height: int, label: str, parts: Sequence[Markup]) -> Markup:
    """Return a whole picture that a screen reader tells by ``label``."""
    return tag(
        "svg",
        Markup("").join(parts),
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
    )


def text(x: float, y: float, content: str, anchor: str = "start", class_: str = "") -> Markup:
    """Return a label."""
    extra = {"class": class_} if class_ else {}
    return tag("text", content, x=x, y=y, text_anchor=anchor, **extra)


def line(start: tuple[float, float], end: tuple[float, float], class_: str) -> Markup:
    """Return a straight line."""
    return tag("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], **{"class": class_})


def path(points: Points, class_: str) -> Markup:
    """Return a line through points."""
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return tag("path", d=d, **{"class": class_})


MARKS = ("circle", "square", "triangle", "diamond")


def mark(x: float, y: float, shape: int, class_: str) -> Markup:
    """Return a point, in one of the shapes that tell series apart without colour."""
    match MARKS[shape % len(MARKS)]:
        case "circle":
            return tag("circle", cx=x, cy=y, r=4, **{"class": class_})
        case "square":
            return tag("rect", x=x - 3.5, y=y - 3.5, width=7, height=7, **{"class": class_})
        case "triangle":
            d = f"M{x:.1f} {y - 5:.1f}l5 9h-10z"
        case _:
            d = f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z"
    return tag("path", d=d, **{"class": class_})


def scale(domain: tuple[float, float], pixels: tuple[float, float], value: float) -> float:
    """Return where a value lies; what is outside of the domain lies on its edge."""
    low, high = domain
    share = 0.5 if high == low else (value - low) / (high - low)
    return pixels[0] + min(1.0, max(0.0, share)) * (pixels[1] - pixels[0])


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round values that lie in a range."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * n for n in range(first, math.floor(high / step + 1e-9) + 1)]
