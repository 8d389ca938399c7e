"""The commands of the night: ``harness history``, ``baseline`` and ``gate``."""

import argparse
import datetime
from pathlib import Path
from typing import Any

from harness.channels.gate_report import gate_lines, gate_suites, gate_summary
from harness.channels.junit import junit_from_suites
from harness.channels.markdown import append_job_summary
from harness.cli.arguments import (
    add_command,
    add_group,
    add_language,
    add_thresholds,
    language_of,
    site_of,
    write_output,
)
from harness.contract.thresholds import thresholds_from_file
from harness.errors import HistoryError
from harness.language import speaking
from harness.nightly.baseline import freeze, read_baseline, write_baseline
from harness.nightly.gate import GateReport, gate_run, newest_run, night_without_run
from harness.nightly.history import History
from harness.nightly.trend import draw, trend_lines, trend_of
from harness.record.record import RunDirectory

NIGHT_HOURS = 26.0


def add_commands(commands: Any) -> None:
    """Add the commands of the night to the subcommands of ``harness``."""
    _add_history(commands)
    _add_baseline(commands)
    _add_gate(commands)


def _add_history(commands: Any) -> None:
    actions = add_group(commands, "history", "add runs to the nightly history, or show its series")
    added = add_command(
        actions, "add", _history_add, "add stored runs; one that is there changes nothing"
    )
    added.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    _add_history_option(added)
    added = add_command(actions, "show", _history_show, "trends of the series, with change points")
    added.add_argument("pattern", nargs="?", default="*", help="such as '*:throughput:*'")
    added.add_argument("--tier", help="only runs of this tier")
    added.add_argument("--nights", type=int, default=60, metavar="N", help="how many are drawn")
    added.add_argument("--picture", type=Path, metavar="FILE", help=".svg, .png or .pdf")
    _add_history_option(added)


def _add_baseline(commands: Any) -> None:
    text = "freeze the release that nights are compared with, or show it"
    actions = add_group(commands, "baseline", text)
    text = "freeze green runs; never done by itself, and never in place of an older baseline"
    added = add_command(actions, "freeze", _baseline_freeze, text)
    added.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="ten are a good number")
    added.add_argument("--output", type=Path, required=True, metavar="FILE")
    added.add_argument("--reviewer", required=True, help="who answers for it")
    added.add_argument("--reason", required=True, help="why, such as the release")
    added.add_argument("--cells", default="*", metavar="PATTERN", help="only these cells")
    added = add_command(actions, "show", _baseline_show, "say what a baseline holds")
    added.add_argument("baseline", type=Path, metavar="FILE")


def _add_gate(commands: Any) -> None:
    text = (
        "decide whether the night is green: contract floors, ratio to the frozen baseline, change "
        "points. Exit status 0 green, 1 red, 6 something is missing, 7 inconclusive, 2 unusable "
        "input"
    )
    added = add_command(commands, "gate", _gate, text, "judge a night")
    added.add_argument("run", nargs="?", type=Path, help="default: the newest of the history")
    _add_history_option(added)
    choice = added.add_mutually_exclusive_group()
    choice.add_argument("--baseline", type=Path, metavar="FILE", help="default: as site.toml says")
    choice.add_argument("--without-baseline", action="store_true", help="leave that layer out")
    add_thresholds(added)
    add_language(added, "the report")
    added.add_argument(
        "--night-hours",
        type=float,
        default=NIGHT_HOURS,
        metavar="N",
        help="without RUN: a newest run that is older is a missing night (default: 26)",
    )
    added.add_argument("--markdown", type=Path, metavar="FILE", help="add the report, as Markdown")
    added.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit XML")


def _add_history_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--history", type=Path, metavar="FILE", help="default: as site.toml says")


def _history_add(options: argparse.Namespace) -> int:
    history = _history(options)
    for root in options.runs:
        added = history.append(RunDirectory(root.resolve()))
        word = "added" if added.is_new else "was there"
        print(f"{word:<10} {root.name}" + (f"  {added.note}" if added.note else ""))
    return 0


def _history_show(options: argparse.Namespace) -> int:
    history = _history(options)
    series = history.series(options.pattern, options.tier)
    if not series:
        raise HistoryError(f"{history.path} has no series that fits {options.pattern!r}")
    trends = [trend_of(one) for one in series]
    for trend in trends:
        print("\n".join(trend_lines(trend, options.nights)))
    for night in history.nights(options.tier):
        if night.note:
            print(f"note: {night.run_id}: {night.note}")
    if options.picture is not None:
        draw(trends, options.picture)
        print(f"picture: {options.picture}")
    return 0


def _baseline_freeze(options: argparse.Namespace) -> int:
    runs = [RunDirectory(root.resolve()) for root in options.runs]
    today = datetime.datetime.now(datetime.UTC).date()
    baseline = freeze(runs, options.cells, options.reviewer, options.reason, today)
    write_baseline(baseline, options.output)
    print(f"{options.output}: {len(baseline.series)} series of {len(runs)} run(s) frozen")
    print("commit it, and let the commit be reviewed")
    return 0


def _baseline_show(options: argparse.Namespace) -> int:
    baseline = read_baseline(options.baseline)
    print(f"frozen {baseline.frozen} by {baseline.reviewer}: {baseline.reason}")
    print(f"tier {baseline.tier}, runs {', '.join(baseline.runs)}")
    for one in baseline.series:
        mean = sum(one.values) / len(one.values)
        print(f"{one.key.id:<90} {mean:.5g} ({len(one.values)} run(s))")
    return 0


def _gate(options: argparse.Namespace) -> int:
    report = _report(options)
    with speaking(language_of(options)):
        print("\n".join(gate_lines(report)))
        if options.markdown:
            append_job_summary(options.markdown, gate_summary(report))
        if options.junit:
            write_output(options.junit, junit_from_suites("harness gate", gate_suites(report)))
    return report.status


def _report(options: argparse.Namespace) -> GateReport:
    site, history = site_of(options), _history(options)
    if options.run is None:
        now = datetime.datetime.now(datetime.UTC)
        missing = night_without_run(history, options.night_hours, now)
        if missing is not None:
            return missing
        run = newest_run(history, site.run_root)
    else:
        run = RunDirectory(options.run.resolve())
    has_baseline = not options.without_baseline
    baseline = (options.baseline or site.baseline) if has_baseline else None
    thresholds = thresholds_from_file(options.thresholds)
    return gate_run(run, thresholds, history, baseline, has_baseline=has_baseline)


def _history(options: argparse.Namespace) -> History:
    path = options.history or site_of(options).history
    if path is None:
        raise HistoryError("no history is named: give --history FILE, or history in site.toml")
    return History(path)
