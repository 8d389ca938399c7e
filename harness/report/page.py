"""The page: one HTML file that needs neither a network nor a server, and its Markdown summary."""

import base64
import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from harness.decide import wording
from harness.language import _, language, n_
from harness.locale.recorded import translated
from harness.nightly.trend import Trend
from harness.report import (
    charts,
    evidence,
    formats,
    headline,
    hosts,
    signature,
    soak_figures,
    time_charts,
    views,
)
from harness.report.values import RUN_REPORT, Outcome, Release

if TYPE_CHECKING:
    import jinja2

# Frames of flipped clips, as base64; what is beyond stays in the raw files of the run.
STRIPS_BYTES_MAX = 2_500_000
FLIPS_MAX = 24
FULL_CONFUSION_MAX = 12
# Of a table beside a chart, on a phone.
COLUMNS_MAX = 3
MARKDOWN_BYTES_MAX = 1_000_000

SYMBOLS: Mapping[str, str] = {
    views.NO_DEVICE: "–",
    "pass": "✓",
    "fail": "✗",
    "inconclusive": "?",
    "invalid": "!",
    "error": "‼",
    "not run": "○",
    "waived": "~",
}


@dataclasses.dataclass(frozen=True)
class Live:
    """How far a run is: checks that ended, of all that it has to run, and what is going on now."""

    ended: int
    all: int
    now: tuple[str, ...] = ()
    every_s: int = 5


def page_from_release(
    release: Release,
    found: Mapping[str, evidence.Evidence],
    trends: Sequence[Trend] = (),
    *,
    is_open: bool = False,
    live: Live | None = None,
    beside: Sequence[str] = ("json", "pdf", "md"),
) -> str:
    """Return the whole page; ``is_open`` shows every cell unfolded, for print.

    ``live`` says how far a run is that still goes on; the page then loads itself again. ``beside`` names
    the kinds of file that lie beside the page, to which it links.
    """
    environment = _environment()
    script = environment.get_template("page.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    frames = _frames(found)
    return environment.get_template("page.html.j2").render(
        release=release,
        language=language(),
        found_by_cell=found,
        trends=trends,
        is_open=is_open,
        live=live,
        beside=beside,
        frames=frames,
        script=script,
        script_digest=digest,
        banner=_banner(release),
        json_digest=hashlib.sha256(release.text.encode()).hexdigest(),
        texts=_texts(),
        outcomes=get_args(Outcome),
        checks=views.columns(release),
    )


def _banner(release: Release) -> str:
    """Return whether the head of the page is green, red or neither."""
    if release.decision != RUN_REPORT:
        return "yes" if release.decision == "SHIP" else "no"
    required = {reason.kind for reason in release.reasons if reason.is_required}
    if required & {"fail", "error", "invalid", "broken run", "unfounded"}:
        return "no"
    return "open" if required else "yes"


def _texts() -> dict[str, str]:
    """Return what the script says."""
    return {
        "copy": _("Copy"),
        "label": _("Copy the command"),
        "copied": _("Copied"),
        "shown": _("{shown} of {all} cells shown"),
    }


def markdown_from_release(release: Release) -> str:
    """Return the summary for a pull request, never longer than GitHub takes (1 MiB)."""
    template = _environment().get_template("summary.md.j2")
    for most in (200, 20, 3):
        text = template.render(release=release, most=most, checks=views.columns(release))
        if len(text.encode()) <= MARKDOWN_BYTES_MAX:
            return text
    return text.encode()[:MARKDOWN_BYTES_MAX].decode(errors="ignore") + "\n(cut)\n"


def _frames(found: Mapping[str, evidence.Evidence]) -> dict[str, str]:
    """Return the pictures of flipped clips by digest, each once, while there is room."""
    pictures: dict[str, str] = {}
    room = STRIPS_BYTES_MAX
    for one in found.values():
        for strip in one.strips.strips if one.strips is not None else ():
            name = formats.frame_name(strip.jpeg)
            is_base64 = re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", strip.jpeg) is not None
            if name not in pictures and is_base64 and len(strip.jpeg) <= room:
                pictures[name] = strip.jpeg
                room -= len(strip.jpeg)
    return pictures


def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    modules = (
        charts,
        evidence,
        formats,
        headline,
        hosts,
        signature,
        soak_figures,
        time_charts,
        views,
        wording,
    )
    environment.globals |= {one.__name__.rpartition(".")[2]: one for one in modules}
    environment.globals |= {
        "_": _,
        "n_": n_,
        "symbols": SYMBOLS,
        "flips_max": FLIPS_MAX,
        "columns_max": COLUMNS_MAX,
        "full_confusion_max": FULL_CONFUSION_MAX,
    }
    filters = (formats.number, formats.percent, formats.signed, formats.code)
    environment.filters |= {one.__name__: one for one in filters}
    environment.filters |= {"_": _, "beside": views.beside, "translated": translated}
    environment.filters["md"] = formats.cell_text
    return environment
