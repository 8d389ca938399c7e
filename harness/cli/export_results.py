"""``harness export-results``: a stored run for a CI server or a dashboard."""

import argparse
import os
from pathlib import Path
from typing import Any

from harness.channels.junit import junit_from_suites
from harness.channels.markdown import append_job_summary
from harness.channels.openmetrics import openmetrics_from_run
from harness.channels.run_report import run_suites, run_summary
from harness.channels.stored_run import stored_run
from harness.cli.arguments import add_command, add_language, language_of, write_output
from harness.errors import InputError
from harness.language import speaking

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"


def add_commands(commands: Any) -> None:
    """Add ``export-results`` to the subcommands of ``harness``."""
    text = "write a run as JUnit XML, as a GitHub job summary, as OpenMetrics text"
    added = add_command(commands, "export-results", _export, text)
    added.add_argument("run", type=Path, help="folder of the run")
    added.add_argument("--junit", type=Path, metavar="FILE", help="for GitHub, GitLab, Jenkins")
    added.add_argument(
        "--job-summary",
        type=Path,
        metavar="FILE",
        help=f"Markdown, appended; default: ${STEP_SUMMARY}, where it is set",
    )
    added.add_argument("--openmetrics", type=Path, metavar="FILE", help="for a dashboard")
    add_language(added, "the texts in JUnit and in the job summary")


def _export(options: argparse.Namespace) -> int:
    by_github = os.environ.get(STEP_SUMMARY)
    summary = options.job_summary or (Path(by_github) if by_github else None)
    if not (summary or options.junit or options.openmetrics):
        raise InputError("nothing to write: name --junit, --job-summary or --openmetrics")
    run = stored_run(options.run)
    if options.openmetrics:
        _write(options.openmetrics, openmetrics_from_run(run).encode())
    with speaking(language_of(options)):
        if options.junit:
            _write(options.junit, junit_from_suites("acceptance", run_suites(run)))
        if summary:
            append_job_summary(summary, run_summary(run))
            print(f"appended  {summary}")
    return 0


def _write(path: Path, content: bytes) -> None:
    write_output(path, content)
    print(f"written   {path}")
