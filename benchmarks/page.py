"""How large the sign-off page of a large run is, and how long a browser takes to open it.

    python benchmarks/page.py

36 cells, each with 20,000 clips of 400 classes, 200 of them flipped, 24 of those with the frames
that the model saw, 20 sessions of 1,000 queries. The page is opened from disk by headless Chromium;
the time runs from the start of the navigation to the end of the load event, the median of five. The
run keeps every raw file, 1.2 GB in the folder for temporary files, as its page is made of nothing else.
"""

import argparse
import dataclasses
import datetime
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measured import finish

from harness.clips import Clip, ClipSet, Predictions
from harness.contract.thresholds import thresholds_from_file
from harness.data.datasets import motion8
from harness.data.strips import raw_strips
from harness.judge.measurement import judge_measurement
from harness.measure.accuracy import accuracy_measurement
from harness.measure.export import ExportMeasurement, MultiplyAdds
from harness.measure.parity import ChainScores, InputCounts, parity_measurement
from harness.measure.throughput import session_timing, throughput_measurement
from harness.record.npz import npz_from_arrays, npz_from_labels, npz_from_predictions
from harness.record.record import Record, RunDirectory, RunFacts
from harness.registry import model_spec
from harness.report.evidence import evidence_from_records
from harness.report.merge import merged_runs
from harness.report.page import page_from_release
from harness.report.pdf import browser, browser_arguments
from harness.report.release import release_from_merged
from harness.spec import CHECKS, Cell

CELLS, CLIPS, FLIPS, CLASSES = 36, 20_000, 200, 400
SESSIONS, QUERIES = 20, 1000
SIZE_GOAL_MB, OPEN_GOAL_S = 5.0, 1.0
THRESHOLDS = Path(__file__).parent.parent / "thresholds.toml"


def clip_set() -> ClipSet:
    """Return 20,000 clips that reuse motion8's files over and over."""
    files = motion8().clips
    clips = tuple(
        Clip(f"class_{n % CLASSES:03}/clip_{n:05}.mp4", files[n % len(files)].path, n % CLASSES)
        for n in range(CLIPS)
    )
    names = tuple(f"class number {n}" for n in range(CLASSES))
    return ClipSet("kinetics400", clips, names, "0" * 64)


def predictions(clips: ClipSet, flipped: np.ndarray) -> Predictions:
    """Return predictions, with a different class for the flipped clips."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(CLIPS, 1, CLASSES)).astype(np.float32)
    labels = np.array([clip.label for clip in clips.clips])
    labels[flipped] = (labels[flipped] + 1) % CLASSES
    scores[np.arange(CLIPS), 0, labels] = 9.0
    return Predictions(tuple(clip.id for clip in clips.clips), scores)


def measurements(number: int, batch: int, clips: ClipSet, reference: Predictions) -> dict:
    """Return what the four checks of a cell measured, and their raw files."""
    rng = np.random.default_rng(number)
    exact = rng.normal(size=(64, CLASSES))
    chain = ChainScores(exact, *(exact + 1e-6 * rng.normal(size=exact.shape) for _ in range(4)))
    ids = tuple(f"clip {row}" for row in range(64))
    ours = predictions(clips, rng.choice(CLIPS, FLIPS, replace=False))
    accuracy = accuracy_measurement(ours, clips, reference)
    protocol = model_spec("nonlocal_r50").protocol
    times = [10.0 + rng.gamma(2.0, 0.2, size=QUERIES) for _ in range(SESSIONS)]
    sessions = [session_timing(one, one, one * 1.4, is_output_same=True) for one in times]
    lines = "\n".join(session.model_dump_json() for session in sessions)
    export = ExportMeasurement(
        problems=(),
        ops_checked=458,
        opset=11,
        op_counts={},
        inputs=(),
        outputs=(),
        onnx_bytes=1,
        multiply_adds=MultiplyAdds(torch=9, exported=9, simplified=9),
    )
    return {
        "export": (export, {}),
        "parity": (
            parity_measurement(chain, ids, InputCounts(clip=64)),
            {"scores": (npz_from_arrays(**dataclasses.asdict(chain)), ".npz")},
        ),
        "accuracy": (
            accuracy,
            {
                "predictions": (npz_from_predictions(ours), ".npz"),
                "reference": (npz_from_predictions(reference), ".npz"),
                "labels": (npz_from_labels(clips), ".npz"),
                **raw_strips(accuracy.paired, clips, protocol, (ours, reference)),
            },
        ),
        "throughput": (
            throughput_measurement(sessions, batch),
            {"latencies": (lines.encode(), ".jsonl")},
        ),
    }


def large_run(root: Path, thresholds) -> RunDirectory:
    """Write the run."""
    run = RunDirectory(root)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    environment = {"suite.commit": "f" * 40, "suite.dirty": "no", "host": "bench"}
    run.write_facts(
        RunFacts(
            run_id=run.id,
            tier="release",
            started=now,
            command=("pytest",),
            thresholds_digest=thresholds.digest,
            environment=environment,
            is_over=True,
            nonce="0" * 32,
        )
    )
    clips = clip_set()
    reference = predictions(clips, np.array([], dtype=int))
    devices = ("ascend310", "ascend310p", "cuda")
    limits = thresholds.limits(Cell("nonlocal_r50", "ascend310p", 1))
    for number in range(CELLS):
        cell = Cell("nonlocal_r50", devices[number % 3], 2 ** (number // 3))
        found = measurements(number, cell.batch, clips, reference)
        for check in CHECKS:
            measured, raw = found[check]
            record = Record(
                run_id=run.id,
                tier="release",
                model=cell.model,
                device=cell.device,
                batch=cell.batch,
                check=check,
                verdict=judge_measurement(measured, limits, 64, 5),
                measurement=measured,
                weights="checkpoint",
                subjects={"weights": limits.weights or "", "inputs": limits.inputs or ""},
                raw={name: run.keep(content, suffix) for name, (content, suffix) in raw.items()},
                is_device_present=True,
                started=now,
                seconds=1.0,
            )
            run.append(record)
    return run


def opening_s(page: Path, runs: int = 5) -> float:
    """Return the median time in seconds that the browser takes to load the page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=str(browser()), args=[*browser_arguments()]
        )
        times = []
        for _ in range(runs):
            tab = chromium.new_page()
            start_s = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="load")
            tab.evaluate("new Promise((done) => requestAnimationFrame(done))")
            times.append(time.perf_counter() - start_s)
            tab.close()
        chromium.close()
    return statistics.median(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep the page there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        thresholds = thresholds_from_file(THRESHOLDS)
        run = large_run(Path(folder), thresholds)
        start_s = time.perf_counter()
        merged = merged_runs([run])
        release = release_from_merged(merged, thresholds, datetime.date.today())
        html = page_from_release(release, evidence_from_records(merged.records.values(), [run]))
        making_s = time.perf_counter() - start_s
        page = options.keep or Path(folder) / "signoff.html"
        page.write_text(html, encoding="utf-8")
        size_mb, seconds = page.stat().st_size / 1e6, opening_s(page)
    print(f"  {CELLS} cells run, {CLIPS} clips each; made in {making_s:.1f} s")
    print(f"  size  {size_mb:.2f} MB (goal < {SIZE_GOAL_MB:g})")
    print(f"  opens {seconds:.2f} s (goal < {OPEN_GOAL_S:g})")
    share = max(size_mb / SIZE_GOAL_MB, seconds / OPEN_GOAL_S)
    return finish("page", share, 1.0, at_least=False, note="of the goal, the worse of the two:")


if __name__ == "__main__":
    sys.exit(main())
