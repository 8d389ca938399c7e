"""The page: one HTML file that needs neither a network nor a server, and its Markdown summary."""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from harness import registry
from harness.nightly.trend import Trend
from harness.report import charts
from harness.report.evidence import Evidence, class_name, confused, movers
from harness.report.table_values import ThroughputRow
from harness.report.values import (
    CellLine,
    CheckLine,
    Outcome,
    ReasonKind,
    Release,
)
from harness.spec import CHECKS

if TYPE_CHECKING:
    import jinja2

# Frames of flipped clips, as base64; what is beyond stays in the raw files of the run.
STRIPS_BYTES_MAX = 2_500_000
FLIPS_MAX = 24
FULL_CONFUSION_MAX = 12
MARKDOWN_BYTES_MAX = 1_000_000

# What gives Markdown a meaning, but for < > & that HTML entities stand for; what turns text around.
_MARKUP = re.compile(r"([\\`*_{}\[\]|#~@!])")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")

SYMBOLS: Mapping[Outcome, str] = {
    "pass": "✓",
    "fail": "✗",
    "inconclusive": "?",
    "invalid": "!",
    "error": "‼",
    "not run": "○",
    "waived": "~",
}


def page_from_release(
    release: Release,
    evidence: Mapping[str, Evidence],
    trends: Sequence[Trend] = (),
    *,
    is_open: bool = False,
) -> str:
    """Return the whole page; ``is_open`` shows every cell unfolded, for print."""
    environment = _environment()
    script = environment.get_template("page.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    frames = _frames(evidence)
    return environment.get_template("page.html.j2").render(
        release=release,
        evidence=evidence,
        trends=trends,
        is_open=is_open,
        frames=frames,
        script=script,
        script_digest=digest,
        outcomes=get_args(Outcome),
        checks=CHECKS,
    )


def markdown_from_release(release: Release) -> str:
    """Return the summary for a pull request, never longer than GitHub takes (1 MiB)."""
    template = _environment().get_template("summary.md.j2")
    for most in (200, 20, 3):
        text = template.render(release=release, most=most, checks=CHECKS)
        if len(text.encode()) <= MARKDOWN_BYTES_MAX:
            return text
    return text.encode()[:MARKDOWN_BYTES_MAX].decode(errors="ignore") + "\n(cut)\n"


def headline(release: Release) -> str:
    """Say in one line what speaks against shipping, or what was shown."""
    coverage = release.coverage
    if release.decision == "SHIP":
        waived = f", {coverage.waived_checks} waived" if coverage.waived_checks else ""
        return (
            f"{coverage.passed_checks} of {coverage.required_checks} required checks passed{waived}"
        )
    counts: dict[ReasonKind, set[str]] = {}
    for reason in release.reasons:
        counts.setdefault(reason.kind, set()).update(reason.ids)
    return " · ".join(_counted(kind, len(ids)) for kind, ids in counts.items())


def _counted(kind: ReasonKind, count: int) -> str:
    return kind if not count else f"{count} × {kind}"


def slug(name: str) -> str:
    """Return a name as the fragment of an address; one with other characters gets a digest."""
    plain = re.sub(r"[^A-Za-z0-9_.:-]+", "-", name)[:80]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def by_cell(ids: Iterable[str]) -> dict[str, list[str]]:
    """Group ids of checks by their cell."""
    cells: dict[str, list[str]] = {}
    for name in ids:
        cell, _, check = name.rpartition(":")
        cells.setdefault(cell or name, []).extend([check] if cell else [])
    return cells


def flags(line: CheckLine) -> list[str]:
    """Return the blockers of a check as single words for the matrix."""
    return list(dict.fromkeys(blocker.kind for blocker in line.blockers))


def speed_series(rows: Sequence[ThroughputRow], model: str) -> dict[str, dict[int, float]]:
    """Return speeds of a model by device and batch size, for the chart."""
    series: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.model == model and row.batch is not None:
            for device, figure in row.speeds.items():
                series.setdefault(device, {})[row.batch] = figure.per_s
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


def devices_of(items: Iterable[ThroughputRow]) -> list[str]:
    """Return the devices of some rows in the order of the guides."""
    found = {device for row in items for device in row.speeds}
    order = [*registry.device_specs(), *sorted(found)]
    return sorted(found, key=order.index)


def _frames(evidence: Mapping[str, Evidence]) -> dict[str, str]:
    """Return the pictures of flipped clips by digest, each once, while there is room."""
    found: dict[str, str] = {}
    room = STRIPS_BYTES_MAX
    for one in evidence.values():
        for strip in one.strips.strips if one.strips is not None else ():
            name = frame_name(strip.jpeg)
            is_base64 = re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", strip.jpeg) is not None
            if name not in found and is_base64 and len(strip.jpeg) <= room:
                found[name] = strip.jpeg
                room -= len(strip.jpeg)
    return found


def frame_name(jpeg: str) -> str:
    """Return the name of a picture in the style sheet."""
    return "f" + hashlib.sha256(jpeg.encode()).hexdigest()[:16]


def number(value: float | None, digits: int = 4) -> str:
    """Return a number for a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}g}"


def percent(value: float | None, digits: int = 2) -> str:
    """Return a share as per cent; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def signed(value: float | None, unit: str, digits: int = 2) -> str:
    """Return a deviation with its sign; a dash where there is none."""
    # The sum turns a negative zero into a zero.
    return "–" if value is None else f"{round(value, digits) + 0.0:+.{digits}f} {unit}"


def cell_text(text: object, length: int | None = 300) -> str:
    """Return text for a cell of a Markdown table: no line break, no bar, no markup."""
    flat = _BIDI.sub("", " ".join(str(text).split()))[:length]
    return html.escape(_MARKUP.sub(r"\\\1", flat), quote=False)


def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions = (
        *(headline, slug, by_cell, flags, speed_series, limits_of_chain, devices_of),
        *(movers, confused, class_name, frame_name),
    )
    environment.globals |= {one.__name__: one for one in functions}
    environment.globals |= {
        "charts": charts,
        "symbols": SYMBOLS,
        "flips_max": FLIPS_MAX,
        "full_confusion_max": FULL_CONFUSION_MAX,
    }
    environment.filters |= {
        "number": number,
        "percent": percent,
        "signed": signed,
        "md": cell_text,
    }
    return environment
