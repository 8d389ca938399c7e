"""What the history or the baseline lets one expect, and a run lacks."""

import dataclasses
from types import SimpleNamespace

from harness.nightly.absences import missing_cells
from harness.nightly.comparison import Kind
from harness.nightly.series import Point, Series, SeriesKey
from harness.spec import Status

HERE = SeriesKey("nonlocal_r50", "cpu", 1, "throughput", "processor.x", "epyc-2cpu")
ELSEWHERE = dataclasses.replace(HERE, batch=4, host_class="xeon-2cpu")
GONE = dataclasses.replace(HERE, batch=8)


def series(key, *run_ids):
    points = (
        Point(run_id, "2026-10-01T02:00:00+00:00", 1.0, Status.PASS, {}) for run_id in run_ids
    )
    return Series(key, tuple(points))


def missed(found, baseline=()):
    frozen = SimpleNamespace(series=[SimpleNamespace(key=key) for key in baseline])
    notices = missing_cells(found, "tonight", [f"night-{n}" for n in range(30)], frozen)
    assert {(one.kind, one.status) for one in notices} <= {(Kind.NO_CELL, Status.NOT_RUN)}
    return [one.id for one in notices]


def test_a_check_of_the_last_nights_or_of_the_baseline_of_these_hosts_is_missed():
    tonight = series(HERE, "night-29", "tonight")
    gone = ["nonlocal_r50-cpu-bs8:throughput"]
    assert missed([tonight, series(GONE, "night-29")]) == gone
    assert missed([tonight, series(GONE, "night-0")]) == []
    assert missed([tonight], [HERE, GONE]) == gone
    assert missed([tonight], [HERE, ELSEWHERE]) == []
    assert missed([tonight, series(GONE, "night-27")]) == gone
    assert missed([tonight, series(GONE, "night-26")]) == []
