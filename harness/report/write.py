"""Runs -> the files of a report: the page, its summary, its PDF and its JSON."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.contract.thresholds import Thresholds
from harness.errors import HarnessError, RecordError, first_line
from harness.language import ENGLISH, _, speaking
from harness.locale.recorded import translated
from harness.nightly.baseline import read_baseline
from harness.nightly.history import History
from harness.nightly.trend import trends_of_cells
from harness.record.raw import write_atomically
from harness.record.record import RunDirectory
from harness.report.against import against_baseline, against_release
from harness.report.comparison_values import Comparison
from harness.report.evidence import Evidence, evidence_from_records
from harness.report.headline import last_line
from harness.report.merge import Merged, merged_runs
from harness.report.page import markdown_from_release, page_from_release
from harness.report.pdf import pdf_from_page
from harness.report.release import RELEASE_TIER, Head, release_from_merged, run_report_from_merged
from harness.report.values import RUN_REPORT, Release

# A run report has names of its own: nothing that signs, or asks for a decision, takes it for one.
SIGNOFF, REPORT = "signoff", "report"
SUFFIXES = (".html", ".md", ".json", ".pdf")


@dataclasses.dataclass(frozen=True)
class Other:
    """Another release: its name, its ``signoff.json`` and the runs that it rests on."""

    name: str
    signoff: bytes
    runs: tuple[RunDirectory, ...]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What kind of report is asked for.

    Attributes:
        is_release: whether to decide on a release, or to say what the runs show.
        title: product and release, for the head of the page.
        history: nightly series, for the trends; None: no trends.
        against: a frozen baseline or another release to compare with; None: nothing is.
        language: of the page and its summary; the JSON has none.
    """

    is_release: bool = True
    title: str = ""
    history: History | None = None
    against: Path | Other | None = None
    language: str = ENGLISH


def write_report(
    runs: Sequence[RunDirectory],
    thresholds: Thresholds,
    output: Path,
    today: datetime.date,
    wanted: Wanted = Wanted(),
) -> tuple[Release, tuple[str, ...]]:
    """Write the files into ``output`` and return what was decided and what could not be made.

    Raises:
        RecordError: a run cannot be read, or the folder cannot be written.
        HistoryError: the history cannot be read.
    """
    merged = merged_runs(runs)
    evidence = evidence_from_records(merged.records.values(), runs)
    head = Head(wanted.title, _compared(wanted.against, merged, evidence))
    decide = release_from_merged if wanted.is_release else run_report_from_merged
    release = decide(merged, thresholds, today, head=head)
    cells = {cell.id for cell in release.cells}
    history = wanted.history
    trends = () if history is None else trends_of_cells(history.series(), cells)
    with speaking(wanted.language):
        page, markdown = (
            page_from_release(release, evidence, trends),
            markdown_from_release(release),
        )
        unfolded = page_from_release(release, evidence, trends, is_open=True)
    texts = {
        ".html": page,
        ".md": markdown,
        ".json": release.text,
    }
    _write(output, stem(release), texts)
    problems = []
    try:
        pdf_from_page(unfolded, output / f"{stem(release)}.pdf")
    except HarnessError as error:
        problems.append(first_line(error))
    return release, tuple(problems)


def stem(release: Release) -> str:
    """Return the name of its files, without the suffix."""
    return REPORT if release.decision == RUN_REPORT else SIGNOFF


def report_lines(
    run: RunDirectory, thresholds: Thresholds, title: str = "", spoken: str = ENGLISH
) -> list[str]:
    """Make the report of one run inside of its folder; the last line is the path of the page."""
    folder, today = run.root / "report", datetime.datetime.now(datetime.UTC).date()
    try:
        wanted = Wanted(is_of_release([run]), title, language=spoken)
        release, problems = write_report([run], thresholds, folder, today, wanted)
        with speaking(spoken):
            said = [*map(translated, problems), last_line(release)]
    except HarnessError as error:
        with speaking(spoken):
            return [_("no report: {error}").format(error=translated(str(error)))]
    return [*said, str(folder / f"{stem(release)}.html")]


def is_of_release(runs: Sequence[RunDirectory]) -> bool:
    """Whether every run was made in the tier of a release.

    Raises:
        RecordError: a run cannot be read.
    """
    return {run.facts().tier for run in runs} == {RELEASE_TIER}


def _compared(
    against: Path | Other | None, merged: Merged, evidence: Mapping[str, Evidence]
) -> Comparison | None:
    if against is None:
        return None
    if isinstance(against, Path):
        return against_baseline(against, read_baseline(against), merged, evidence)
    before = merged_runs(against.runs)
    old = evidence_from_records(before.records.values(), against.runs)
    return against_release(against.name, against.signoff, (before, old), (merged, evidence))


def _write(output: Path, name: str, texts: Mapping[str, str]) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        # Nothing of an earlier decision may lie beside this one.
        for old in (SIGNOFF, REPORT):
            for suffix in SUFFIXES:
                (output / f"{old}{suffix}").unlink(missing_ok=True)
        for suffix, content in texts.items():
            write_atomically(output / f"{name}{suffix}", content.encode())
    except OSError as error:
        raise RecordError(f"cannot write the report into {output}: {error.strerror}") from error
