"""The command of the sign-off: ``harness report``."""

import argparse
import datetime
import sys
from pathlib import Path
from typing import Any

from harness.cli.arguments import add_command, add_thresholds
from harness.contract.thresholds import stored_thresholds
from harness.nightly.history import History
from harness.record.record import RunDirectory
from harness.report.page import headline
from harness.report.write import PAGE, write_report


def add_commands(commands: Any) -> None:
    """Add ``report`` to the subcommands of ``harness``."""
    text = (
        "merge runs into one sign-off page with its PDF, Markdown summary and signoff.json; exit "
        "status 0 for SHIP, 1 for DO NOT SHIP"
    )
    added = add_command(commands, "report", _report, text, "merge runs into a sign-off page")
    added.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    added.add_argument("--output", type=Path, required=True, metavar="DIR")
    add_thresholds(added)
    added.add_argument(
        "--history", type=Path, metavar="FILE", help="nightly series, for the trends"
    )


def _report(options: argparse.Namespace) -> int:
    runs = [RunDirectory(path) for path in options.runs]
    today = datetime.datetime.now(datetime.UTC).date()
    thresholds = stored_thresholds(options.thresholds)
    history = None if options.history is None else History(options.history)
    release, problems = write_report(runs, thresholds, options.output, today, history)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{release.decision}: {headline(release)}")
    print(options.output / PAGE)
    return 0 if release.decision == "SHIP" else 1
