"""Plants every known fault, runs without any in other orders, and kills runs: what escapes, and what cries wolf?

Each fault is planted in a real run of the tiny models; it is caught if the run is not green and the check that must
catch it reports the right finding. The results are kept in a file, so that the table can be made in parts. The page
says on what each part was planted; what else a reader must know of it is given with --note.

python benchmarks/kill_table.py --jobs 2 --write docs/kill_table.md
"""

import argparse
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from measured import finish

from harness.host.site import FIXTURES
from harness.selftest.faults import MODEL, VIEWED
from harness.selftest.setting import Bench
from harness.selftest.table import all_faults, family_names, green_again, plant_all, without_fault

GOAL_FAULTS = 90
DOCS = FIXTURES.parent / "docs" / "kill_table.md"
HEAD = """# The kill table

Every way we know of shipping a broken model, planted in a real run of the tiny models through pytest and the commands
of `harness`. A fault is caught if the run is not green *and* the named check or command reports the finding that
belongs to it; red for another reason counts as escaped. `python benchmarks/kill_table.py --write docs/kill_table.md`
plants them and writes this page; `harness selftest` plants them on your own device.

"""
PLANTED = "Planted"
Row = dict[str, str]


def planted(job: tuple[str, str, Sequence[str]]) -> list[Row]:
    """Plant the faults of these ids, in a process of its own."""
    folder, cache, ids = job
    Path(folder).mkdir(parents=True)
    faults = [fault for fault in all_faults() if fault.id in ids]
    found = plant_all(
        Bench("cpu", Path(folder), Path(cache)), faults, lambda line: print(line, flush=True)
    )
    return [
        {
            "family": one.fault.family,
            "name": one.fault.name,
            "by": one.fault.by,
            "outcome": one.outcome,
            "said": " ".join(one.said.split())[:160],
        }
        for one in found
    ]


def in_parts(
    ids: Sequence[str], jobs: int, folder: Path
) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Deal the faults out, one after another, so that each part has some of every family."""
    for number in range(jobs):
        if part := ids[number::jobs]:
            yield str(folder / f"part-{number}"), str(folder / "cache"), part


def table_lines(rows: Sequence[Row], notes: Sequence[str]) -> list[str]:
    """Return the page."""
    lines = [HEAD.rstrip(), ""]
    for note in notes:
        lines += [*textwrap.wrap(note, 120, break_on_hyphens=False), ""]
    order = family_names()
    for family in sorted({row["family"] for row in rows}, key=order.index):
        lines += [
            f"## {family}",
            "",
            "| fault | caught by | it says | |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| {row['name']} | {row['by']} | {_cell(row['said'])} | {row['outcome']} |"
            for row in rows
            if row["family"] == family
        ]
        lines.append("")
    return lines


def with_conditions(
    notes: Row, families: Sequence[str], minutes: float, loads: Sequence[float], remark: str
) -> Row:
    """Return the notes with how faults were planted; no family means all, of which nothing earlier counts."""
    kept = {name: note for name, note in notes.items() if families or not name.startswith(PLANTED)}
    key = " ".join([PLANTED, *sorted(families)])
    of = f" ({', '.join(sorted(families))})" if families else ""
    low, high = min(loads), max(loads)
    said = f"{PLANTED}{of} on {os.cpu_count()} cores, at a load of {low:.1f} to {high:.1f}, in {minutes:.0f} min."
    return {**kept, key: f"{said} {remark}".rstrip()}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def false_reds(bench: Bench, seeds: int, pool: ProcessPoolExecutor) -> dict[str, str]:
    """Run without a fault, in as many orders as there are seeds; return what was not green."""
    return {
        name: answer.said
        for answers in pool.map(functools.partial(green_again, bench), range(seeds))
        for name, answer in answers
        if answer.status
    }


def crash_points(count: int, jobs: int) -> str:
    """Kill runs and harm caches, in a process that has computed nothing; return a line for the page."""
    script = str(Path(__file__).with_name("crash_points.py"))
    command = [sys.executable, script, "--points", str(count), "--jobs", str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout + done.stderr)
    found = re.search(r"\d+ of \d+ kills, \d+ of \d+ harms", done.stdout)
    return f"Survived: {found[0] if found else done.stderr[-200:]}."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", action="append", default=[], choices=family_names())
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument(
        "--results", type=Path, default=Path(tempfile.gettempdir()) / "kill_table.json"
    )
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="what else to say of the planting"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help=f"such as {DOCS.name}")
    options = parser.parse_args()
    known: dict[str, Any] = {"rows": {}, "notes": {}}
    if options.results.exists():
        known = json.loads(options.results.read_text("utf-8"))
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench("cpu", folder / "first", folder / "cache")
        without_fault(bench, [MODEL, VIEWED])
        ids = [one.id for one in all_faults() if not options.family or one.family in options.family]
        loads, planting_s = [os.getloadavg()[0]], time.monotonic()
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            for rows in pool.map(planted, in_parts(ids, options.jobs, folder)):
                known["rows"] |= {f"{row['family']}: {row['name']}": row for row in rows}
                loads.append(os.getloadavg()[0])
            minutes = (time.monotonic() - planting_s) / 60.0
            reds = false_reds(bench, options.seeds, pool)
        known["notes"] = with_conditions(
            known["notes"], options.family, minutes, loads, options.note
        )
        if options.seeds:
            known["notes"]["false reds"] = (
                f"False reds: {len(reds)} of {2 * options.seeds} runs without a fault."
            )
            print("\n".join(f"  FALSE RED {name}: {said}" for name, said in reds.items()))
        if options.points:
            known["notes"]["points"] = crash_points(options.points, options.jobs)
    options.results.write_text(json.dumps(known, indent=1), "utf-8")
    return report(known, options.write, (time.monotonic() - start_s) / 60.0)


def report(known: dict[str, Any], target: Path | None, minutes: float) -> int:
    """Print the results, write the page, and return the exit status."""
    ids = [one.id for one in all_faults()]
    rows = [known["rows"][one] for one in ids if one in known["rows"]]
    escaped = [row for row in rows if row["outcome"] == "escaped"]
    counted = [row for row in rows if row["outcome"] != "not applicable"]
    notes = [f"Escaped: {len(escaped)} of {len(counted)} faults.", *known["notes"].values()]
    for row in escaped:
        print(f"  ESCAPED {row['family']}: {row['name']}: {row['said']}")
    if target is not None:
        target.write_text("\n".join(table_lines(rows, notes)), "utf-8")
    print("\n".join(f"  {note}" for note in notes))
    note = f"{len(counted)} faults of at least {GOAL_FAULTS}, {minutes:.1f} minutes"
    status = finish("kill_table", len(escaped), 0, at_least=False, note=note)
    return 1 if len(counted) < GOAL_FAULTS else status


if __name__ == "__main__":
    sys.exit(main())
