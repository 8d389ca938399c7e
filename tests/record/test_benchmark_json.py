import json
import os
import subprocess
import sys

import pytest

from harness.measure.throughput import session_timing
from harness.record.benchmark_json import write_benchmark_json
from harness.record.recompute import session_timings
from harness.record.record import RunFacts, new_run_directory
from tests import made


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path / "a")


def new_run(root):
    run = new_run_directory(root)
    run.write_facts(
        RunFacts(
            run_id=run.id,
            tier="smoke",
            started="2026-01-01T00:00:00+00:00",
            command=("pytest",),
            thresholds_digest="d" * 64,
            environment={},
        )
    )
    return run


def timed(run, device_ms, check="throughput", **more):
    sessions = [session_timing(device_ms, **more) for _ in range(2)]
    lines = "\n".join(session.model_dump_json() for session in sessions)
    return record(check, {"latencies": run.keep(lines.encode(), ".jsonl")})


def record(check="throughput", raw=None):
    return made.record(check, reason="too slow", run_id="a", batch=4, raw=raw or {})


def test_without_timings_there_is_no_file(run):
    assert write_benchmark_json(run, []) is None
    assert write_benchmark_json(run, [record(), timed(run, [1.0], "parity")]) is None
    assert not (run.root / "benchmark.json").exists()


def test_raw_times_come_back(run):
    sessions = session_timings(timed(run, [1.0, 2.0]), run)
    assert [session.device_ms for session in sessions] == [(1.0, 2.0)] * 2


def test_each_definition_is_a_benchmark_over_all_sessions(run):
    times = timed(run, [10.0, 20.0], device_io_ms=[11.0, 21.0])
    path = write_benchmark_json(run, [times])
    assert path == run.root / "benchmark.json"
    content = json.loads((run.root / "benchmark.json").read_text())
    names = [entry["name"] for entry in content["benchmarks"]]
    assert names == ["nonlocal_tiny-cpu-bs4:device", "nonlocal_tiny-cpu-bs4:device_io"]
    stats = content["benchmarks"][0]["stats"]
    assert stats["rounds"] == 4
    assert stats["mean"] == pytest.approx(0.015)
    assert (stats["min"], stats["max"]) == pytest.approx((0.010, 0.020))
    assert content["benchmarks"][0]["extra_info"] == {"status": "fail", "batch": 4}
    assert content["datetime"] == "2026-01-01T00:00:00+00:00"


def test_pytest_benchmark_compares_two_runs(tmp_path):
    for name, factor in (("a", 1.0), ("b", 2.0)):
        run = new_run(tmp_path / name)
        write_benchmark_json(run, [timed(run, [10.0 * factor, 12.0 * factor])])
    code = "from pytest_benchmark.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", "a/benchmark.json", "b/benchmark.json"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "nonlocal_tiny-cpu-bs4:device" in line]
    assert len(rows) == 2
    assert "(1.0)" in done.stdout
    assert "(2.0" in done.stdout
