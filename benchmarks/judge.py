"""How long it takes to judge a stored release run of the guides again, and a night with a long history.

The run has every cell of both guides with all four checks, over 19,796 clips; its raw files are as
large as real ones. The history has 1,000 nights of 50 series, and a frozen baseline.
"""

import contextlib
import dataclasses
import datetime
import io
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measured import finish
from simulated import (
    START,
    SimulatedNight,
    lines_of,
    run_facts,
    simulated_record,
    simulated_run,
    simulated_sessions,
    simulated_throughput,
)

from harness.__main__ import main as harness
from harness.clips import Clip, ClipSet, Predictions
from harness.contract.thresholds import thresholds_from_file
from harness.host.site import FIXTURES
from harness.measure.accuracy import accuracy_measurement
from harness.measure.export import ExportMeasurement, MultiplyAdds
from harness.measure.parity import ChainScores, InputCounts, parity_measurement
from harness.nightly.baseline import freeze, write_baseline
from harness.nightly.history import History
from harness.record.npz import npz_from_arrays, npz_from_labels, npz_from_predictions
from harness.record.record import Record, new_run_directory
from harness.sign.keys import write_key_pair
from harness.spec import CHECKS, Cell

CLIPS, CLASSES = 19796, 400
NIGHTS, SERIES = 1000, 50
GOAL_S, VERIFY_S = 5.0, 0.7
FEW_CLIPS = 480
STARTS = 5
PATH = FIXTURES.parent / "thresholds.toml"
THRESHOLDS = thresholds_from_file(PATH)
GUIDES = [
    cell
    for cell in THRESHOLDS.cells()
    if cell.model in ("nonlocal_r50", "timesformer") and cell.device.startswith("ascend")
]


def release_run(folder: Path, cells: Sequence[Cell], clips: int = CLIPS) -> Path:
    """Write a run of cells."""
    night = SimulatedNight(0, tier="release")
    run = new_run_directory(folder / night.run_id)
    run.write_facts(run_facts(THRESHOLDS, cells, night, CHECKS))
    shutil.copy(PATH, run.root)
    measured = measurements(clips)
    # Every cell has the same content, but each is still read and recomputed.
    kept = {
        check: {name: run.keep(*content) for name, content in raw.items()}
        for check, (_, raw) in measured.items()
    }
    for cell in cells:
        sessions = simulated_sessions(THRESHOLDS, cell, 1.0)
        kept["throughput"] = {"latencies": run.keep(lines_of(sessions), ".jsonl")}
        values = {check: value for check, (value, _) in measured.items()}
        values["throughput"] = simulated_throughput(THRESHOLDS, cell, 1.0)
        for check in CHECKS:
            record = simulated_record(THRESHOLDS, cell, check, values[check], night, kept[check])
            run.append(record)
    return run.root


def measurements(count: int):
    """Return an export, a parity and an accuracy of the size of Kinetics-400, and their raw files."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(64, CLASSES))
    near = scores + 1e-7 * rng.normal(size=scores.shape)
    chain = ChainScores(exact=scores, torch=near, onnx=near, simplified=near, device=near)
    ids = [f"c{number}" for number in range(64)]
    labels = rng.integers(0, CLASSES, size=count)
    logits = rng.uniform(size=(count, 1, CLASSES)).astype(np.float32)
    is_right = rng.uniform(size=count) < 0.8
    best = np.where(is_right, labels, rng.integers(0, CLASSES, size=count))
    # The right answer is mostly among the top five, as the contract requires.
    logits[np.arange(count), 0, labels] += np.where(rng.uniform(size=count) < 0.9, 2.0, 0.0)
    logits[np.arange(count), 0, best] += 3.0
    names = tuple(f"c{number:05d}" for number in range(count))
    clips = tuple(
        Clip(name, Path(name), int(label)) for name, label in zip(names, labels, strict=True)
    )
    clip_set = ClipSet("kinetics400", clips, tuple(map(str, range(CLASSES))), "d" * 64)
    preds = Predictions(names, logits)
    export = ExportMeasurement(
        problems=(),
        ops_checked=3,
        opset=11,
        op_counts={},
        inputs=(),
        outputs=(),
        onnx_bytes=10,
        multiply_adds=MultiplyAdds(torch=9, exported=9, simplified=9),
    )
    parity = parity_measurement(chain, ids, InputCounts(clip=48, noise=12, constant=4))
    raw = {
        "predictions": (npz_from_predictions(preds), ".npz"),
        "reference": (npz_from_predictions(preds), ".npz"),
        "labels": (npz_from_labels(clip_set), ".npz"),
    }
    return {
        "export": (export, {}),
        "parity": (parity, {"scores": (npz_from_arrays(**dataclasses.asdict(chain)), ".npz")}),
        "accuracy": (accuracy_measurement(preds, clip_set, preds), raw),
    }


def long_history(folder: Path) -> tuple[Path, Path, Path]:
    """Write a history of many nights by SQL, a baseline of its first run, and its last run."""
    others = [cell for cell in THRESHOLDS.cells() if cell.device in ("cuda", "cpu")]
    cells = [*GUIDES, *others[: (SERIES - 2 * len(GUIDES)) // 2]]
    first = simulated_run(folder, THRESHOLDS, cells, SimulatedNight(0))
    baseline = folder / "baseline.json"
    write_baseline(freeze([first], "*", "R", "1.0", START.date()), baseline)
    history = History(folder / "history.sqlite")
    history.append(first)
    wanted = [one.key for one in history.series()]
    rng = np.random.default_rng(1)
    file = sqlite3.connect(history.path)
    checks = file.execute("SELECT * FROM checks").fetchall()
    metrics = file.execute("SELECT * FROM metrics").fetchall()
    (run,) = file.execute("SELECT * FROM runs").fetchall()
    step = max(row[0] for row in checks)
    for number in range(1, NIGHTS - 1):
        night = SimulatedNight(number)
        file.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)",
            (night.run_id, run[1], run[2], night.started, *run[4:]),
        )
        file.executemany(
            f"INSERT INTO checks VALUES ({', '.join('?' * 12)})",
            [(row[0] + number * step, night.run_id, *row[2:]) for row in checks],
        )
        noise = rng.normal(1.0, 0.02, len(metrics))
        file.executemany(
            "INSERT INTO metrics VALUES (?, ?, ?, ?, ?)",
            [
                (row[0] + number * step, row[1], row[2] * factor, *row[3:])
                for row, factor in zip(metrics, noise, strict=True)
            ],
        )
    file.commit()
    file.close()
    last = simulated_run(folder, THRESHOLDS, cells, SimulatedNight(NIGHTS - 1))
    assert len(wanted) >= SERIES, len(wanted)
    return last.root, history.path, baseline


def timed(words: list[str]) -> tuple[float, float, str]:
    """Run a command of the harness; return its seconds, its processor seconds and its first line."""
    out = io.StringIO()
    started, before = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(out):
        status = harness(words)
    took_s, processor_s = time.perf_counter() - started, time.process_time() - before
    # A command that gives up is quick: what it takes says nothing.
    if status:
        raise SystemExit(f"harness {' '.join(words)}: exit status {status}\n{out.getvalue()}")
    return took_s, processor_s, out.getvalue().splitlines()[0]


def verify_s(folder: Path) -> float:
    """Return the median processor time of `harness verify` on a signed run of one cell and few clips."""
    run, key = release_run(folder, GUIDES[:1], clips=FEW_CLIPS), folder / "key"
    write_key_pair(key, "key", datetime.date(2099, 1, 1))
    timed(["sign", str(run), "--key", str(key)])
    command = [sys.executable, "-m", "harness", "verify", str(run), "--key", f"{key}.pub.json"]
    times_s = []
    for _ in range(STARTS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times_s.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return statistics.median(times_s)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="judge-") as name:
        folder = Path(name)
        start_s = verify_s(folder / "signed")
        run = release_run(folder / "release", GUIDES)
        records = [Record.from_json(line) for line in (run / "records.jsonl").open()]
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
        print(f"  release run: {len(GUIDES)} cells, {len(records)} records, {size / 1e6:.0f} MB")
        judge_s, processor_s, _ = timed(["judge", str(run)])
        print(f"  harness judge: {judge_s:.2f} s, {processor_s:.2f} s of processor time")
        last, history, baseline = long_history(folder / "nights")
        words = ["gate", str(last), "--history", str(history), "--baseline", str(baseline)]
        gate_s, processor_s, line = timed(words)
        count = len(History(history).series())
        print(f"  history: {NIGHTS} nights, {count} series, {history.stat().st_size / 1e6:.0f} MB")
        print(f"  harness gate: {gate_s:.2f} s, {processor_s:.2f} s of processor time: {line}")
    return goals(start_s, max(judge_s, gate_s))


def goals(start_s: float, slower_s: float) -> int:
    """Print both figures and return the exit status."""
    note = f"seconds of processor time on one cell, the median of {STARTS} starts"
    statuses = [finish("verify", start_s, VERIFY_S, at_least=False, note=note)]
    statuses.append(finish("judge", slower_s, GOAL_S, at_least=False, note="seconds, the slower"))
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
