"""A/A runs of host cells beside busy processes, and planted faults of speed: which are red, and why.

    python benchmarks/busy.py '*_tiny-cpu-bs1' --loads 1 2 --runs 20
    python benchmarks/busy.py --results busy.jsonl      in parts: each cell for the runs that it lacks

The same build must pass however busy the host is. A device that computes 15 % more must fail, and so
must one that sleeps 50 ms a query, and one that uses one processor only: each by its own finding.

Two of these at a time, each with a load of one less, are each other's busy process. A line of
``--results`` is one run; delete the file to start afresh.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measured import finish, workbench
from parts import keep_result, kept_results

import harness
from harness import registry
from harness.build.workbench import Workbench
from harness.check.checks import check_throughput
from harness.check.context import Context
from harness.contract.tables import matches
from harness.contract.thresholds import thresholds_from_file
from harness.host.busy import busy_processes
from harness.host.environment import processor_name
from harness.selftest.time_faults import MoreWork, TimedDevice, sleeping
from harness.spec import Status

CONTRACT = Path(harness.__file__).parent.parent / "thresholds.toml"
# What the reason of each fault must name; the same build must pass.
EXPECTED = {
    "same": "",
    "works 15 % more": "too slow: processor speed",
    "sleeps": "waiting in a query",
    "one processor": "processors at work",
}
# Without a fault, neither the device nor its loop is changed.
FAULTS: dict[str, dict[str, Any]] = {
    "same": {},
    "works 15 % more": {"query": MoreWork(0.15, "thread_time")},
    "sleeps": {"query": sleeping},
    "one processor": {"threads": 1},
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One timing of a cell beside ``busy`` processes; ``load`` is the host's average over its last minute."""

    fault: str
    busy: int
    cell: str
    status: str
    reason: str
    load: float

    @property
    def is_expected(self) -> bool:
        """Whether the same build passed, or a fault is red by its own finding."""
        if self.fault == "same":
            return self.status == Status.PASS
        return self.status == Status.FAIL and EXPECTED[self.fault] in self.reason


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", default=["*_tiny-cpu-bs1"])
    parser.add_argument("--loads", type=int, nargs="+", default=[1, 2], help="busy processes")
    parser.add_argument("--runs", type=int, default=20, help="of each fault, load and cell")
    parser.add_argument("--tier", default="nightly")
    parser.add_argument("--thresholds", type=Path, default=CONTRACT)
    parser.add_argument("--faults", nargs="+", default=list(EXPECTED), choices=EXPECTED)
    parser.add_argument("--results", type=Path, metavar="FILE", help="go on from these")
    options = parser.parse_args()
    thresholds = thresholds_from_file(options.thresholds)
    tier = thresholds.tier(options.tier)
    cells = [cell for cell in thresholds.cells(options.tier) if matches(cell.id, options.cells)]
    here = processor_name()
    unknown = [
        cell.id for cell in cells if not thresholds.limits(cell).throughput.has_golden_of(here)
    ]
    if unknown:
        parser.error(
            f"{options.thresholds} has no golden of {here} for {', '.join(unknown)}, so a slower build may "
            "pass; harness calibrate takes one"
        )
    known = [Run(**result) for result in kept_results(options.results)]
    wrong = done = 0
    for fault in options.faults:
        bench = bench_with(fault)
        for busy in options.loads:
            for cell in cells:
                # Built beforehand, so that nothing disturbs the timing.
                bench.device_model(cell)
                context = Context(cell, bench, tier, thresholds.limits(cell))
                runs = timed_runs(context, fault, busy, known, options)
                wrong += sum(not run.is_expected for run in runs)
                done += len(runs)
    return finish("busy", wrong, 0, at_least=False, note=f"{done} runs; not as expected:")


def bench_with(fault: str) -> Workbench:
    """Return a workbench whose processor has a fault."""
    plain = workbench()
    return Workbench(
        plain.site,
        plain.workshop.log_dir,
        plain.progress,
        find_device=lambda name: TimedDevice(registry.device(name), **FAULTS[fault]),
    )


def timed_runs(
    context: Context, fault: str, busy: int, known: Sequence[Run], options: argparse.Namespace
) -> list[Run]:
    """Time a cell for the runs that it lacks, and print how each ended; return them with the known ones."""
    part = fault, busy, context.cell.id
    name = f"{fault}, {busy} busy, {context.cell.id}"
    runs = [run for run in known if (run.fault, run.busy, run.cell) == part]
    while len(runs) < options.runs:
        start_s = time.monotonic()
        runs.append(timed(context, fault, busy))
        keep_result(dataclasses.asdict(runs[-1]), options.results)
        print(
            f"  {name}, run {len(runs)} of {options.runs}: {runs[-1].status} in "
            f"{time.monotonic() - start_s:.0f} s, load {runs[-1].load:g}",
            flush=True,
        )
    print(f"{name}: {dict(Counter(run.status for run in runs))}", flush=True)
    for run in runs:
        if not run.is_expected:
            print(f"  {run.status}: {run.reason}", flush=True)
    return runs


def timed(context: Context, fault: str, busy: int) -> Run:
    """Time a cell once, as a run of the suite does."""
    with busy_processes(busy):
        verdict = check_throughput(context).verdict
    load = round(os.getloadavg()[0], 1)
    return Run(fault, busy, context.cell.id, str(verdict.status), verdict.reason, load)


if __name__ == "__main__":
    sys.exit(main())
