"""Two runs at once on one cache, which answers as slowly as over a network."""

import io
import shutil
from concurrent.futures import ThreadPoolExecutor

from harness.host.progress import Progress
from harness.spec import Cell
from tests.limited import slow_disk

CELL = Cell("nonlocal_tiny", "cpu", 4)


def test_two_runs_on_a_slow_disk_agree_with_one_on_a_fast_one_and_are_not_silent(
    clean, make_suite, cache, in_process, tmp_path
):
    # Neither decoded clips nor answers are there.
    absent = shutil.ignore_patterns("*.lock", "crops", "partial")
    slow = shutil.copytree(cache, tmp_path / "cache", ignore=absent)
    screens = io.StringIO(), io.StringIO()

    def run(screen):
        suite = make_suite(slow)
        suite.bench.progress = Progress(screen, interval_s=0.5)
        with suite.bench.progress.watched(f"{CELL.id} accuracy"):
            return suite.check(CELL, "accuracy")

    with slow_disk(slow, 0.02) as counts, ThreadPoolExecutor(2) as pool:
        records = list(pool.map(run, screens))
    assert counts.total() > 200, counts
    for record, screen in zip(records, screens, strict=True):
        assert record.verdict == clean[1]["accuracy"].verdict
        assert record.raw == clean[1]["accuracy"].raw
        assert f"{CELL.id} accuracy" in screen.getvalue()
