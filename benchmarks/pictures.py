"""The pictures of the sign-off page in docs/, taken of the page as it is now.

    python -m benchmarks.pictures
    python -m benchmarks.pictures --output /tmp/pages    # the pages, too, in both languages

The release and the one before it are made up: each outcome stands somewhere in them, and none of
their numbers was measured.
"""

import argparse
import dataclasses
import datetime
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from harness.contract.tables import Waiver
from harness.contract.thresholds import Thresholds, thresholds_from_file
from harness.language import LANGUAGES
from harness.record.record import RunDirectory
from harness.report.pdf import browser, browser_arguments
from harness.report.write import Other, Wanted, write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TITLE = "Video classification 1.4, release candidate 2"
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture: the language of the page, the window, and what is seen of it."""

    language: str
    window: Mapping[str, int]
    part: str = ""
    whole: bool = False


PICTURES = {
    "signoff": Picture("en", DESK),
    "signoff-zh": Picture("zh", DESK),
    "signoff-movers": Picture("en", DESK, "section[aria-labelledby=against]", whole=True),
    "signoff-phone": Picture("en", PHONE, "#matrix"),
}


def main() -> None:
    """Make the pages, and take the pictures of them."""
    parser = argparse.ArgumentParser(description="the pictures of the sign-off page in docs/")
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the pages here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pages = write_pages(Path(folder), options.output or Path(folder) / "pages")
        for name, path in take(pages):
            print(f"{name}: {path}")


def write_pages(root: Path, output: Path) -> dict[str, Path]:
    """Write the report of a made-up release in each language; return the pages by language."""
    contract = thresholds_from_file(ROOT / "thresholds.toml")
    cells = contract.cells("release")
    waiver = Waiver(
        cell=cells[7].id,
        check="accuracy",
        reason="fp16 flips more clips than the margin allows",
        issue="https://example.org/issues/123",
        owner="A. Zhang",
        expires=datetime.date(2026, 12, 31),
    )
    file = contract.file.model_copy(update={"waivers": (waiver,)})
    thresholds = dataclasses.replace(contract, file=file)
    now, before = made_runs(root, thresholds)
    pages = {}
    # Made-up measurements follow from no raw file.
    with mock.patch("harness.report.merge.founded_records", RunDirectory.records):
        day = datetime.date(2026, 10, 23)
        write_report([before], contract, root / "release-1.3", day)
        signoff = (root / "release-1.3" / "signoff.json").read_bytes()
        other = Other("release-1.3", signoff, (before,))
        for name in LANGUAGES:
            wanted = Wanted(title=TITLE, against=other, language=name)
            write_report([now], thresholds, output / name, datetime.date(2026, 11, 25), wanted)
            pages[name] = output / name / "signoff.html"
    return pages


def made_runs(root: Path, thresholds: Thresholds) -> tuple[RunDirectory, RunDirectory]:
    """Make the run of a release with each outcome, and that of the release before it."""
    from tests.report.conftest import RunMaker, plans_of_every_outcome

    cells = thresholds.cells("release")
    here = [cell for cell in cells if cell.device != "cuda"]
    plans: dict[str, Any] = plans_of_every_outcome(cells)
    plans[f"{cells[7].id}:accuracy"] = {"drop": 200}
    changed = {f"{cell.id}:throughput": {"factor": 0.96} for cell in here[12:14]}
    changed |= {f"{cell.id}:throughput": {"factor": 1.08} for cell in here[14:16]}
    make = RunMaker(root, thresholds)
    before = make("before", here, changed, environment={"suite.commit": "3f7c07febd9a" + "0" * 28})
    return make("now", here, plans), before


def take(pages: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """Take the pictures, and yield each with its file."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser(), args=[*browser_arguments()]
        )
        for name, picture in PICTURES.items():
            path = DOCS / f"{name}.png"
            take_one(chromium, pages[picture.language], picture, path)
            yield name, path
        chromium.close()


def take_one(chromium: "Browser", page: Path, picture: Picture, path: Path) -> None:
    """Take one picture: of the window, or of one part of the page as a whole."""
    context = chromium.new_context(viewport=dict(picture.window), offline=True)
    opened = context.new_page()
    opened.goto(page.as_uri())
    if picture.whole:
        opened.locator(picture.part).screenshot(path=path)
    else:
        if picture.part:
            opened.locator(picture.part).evaluate("one => one.scrollIntoView()")
        opened.screenshot(path=path)
    context.close()


if __name__ == "__main__":
    main()
