"""Runs -> the files of a sign-off: the page, its summary, its PDF and signoff.json."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from harness.contract.thresholds import Thresholds
from harness.errors import HarnessError, RecordError, first_line
from harness.nightly.history import History
from harness.nightly.trend import trends_of_cells
from harness.record.raw import write_atomically
from harness.record.record import RunDirectory
from harness.report.evidence import evidence_from_records
from harness.report.merge import merged_runs
from harness.report.page import headline, markdown_from_release, page_from_release
from harness.report.pdf import pdf_from_page
from harness.report.release import release_from_merged
from harness.report.values import Release

PAGE = "signoff.html"


def write_report(
    runs: Sequence[RunDirectory],
    thresholds: Thresholds,
    output: Path,
    today: datetime.date,
    history: History | None = None,
) -> tuple[Release, tuple[str, ...]]:
    """Write the four files into ``output`` and return the decision and what could not be made.

    Trends are drawn where a ``history`` is given.

    Raises:
        RecordError: a run cannot be read, or the folder cannot be written.
        HistoryError: the history cannot be read.
    """
    merged = merged_runs(runs)
    release = release_from_merged(merged, thresholds, today)
    cells = {cell.id for cell in release.cells}
    trends = () if history is None else trends_of_cells(history.series(), cells)
    evidence = evidence_from_records(merged.records.values(), runs)
    page = page_from_release(release, evidence, trends)
    texts = {
        PAGE: page,
        "signoff.md": markdown_from_release(release),
        "signoff.json": release.model_dump_json(indent=1) + "\n",
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        # The PDF of an earlier decision must not lie beside this one.
        (output / "signoff.pdf").unlink(missing_ok=True)
        for name, text in texts.items():
            write_atomically(output / name, text.encode())
    except OSError as error:
        raise RecordError(f"cannot write the report into {output}: {error.strerror}") from error
    problems = []
    try:
        unfolded = page_from_release(release, evidence, trends, is_open=True)
        pdf_from_page(unfolded, output / "signoff.pdf")
    except HarnessError as error:
        problems.append(first_line(error))
    return release, tuple(problems)


def report_lines(run: RunDirectory, thresholds: Thresholds) -> list[str]:
    """Make the report of one run inside of its folder; the last line is the path of the page."""
    folder, today = run.root / "report", datetime.datetime.now(datetime.UTC).date()
    try:
        release, problems = write_report([run], thresholds, folder, today)
    except HarnessError as error:
        return [f"no sign-off report: {error}"]
    return [*problems, f"{release.decision}: {headline(release)}", str(folder / PAGE)]
