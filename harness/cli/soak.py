"""The command ``harness soak``: one cell at work for half an hour, and how it bears that."""

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.build.workbench import Workbench
from harness.check.soak import DEFAULT_MINUTES
from harness.check.suite import Suite
from harness.cli.arguments import (
    add_command,
    add_language,
    add_thresholds,
    language_of,
    number,
    site_of,
)
from harness.contract.scope import DEFAULT_TIER, refuse_unknown_cells
from harness.contract.thresholds import Thresholds, thresholds_from_file
from harness.decide.problems import exit_status
from harness.decide.summary import summary_lines
from harness.decide.waivers import decide
from harness.errors import InputError
from harness.host.environment import environment_facts
from harness.host.progress import Progress
from harness.language import _, speaking
from harness.measure.soak import SoakMeasurement
from harness.record.begun import begun_run, run_folder
from harness.record.record import Record, RunDirectory
from harness.report.soak_figures import soak_text
from harness.report.write import report_lines
from harness.spec import Cell

TEXT = (
    "keep one cell at work without a break, ask the device's tools meanwhile how it is, and judge what "
    "changed against the contract where it sets limits: speed of the last ten minutes over that of the "
    "first (thirds of a run shorter than half an hour), temperature, memory, energy of a clip. Ctrl-C "
    "keeps what was measured, which is then no pass. Without limits the figures are shown and nothing "
    "passes (exit status 7)"
)


def add_commands(commands: Any) -> None:
    """Add ``soak`` to the subcommands of ``harness``."""
    added = add_command(commands, "soak", _soak, TEXT, "keep a cell at work and see what changes")
    added.add_argument("cell", metavar="CELL", help="such as nonlocal_r50-ascend310p-bs4")
    added.add_argument(
        *("--minutes", "-m"),
        type=number("a number of minutes from 0 to 10000", lambda value: 0.0 < value <= 1e4),
        metavar="M",
        help=f"how long (default: as the tier says, else {DEFAULT_MINUTES:g})",
    )
    added.add_argument("--tier", default=DEFAULT_TIER, metavar="TIER", help="that the run is of")
    added.add_argument("--run-dir", type=Path, metavar="DIR", help="default: a new one")
    add_thresholds(added)
    add_language(added, "the summary and the page")


def _soak(options: argparse.Namespace) -> int:
    thresholds, site = thresholds_from_file(options.thresholds), site_of(options)
    refuse_unknown_cells(site, thresholds)
    cell = _cell(options.cell, thresholds)
    minutes = options.minutes or thresholds.tier(options.tier).soak_minutes or DEFAULT_MINUTES
    root = run_folder(site.run_root, options.run_dir)
    run = begun_run(root, thresholds, options.tier, (f"{cell.id}:soak",))
    progress = Progress(sys.stderr)
    bench = Workbench(site, run.root / "logs", progress)
    asked = thresholds.with_soak(options.tier, minutes)
    with progress.watched(f"{cell.id} soak"):
        record = Suite(asked, options.tier, bench, run).check(cell, "soak")
    run.append(record)
    return _told(run, record, thresholds, language_of(options))


def _told(run: RunDirectory, record: Record, thresholds: Thresholds, spoken: str) -> int:
    """Close a run, say what it shows and make its page; return the exit status."""
    measured = record.measurement
    is_stopped = isinstance(measured, SoakMeasurement) and measured.is_stopped
    after = environment_facts(thresholds.path)
    facts = run.facts().model_copy(update={"environment_after": after, "is_over": not is_stopped})
    run.close(facts)
    decision = decide([record], facts, thresholds.file.waivers, facts.started_on)
    with speaking(spoken):
        figures = soak_text(measured) if isinstance(measured, SoakMeasurement) else []
        summary = summary_lines([record], decision, thresholds, facts)
        where = _("run: {folder}").format(folder=run.root)
    print("\n".join([*figures, "", *summary, "", where]))
    print("\n".join(report_lines(run, thresholds, spoken=spoken)))
    return exit_status(decision.problems)


def _cell(name: str, thresholds: Thresholds) -> Cell:
    cells = {cell.id: cell for cell in thresholds.cells()}
    if name not in cells:
        raise InputError(f"{thresholds.path} has no cell {name}; there are: {', '.join(cells)}")
    return cells[name]
