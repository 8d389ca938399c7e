"""The mutation score of the deciding folders, estimated from a random sample of each folder's mutants.

    make mutants SAMPLE=60 SEED=2 FOLDERS="decide contract"

A mutant counts as killed if the tests of [tool.mutmut] in pyproject.toml fail or do not end in time. One that no
test reaches counts as alive. The figure is held against the goal; the interval says what the sample leaves open.
"""

import argparse
import contextlib
import io
import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from measured import finish

from harness.measure.statistics import Interval, wilson_interval

FOLDERS = ("judge", "measure", "decide", "contract", "nightly")
GOAL_PERCENT = 90.0
KILLED = ("killed", "timeout")
LOG = Path("mutants.log")


def main() -> int:
    options = _options()
    _make_mutants()
    strata = {folder: sorted(_outcomes(folder)) for folder in options.folders}
    drawn = {folder: _drawn(folder, names, options) for folder, names in strata.items()}
    names = [name for sample in drawn.values() for name in sample]
    _run(names, options.max_children)
    found = {folder: _outcomes(folder) for folder in drawn}
    results = {folder: {name: found[folder][name] for name in drawn[folder]} for folder in drawn}
    return report(results, {folder: len(names) for folder, names in strata.items()})


def _drawn(folder: str, names: Sequence[str], options: argparse.Namespace) -> list[str]:
    """Draw from a folder's mutants, whichever other folders are asked for."""
    chance = random.Random(f"{options.seed} {folder}")
    return chance.sample(names, min(options.sample, len(names)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=60, help="mutants of each folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-children", type=int, default=2)
    parser.add_argument("folders", nargs="*", default=FOLDERS)
    return parser.parse_args()


def report(results: Mapping[str, Mapping[str, str]], sizes: Mapping[str, int]) -> int:
    """Print the score of each folder and of all, weighted by their numbers of mutants; return the exit status."""
    shares, of_all = {}, sum(sizes.values())
    for folder, outcomes in results.items():
        for name, outcome in outcomes.items():
            if outcome != "killed":
                print(f"  {outcome:10} {name}")
        killed = sum(outcome in KILLED for outcome in outcomes.values())
        shares[folder] = killed / len(outcomes), len(outcomes)
        interval = wilson_interval(killed, len(outcomes))
        print(
            f"{folder:10} {killed} of {len(outcomes)}, drawn from {sizes[folder]}: {_text(interval)}"
        )
    score = sum(sizes[name] / of_all * share for name, (share, _) in shares.items())
    variance = sum(
        (sizes[name] / of_all) ** 2 * share * (1.0 - share) / count
        for name, (share, count) in shares.items()
    )
    total = sum(count for _, count in shares.values())
    # As many draws from all mutants alike as would leave the same variance.
    worth = round(score * (1.0 - score) / variance) if variance else total
    note = _text(wilson_interval(round(score * worth), worth))
    return finish("mutants killed, %", 100.0 * score, GOAL_PERCENT, at_least=True, note=note)


def _text(interval: Interval) -> str:
    return f"{100.0 * interval.low:.1f} to {100.0 * interval.high:.1f} % (95 %)"


def _make_mutants() -> None:
    """Write the mutants of every folder; of all that mutmut does, only ``run`` does that, too."""
    from mutmut.__main__ import copy_also_copy_files, copy_src_dir, create_mutants

    Path("mutants").mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        copy_src_dir()
        copy_also_copy_files()
        create_mutants(max_children=2)


def _run(names: Sequence[str], max_children: int) -> None:
    """Try mutants; what mutmut prints, a line a tick of its clock, goes to a file."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(max_children), *names]
    with LOG.open("w") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)


def _outcomes(folder: str) -> dict[str, str]:
    from mutmut.stats import status_by_exit_code

    metas = Path("mutants/harness", folder).glob("*.meta")
    codes = [json.loads(path.read_text())["exit_code_by_key"] for path in metas]
    return {name: status_by_exit_code[code] for one in codes for name, code in one.items()}


if __name__ == "__main__":
    sys.exit(main())
