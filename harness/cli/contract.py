"""The commands of the contract: ``harness thresholds lint`` and ``harness calibrate``."""

import argparse
import contextlib
import datetime
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.build.workbench import Workbench
from harness.check.checks import Context, timed_sessions
from harness.contract.calibrate import calibration_from_runs, calibration_toml
from harness.contract.floor_lint import floor_warnings
from harness.contract.scope import DEFAULT_TIER
from harness.contract.tables import matches
from harness.contract.thresholds import Thresholds, thresholds_from_file
from harness.decide.waivers import said
from harness.errors import InputError, InvalidMeasurement
from harness.host.environment import environment_facts
from harness.host.progress import Progress
from harness.host.site import FIXTURES, load_site
from harness.spec import Cell

THRESHOLDS = FIXTURES.parent / "thresholds.toml"


def add_commands(commands: Any) -> None:
    """Add ``thresholds`` and ``calibrate`` to the subcommands of ``harness``."""
    text = "read the contract and warn of floors within noise and of waivers that have expired"
    added = commands.add_parser("thresholds", help=text, description=text)
    added.set_defaults(function=_lint)
    added.add_argument("action", choices=("lint",))
    _add_file(added)
    text = (
        "time the same build again and again and print the speed reference that follows: golden, "
        "and the least tolerance without a false alarm; nothing is changed"
    )
    added = commands.add_parser("calibrate", help="derive a speed reference", description=text)
    added.set_defaults(function=_calibrate)
    added.add_argument("cells", nargs="+", metavar="CELL", help="id or pattern, as '*-cpu-bs1'")
    added.add_argument("--runs", type=_several, default=10, metavar="N", help="default: 10")
    text = "of a run, at least the tier's sessions_min; default: its sessions_max"
    added.add_argument("--sessions", type=_several, metavar="N", help=text)
    added.add_argument("--tier", default=DEFAULT_TIER, help=f"default: {DEFAULT_TIER}")
    _add_file(added)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--thresholds", type=Path, default=THRESHOLDS, metavar="FILE")


def _several(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} shows no spread; give a whole number above 1")
    return int(text)


def _lint(options: argparse.Namespace) -> int:
    thresholds = thresholds_from_file(options.thresholds)
    today = datetime.datetime.now(datetime.UTC).date()
    expired = [waiver for waiver in thresholds.file.waivers if waiver.expires < today]
    lines = [
        *(f"warning: {text}" for text in floor_warnings(thresholds, thresholds.cells())),
        *(f"expired: the waiver of {waiver.id} ({said(waiver)})" for waiver in expired),
    ]
    print("\n".join([*lines, f"{thresholds.path} can be used; {len(lines)} remark(s)"]))
    return 1 if expired else 0


def _calibrate(options: argparse.Namespace) -> int:
    thresholds = thresholds_from_file(options.thresholds)
    site = load_site(options.site, os.environ)
    bench = Workbench(site, Path(tempfile.mkdtemp(prefix="harness-logs-")), Progress(sys.stderr))
    status = 0
    for cell in _cells(thresholds, options.tier, options.cells):
        context = Context(cell, bench, thresholds.tier(options.tier), thresholds.limits(cell))
        try:
            text = _calibrated(context, options.runs, options.sessions)
        except InvalidMeasurement as error:
            # A comment, so that the tables of the other cells can still be pasted.
            text, status = f"# {cell.id}: {error}", 1
        print(text, end="\n\n", flush=True)
    return status


def _cells(thresholds: Thresholds, tier: str, patterns: Sequence[str]) -> tuple[Cell, ...]:
    cells = thresholds.cells(tier)
    for pattern in patterns:
        if not any(matches(cell.id, [pattern]) for cell in cells):
            known = ", ".join(cell.id for cell in cells)
            raise InputError(f"tier {tier} has no cell {pattern!r}; there are: {known}")
    return tuple(cell for cell in cells if matches(cell.id, patterns))


def _calibrated(context: Context, run_count: int, session_count: int | None) -> str:
    """Time the A/A runs of one cell and return its table."""
    cell, plan = context.cell, context.tier.timing_for(context.cell)
    count, runs = max(2, plan.sessions_min, session_count or plan.sessions_max), []
    for number in range(1, run_count + 1):
        context.bench.progress.say(f"{cell.id}: A/A run {number} of {run_count}")
        with contextlib.closing(timed_sessions(context)) as sessions:
            runs.append(list(itertools.islice(sessions, count)))
    reference = context.limits.throughput
    found = calibration_from_runs(runs, cell.batch, reference, plan.sessions_min)
    cpu = environment_facts(None)["cpu.model"]
    made = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {cpu}"
    return calibration_toml(cell, found, reference, made)
