"""How long a newcomer waits: the main job cold, warm, and cold beside a busy process.

    python benchmarks/first_verdict.py [--before "COMMAND"] [--only cold warm busy]

Each run is `pytest -n 2 -m cpu acceptance/` in a process of its own; a cold one has an empty cache. With
``--before``, another command for the same job, such as that of an earlier checkout, runs cold first,
and the figure is the ratio to it; the variable ACCEPTANCE_CACHE_DIR gives it an empty cache. Without
``--before``, the figure is in minutes.
"""

import argparse
import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from measured import finish

from harness.host.busy import busy_processes
from harness.spec import CHECKS

ROOT = Path(__file__).resolve().parent.parent
JOB = [sys.executable, "-m", "pytest", "-n", "2", "-m", "cpu", "acceptance/"]
# A line of the terminal as a check ends.
LINE = re.compile(
    rf"(\S+-bs\d+) +({'|'.join(CHECKS)}) +(pass|fail|inconclusive|invalid|error|not run)"
)
GOALS = {"cold": 7.0, "before": 0.5, "warm": 1 / 3, "busy": 1.6}


def run(command: list[str], cache: Path, busy: int = 0) -> tuple[float, bool]:
    """Run a job, print what a person would have seen when, and return minutes and whether it was green."""
    outcomes: Counter[str] = Counter()
    cells: Counter[str] = Counter()
    environ = {**os.environ, "ACCEPTANCE_CACHE_DIR": str(cache)}
    start_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.enter_context(busy_processes(busy))
        process = stack.enter_context(
            subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
        )
        for line in process.stdout or ():
            if found := LINE.search(line):
                outcomes[found[3]] += 1
                cells[found[1]] += 1
                if cells[found[1]] == len(CHECKS):
                    print(f"    {time.monotonic() - start_s:4.0f} s  {found[1]} is finished")
    minutes = (time.monotonic() - start_s) / 60
    listed = ", ".join(f"{count} {name}" for name, count in outcomes.items())
    print(f"  {minutes:.1f} min, exit status {process.returncode}: {listed}", flush=True)
    return minutes, process.returncode == 0


def main() -> int:
    """Run what is asked for and judge it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", metavar="COMMAND", help="the same job in an earlier checkout")
    parser.add_argument(
        "--only", nargs="+", choices=("cold", "warm", "busy"), default=["cold", "warm", "busy"]
    )
    options = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="first-verdict-") as folder:
        before = None
        if options.before:
            print(f"before: {options.before}")
            before, _ = run(shlex.split(options.before), Path(folder, "before"))
        print("cold")
        cold, is_green = run(JOB, Path(folder, "cold"))
        is_met = is_green
        if "warm" in options.only:
            print("warm")
            warm, is_green = run(JOB, Path(folder, "cold"))
            is_met &= is_green
            figures["warm"] = warm / cold
        if "busy" in options.only:
            print("beside one busy process")
            busy, is_green = run(JOB, Path(folder, "busy"), busy=1)
            is_met &= is_green
            figures["busy"] = busy / cold
    figures |= {"cold": cold} if before is None else {"before": cold / before}
    if not is_met:
        print("  a run was not green")
    return max(goals(figures), int(not is_met))


def goals(figures: Mapping[str, float]) -> int:
    """Print each figure, that of the cold job last, and return the exit status."""
    names = {"warm": "warm, of cold", "busy": "busy, of cold"}
    return max(
        [
            finish(names.get(name, "first_verdict"), figure, GOALS[name], at_least=False)
            for name, figure in figures.items()
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
