"""The commands of the contract: ``harness thresholds`` and ``harness calibrate``."""

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from harness.check.checks import timed_sessions
from harness.check.context import Context
from harness.cli.arguments import add_command, add_group, add_thresholds, workbench_of
from harness.contract.calibrate import (
    Calibration,
    calibrated_row,
    calibration_from_runs,
    calibration_source,
)
from harness.contract.floor_lint import floor_warnings
from harness.contract.scope import DEFAULT_TIER
from harness.contract.show import matrix_lines
from harness.contract.tables import matches
from harness.contract.thresholds import (
    Thresholds,
    migrated_toml,
    tables_from_toml,
    thresholds_from_file,
)
from harness.contract.toml import literal
from harness.contract.written import written_row
from harness.decide.waivers import said
from harness.errors import InputError, InvalidMeasurement
from harness.host.busy import busy_processes
from harness.host.environment import environment_facts
from harness.spec import Cell


def add_commands(commands: Any) -> None:
    """Add ``thresholds`` and ``calibrate`` to the subcommands of ``harness``."""
    actions = add_group(commands, "thresholds", "show, lint or migrate the contract")
    text = "print what each cell must reach: floor, golden, guide, tolerance, unit and source"
    show = add_command(actions, "show", _show, text)
    show.add_argument("model", nargs="?", metavar="MODEL", help="default: all")
    add_thresholds(show)
    text = "read the contract and warn of floors within noise and of waivers that have expired"
    lint = add_command(actions, "lint", _lint, text)
    add_thresholds(lint)
    text = "write a contract of the old form (schema = 1) in today's; its comments are lost"
    migrate = add_command(actions, "migrate", _migrate, text)
    migrate.add_argument("old", type=Path, metavar="OLD")
    migrate.add_argument("--output", type=Path, metavar="NEW", help="a new file; default: print it")
    text = (
        "time the same build again and again and print the rows of the contract that follow: the "
        "golden, and the least tolerance without a false alarm; nothing is changed"
    )
    added = add_command(commands, "calibrate", _calibrate, text, "derive goldens and tolerances")
    added.add_argument("cells", nargs="+", metavar="CELL", help="id or pattern, as '*-cpu-bs1'")
    added.add_argument("--runs", type=_several, default=10, metavar="N", help="default: 10")
    text = "of a run, at least the tier's sessions_min; default: its sessions_max"
    added.add_argument("--sessions", type=_several, metavar="N", help=text)
    text = "keep N processes busy in every second run, so that the numbers hold on a busy host too"
    added.add_argument("--load", type=int, default=0, metavar="N", help=text)
    added.add_argument("--tier", default=DEFAULT_TIER, help=f"default: {DEFAULT_TIER}")
    add_thresholds(added)


def _several(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} shows no spread; give a whole number above 1")
    return int(text)


def _show(options: argparse.Namespace) -> int:
    print("\n".join(matrix_lines(thresholds_from_file(options.thresholds), options.model)))
    return 0


def _migrate(options: argparse.Namespace) -> int:
    text = migrated_toml(options.old)
    if options.output is None:
        print(text, end="")
    else:
        try:
            with options.output.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise InputError(f"cannot write {options.output}: {error.strerror}") from error
    print(f"comments of {options.old} are not in it: add them by hand", file=sys.stderr)
    return 0


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
    _, tables = tables_from_toml(options.thresholds)
    cells = _cells(thresholds, options.tier, options.cells)
    bench = workbench_of(options)
    source, status, last = _print_source(tables["sources"], options.runs, options.load), 0, ""
    for cell in cells:
        if cell.pair != last:
            print(f"\n[models.{cell.model}.devices.{cell.device}.throughput]")
        last = cell.pair
        context = Context(cell, bench, thresholds.tier(options.tier), thresholds.limits(cell))
        try:
            found = _calibrated(context, options)
            row = written_row(tables, cell)
            text = calibrated_row(row, found, context.limits.throughput, source)
            print(f"{cell.row} = {text}", flush=True)
        except InvalidMeasurement as error:
            # A comment, so that the rows of the other cells can still be pasted.
            print(f"# {cell.id}: {error}", flush=True)
            status = 1
    return status


def _print_source(sources: Mapping[str, str], run_count: int, load: int) -> str:
    """Print where all rows come from, and return the key that they name it by."""
    today = datetime.datetime.now(datetime.UTC).date()
    beside = f", every second run beside {load} busy process(es)" if load else ""
    made = f"{today}, {environment_facts()['cpu.model']}{beside}"
    text = calibration_source(made, run_count)
    names = (f"calibrated_{today:%Y_%m_%d}{suffix}" for suffix in ("", *ascii_lowercase))
    key = next(name for name in names if name not in sources)
    print(f"[sources]\n{key} = {literal(text)}")
    return key


def _cells(thresholds: Thresholds, tier: str, patterns: Sequence[str]) -> tuple[Cell, ...]:
    cells = thresholds.cells(tier)
    for pattern in patterns:
        if not any(matches(cell.id, [pattern]) for cell in cells):
            known = ", ".join(cell.id for cell in cells)
            raise InputError(f"tier {tier} has no cell {pattern!r}; there are: {known}")
    return tuple(cell for cell in cells if matches(cell.id, patterns))


def _calibrated(context: Context, options: argparse.Namespace) -> Calibration:
    """Time the A/A runs of one cell."""
    cell, plan = context.cell, context.tier.timing_for(context.cell)
    count, runs = max(2, plan.sessions_min, options.sessions or plan.sessions_max), []
    for number in range(1, options.runs + 1):
        load = 0 if number % 2 else options.load
        beside = f", {load} busy process(es)" if load else ""
        context.bench.progress.say(f"{cell.id}: A/A run {number} of {options.runs}{beside}")
        with busy_processes(load), contextlib.closing(timed_sessions(context)) as sessions:
            runs.append(list(itertools.islice(sessions, count)))
    found = calibration_from_runs(runs, cell.batch, context.limits.throughput, plan.sessions_min)
    chip = context.bench.state(cell.device).facts.get("chip")
    return dataclasses.replace(found, chip=chip)
