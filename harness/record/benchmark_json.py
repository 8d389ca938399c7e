"""Timings of a run in pytest-benchmark's own JSON, so that ``pytest-benchmark compare`` reads it.

pytest-benchmark cannot time work in another process and switches itself off under xdist; its file
format is what people compare runs with.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from harness.measure.speed import DEFINITIONS
from harness.record.recompute import session_timings
from harness.record.record import Record, RunDirectory


def write_benchmark_json(run: RunDirectory, records: Sequence[Record]) -> Path | None:
    """Write ``benchmark.json`` with one benchmark a cell and definition; None without timings."""
    from pytest_benchmark import __version__
    from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
    from pytest_benchmark.utils import get_commit_info

    benchmarks = [entry for record in records for entry in _entries(run, record)]
    if not benchmarks:
        return None
    content = {
        "machine_info": pytest_benchmark_generate_machine_info(),
        "commit_info": get_commit_info(),
        "benchmarks": benchmarks,
        "datetime": run.facts().started,
        "version": __version__,
    }
    path = run.root / "benchmark.json"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


def _entries(run: RunDirectory, record: Record) -> list[dict[str, object]]:
    from pytest_benchmark.stats import Stats

    is_timed = record.check == "throughput" and "latencies" in record.raw
    sessions = session_timings(record, run) if is_timed else []
    entries: list[dict[str, object]] = []
    for definition in DEFINITIONS:
        stats = Stats()
        for session in sessions:
            for time_ms in session.times_ms(definition):
                stats.update(time_ms / 1000.0)
        if stats.data:
            entries.append(_entry(record, definition, stats.as_dict()))
    return entries


def _entry(record: Record, definition: str, stats: dict[str, object]) -> dict[str, object]:
    name = f"{record.cell.id}:{definition}"
    return {
        "group": definition,
        "name": name,
        "fullname": f"acceptance/test_throughput.py::{name}",
        "params": {"batch": record.batch},
        "param": record.cell.id,
        "extra_info": {"status": str(record.verdict.status), "batch": record.batch},
        "options": {"timer": "perf_counter", "rounds": stats["rounds"]},
        "stats": {**stats, "iterations": 1},
    }
