"""A/A runs of host cells beside busy processes, and planted faults of speed: which are red, and why.

The same build must pass however busy the host is. A device that computes 15 % more must fail, and so
must one that sleeps 50 ms a query, and one that uses one processor only: each by its own finding.

python benchmarks/busy.py '*_tiny-cpu-bs1' --loads 1 2 --runs 20

Two of these at a time, each with a load of one less, are each other's busy process.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from measured import finish, workbench

import harness
from harness import registry
from harness.build.workbench import Workbench
from harness.check.checks import check_throughput
from harness.check.context import Context
from harness.contract.tables import matches
from harness.contract.thresholds import Thresholds, thresholds_from_file
from harness.host.busy import busy_processes
from harness.host.environment import processor_name
from harness.judge.verdict import Verdict
from harness.selftest.time_faults import MoreWork, TimedDevice, sleeping
from harness.spec import Cell, Status

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", default=["*_tiny-cpu-bs1"])
    parser.add_argument("--loads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--tier", default="nightly")
    parser.add_argument("--thresholds", type=Path, default=CONTRACT)
    parser.add_argument("--faults", nargs="+", default=list(EXPECTED), choices=EXPECTED)
    options = parser.parse_args()
    thresholds = thresholds_from_file(options.thresholds)
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
    wrong = done = 0
    for fault in options.faults:
        bench = bench_with(fault)
        for load in options.loads:
            for cell in cells:
                # Built beforehand, so that nothing disturbs the timing.
                bench.device_model(cell)
                with busy_processes(load):
                    verdicts = [
                        judged(bench, thresholds, options.tier, cell) for _ in range(options.runs)
                    ]
                missed = [one for one in verdicts if not is_expected(fault, one)]
                wrong, done = wrong + len(missed), done + len(verdicts)
                counts = dict(Counter(str(one.status) for one in verdicts))
                print(f"  {fault}, {load} busy, {cell.id}: {counts}", flush=True)
                for one in missed:
                    print(f"    {one.status}: {one.reason}", flush=True)
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


def judged(bench: Workbench, thresholds: Thresholds, tier: str, cell: Cell) -> Verdict:
    """Time a cell once, as a run does."""
    context = Context(cell, bench, thresholds.tier(tier), thresholds.limits(cell))
    return check_throughput(context).verdict


def is_expected(fault: str, verdict: Verdict) -> bool:
    """Whether the same build passed, or a fault is red by its own finding."""
    if fault == "same":
        return verdict.status is Status.PASS
    return verdict.status is Status.FAIL and EXPECTED[fault] in verdict.reason


if __name__ == "__main__":
    sys.exit(main())
