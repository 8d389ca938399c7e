"""The command ``harness bisect``: which input changed between a good and a bad run."""

import argparse
from pathlib import Path
from typing import Any

from harness.build.workbench import Workbench
from harness.check.checks import CHECK_FUNCTIONS
from harness.check.context import Context
from harness.cli.arguments import add_command, add_thresholds, site_of
from harness.contract.thresholds import Thresholds, thresholds_from_file
from harness.errors import RecordError
from harness.judge.verdict import Verdict
from harness.measure.measurement import Measurement
from harness.nightly.bisect import (
    RunCheck,
    broken_checks,
    common_record,
    difference_lines,
    differences,
    trial_lines,
    trials,
)
from harness.record.record import RunDirectory
from harness.spec import Cell, Check


def add_commands(commands: Any) -> None:
    """Add ``bisect`` to the subcommands of ``harness``."""
    text = (
        "say which recorded inputs changed between a good and a bad run, and run the check again "
        "with each stage of the good run that the artifact store still has"
    )
    added = add_command(commands, "bisect", _bisect, text, "find which input changed")
    added.add_argument("good", type=Path, metavar="GOOD", help="folder of a run")
    added.add_argument("bad", type=Path, metavar="BAD", help="folder of a run")
    added.add_argument("--check", metavar="ID", help="such as nonlocal_r50-cpu-bs1:accuracy")
    added.add_argument("--no-run", action="store_true", help="only say what changed")
    add_thresholds(added)


def _bisect(options: argparse.Namespace) -> int:
    good, bad = RunDirectory(options.good.resolve()), RunDirectory(options.bad.resolve())
    names = [options.check] if options.check else broken_checks(good, bad)
    if not names:
        raise RecordError("no check passed in GOOD and not in BAD; name one with --check")
    for name in names:
        found = differences(good, bad, name)
        print("\n".join([name, *difference_lines(found)]))
        if options.no_run:
            continue
        before, after = common_record(good, name), common_record(bad, name)
        thresholds = thresholds_from_file(options.thresholds)
        tried = list(
            trials(before, found, site_of(options), _check_runner(thresholds, before.tier))
        )
        print("\n".join(trial_lines(before, after, tried)))
    return 0


def _check_runner(thresholds: Thresholds, tier: str) -> RunCheck:
    def run_check(bench: Workbench, cell: Cell, check: Check) -> tuple[Measurement, Verdict]:
        context = Context(cell, bench, thresholds.tier(tier), thresholds.limits(cell))
        found = CHECK_FUNCTIONS[check](context)
        return found.measurement, found.verdict

    return run_check
