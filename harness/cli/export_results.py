"""``harness export-results``: tell a stored run to a CI server or a dashboard."""

import argparse
import os
from pathlib import Path
from typing import Any

from harness.channels.job_summary import append_job_summary, job_summary_from_run
from harness.channels.junit import junit_from_run
from harness.channels.openmetrics import openmetrics_from_run
from harness.channels.stored_run import told_run
from harness.errors import InputError

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"


def add_commands(commands: Any) -> None:
    """Add ``export-results`` to the subcommands of ``harness``."""
    text = "write a run as JUnit XML, as a GitHub job summary, as OpenMetrics text"
    added = commands.add_parser("export-results", help=text, description=text)
    added.set_defaults(function=_export)
    added.add_argument("run", type=Path, help="folder of the run")
    added.add_argument("--junit", type=Path, metavar="FILE", help="for GitHub, GitLab, Jenkins")
    added.add_argument(
        "--job-summary",
        type=Path,
        metavar="FILE",
        help=f"Markdown, appended; default: ${STEP_SUMMARY}, where it is set",
    )
    added.add_argument("--openmetrics", type=Path, metavar="FILE", help="for a dashboard")


def _export(options: argparse.Namespace) -> int:
    by_github = os.environ.get(STEP_SUMMARY)
    summary = options.job_summary or (Path(by_github) if by_github else None)
    if not (summary or options.junit or options.openmetrics):
        raise InputError("nothing to write: name --junit, --job-summary or --openmetrics")
    told = told_run(options.run)
    if options.junit:
        _write(options.junit, junit_from_run(told))
    if options.openmetrics:
        _write(options.openmetrics, openmetrics_from_run(told).encode())
    if summary:
        append_job_summary(summary, job_summary_from_run(told))
        print(f"appended  {summary}")
    return 0


def _write(path: Path, content: bytes) -> None:
    """Write a file at once, as whoever collects it may read at any time."""
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temp.write_bytes(content)
        temp.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    print(f"written   {path}")
