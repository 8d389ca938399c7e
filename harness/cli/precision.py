"""The command ``harness precision search``: which operators must not compute in fp16."""

import argparse
import dataclasses
from typing import Any

from harness import registry
from harness.check.context import Context
from harness.check.precision_search import Search, Trial, smallest_keep
from harness.check.precision_trials import Trials
from harness.cli.arguments import add_cell, add_command, add_group, add_thresholds, workbench_of
from harness.contract.scope import DEFAULT_TIER
from harness.contract.thresholds import thresholds_from_file
from harness.errors import InputError
from harness.precision import Precision
from harness.spec import Cell, ModelSpec

KEPT = "kept"


def add_commands(commands: Any) -> None:
    """Add ``precision`` to the subcommands of ``harness``."""
    actions = add_group(commands, "precision", "find what must not compute in fp16")
    text = (
        "build a cell with one keep list after another until it meets the parity limits, and print "
        "the smallest list with what it costs in speed; nothing is changed"
    )
    search = add_command(actions, "search", _search, text)
    add_cell(search)
    search.add_argument("--tier", default=DEFAULT_TIER, metavar="TIER", help="gives the inputs")
    add_thresholds(search)


def _search(options: argparse.Namespace) -> int:
    thresholds = thresholds_from_file(options.thresholds)
    precision = registry.device_spec(options.device).precision
    if precision != "fp16":
        raise InputError(f"{options.device} computes in {precision}: there is nothing to keep")
    cell, found = Cell(options.model, options.device, options.batch_size), dict[str, Precision]()

    def find_model(name: str) -> ModelSpec:
        spec = registry.model_spec(name)
        return dataclasses.replace(spec, precisions={**spec.precisions, **found})

    bench = workbench_of(options, find_model)
    limits, tier = thresholds.limits(cell), thresholds.tier(options.tier)
    search = smallest_keep(Trials(Context(cell, bench, tier, limits), found))
    print("\n".join([*_trial_lines(search.trials), *_result_lines(cell, search)]))
    return 0 if search.keep is not None else 1


def _trial_lines(trials: tuple[Trial, ...]) -> list[str]:
    lines = [f"{'build':<7}{'parity':<8}{'ms a query':<12}kept in float32"]
    for number, trial in enumerate(trials, 1):
        time = "-" if trial.query_ms is None else f"{trial.query_ms:.2f}"
        parity = "pass" if trial.is_met else "fail"
        lines.append(f"{number:<7}{parity:<8}{time:<12}{_shown(trial.keep)}")
    return lines


def _shown(names: tuple[str, ...], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "nothing"


def _result_lines(cell: Cell, search: Search) -> list[str]:
    if search.keep is None:
        last = search.trials[-1]
        return [f"No keep list helps, so fp16 is not what is wrong: {last.text}"]
    if not search.keep:
        return [f"{cell.id} meets its limits in fp16: nothing has to be kept"]
    by_keep = {trial.keep: trial for trial in search.trials}
    names = ", ".join(f'"{name}"' for name in search.keep)
    return [
        f"{len(search.trials)} builds. Kept: {', '.join(search.keep)}",
        _cost(search.trials[0], by_keep[search.keep]),
        f"Paste into the SPEC of harness/models/{cell.model}.py:",
        f'    precisions={{"{KEPT}": Precision(keep=({names},))}},',
        f"and into thresholds.toml, as [models.{cell.model}.devices.{cell.device}], in its list:",
        f'    no_golden = ["{dataclasses.replace(cell, precision=KEPT).row}"]',
    ]


def _cost(before: Trial, after: Trial) -> str:
    if before.query_ms is None or after.query_ms is None:
        return "Its cost in speed was not measured: the times did not count"
    change = 100.0 * (after.query_ms / before.query_ms - 1.0)
    return f"Cost: {before.query_ms:.2f} -> {after.query_ms:.2f} ms a query ({change:+.1f} %)"
