"""Starts in fresh processes, with faults planted in the device that starts."""

import dataclasses
import multiprocessing
import time

import numpy as np
import pytest

from harness.check.context import Context
from harness.check.startup import check_startup
from harness.errors import RunError
from harness.judge.limits import StartupLimits
from harness.record.recompute import measurement_from_raw
from harness.registry import device
from harness.spec import Status
from harness.testing import FaultyDevice

LIMITS = StartupLimits(
    warm_load_max_ms=2000.0, warm_first_max_ms=2000.0, host_peak_max_mb=400.0, source="us"
)


@dataclasses.dataclass
class SlowToLoad(FaultyDevice):
    """A device that waits before it opens a model."""

    def open(self, model, threads=None):
        # Twice the limit: on a busy host two loads may be half a second apart.
        time.sleep(4.0)
        return super().open(model, threads)


@dataclasses.dataclass
class Hungry(FaultyDevice):
    """A device that takes half a gigabyte of the host to open a model."""

    def open(self, model, threads=None):
        self.taken = np.ones(1 << 26)
        return super().open(model, threads)


@dataclasses.dataclass
class Unprepared(FaultyDevice):
    """A device that loads a file which nobody put into the page cache, or took out of it."""

    def start(self, model, feed, prepare):
        return super().start(model, feed, lambda path: True)


@dataclasses.dataclass
class Hanging(FaultyDevice):
    """A device that never opens a model."""

    def open(self, model, threads=None):
        time.sleep(3600.0)
        return super().open(model, threads)


@pytest.fixture
def started(clean, make_suite, cache, thresholds):
    """Return what starts a cell of the narrow model on a double of the processor."""

    def run(double=None, startup=LIMITS):
        bench = make_suite(cache, {"cpu": double or device("cpu")}).bench
        tier = thresholds.tier("nightly")
        plan = tier.timing["default"].model_copy(update={"sessions_min": 2, "sessions_max": 2})
        tier = tier.model_copy(update={"timing": {"default": plan}})
        cell = clean[1]["throughput"].cell
        limits = thresholds.limits(cell).model_copy(update={"startup": startup})
        return check_startup(Context(cell, bench, tier, limits))

    return run


def test_a_start_is_measured_for_real(started, clean, tmp_path):
    found = started()
    assert found.verdict.status is Status.PASS, found.verdict.reason
    measured = found.measurement
    assert 0.0 < measured.warm_first_ms.mean < 2000.0
    assert 30.0 < measured.host_peak_mb < 400.0
    assert measured.device_peak_mb is None
    assert measured.uncooled in (0, 2)
    # What the record says follows from its raw file.
    suite, records = clean
    record = records["throughput"].model_copy(
        update={
            "check": "startup",
            "measurement": measured,
            "raw": {"starts": suite.run.keep(*found.raw["starts"])},
        }
    )
    assert measurement_from_raw(record, suite.run) == measured


@pytest.mark.parametrize(
    ("double", "said"), [(SlowToLoad, "warm load time is"), (Hungry, "peak host memory is")]
)
def test_a_planted_fault_is_found(started, double, said):
    verdict = started(double(device("cpu"))).verdict
    assert (verdict.status, said in verdict.reason) == (Status.FAIL, True), verdict.reason


def test_a_start_that_hangs_is_killed_and_named(started, monkeypatch):
    monkeypatch.setattr("harness.check.startup.HANG_S", 3.0)
    with pytest.raises(RunError, match=r"start_once: stopped at its limit of 3 s"):
        started(Hanging(device("cpu")))
    assert multiprocessing.active_children() == []


def test_a_start_from_a_file_that_was_not_prepared_is_neither_cold_nor_warm(started):
    found = started(Unprepared(device("cpu")))
    assert (found.verdict.status, found.measurement.uncooled) == (Status.INVALID, 4)
    assert "was not taken: warm load time" in found.verdict.reason


@pytest.mark.parametrize(
    ("limits", "shares_host"),
    [(LIMITS, False), (StartupLimits(host_peak_max_mb=400.0, source="us"), True), (None, False)],
)
def test_only_starts_whose_time_is_limited_have_the_host_alone(
    started, monkeypatch, limits, shares_host
):
    def held_device(context, **how):
        assert how == {"shares_host": shares_host}
        raise RunError("it was held")

    monkeypatch.setattr("harness.check.startup.held_device", held_device)
    with pytest.raises(RunError, match="it was held"):
        started(startup=limits)
