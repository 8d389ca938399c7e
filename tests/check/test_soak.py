"""Soaks in processes of their own, with faults planted in the device that works."""

import dataclasses
import time

import numpy as np
import pytest

from harness.check.context import Context
from harness.check.soak import _stretches, check_soak
from harness.device import DeviceState, Presence
from harness.errors import DeviceBroken, RunError
from harness.judge.limits import SoakLimits
from harness.record.recompute import measurement_from_raw
from harness.registry import device, device_spec
from harness.spec import Status
from harness.testing import FakeDevice, FakeSession
from harness.timings import LoopTimes, Vitals

LIMITS = SoakLimits(retention_min=0.5, host_growth_max_mb=200.0, source="us")
SECONDS = 4.0


@dataclasses.dataclass
class Hot(FakeDevice):
    """A device of 5 ms a query whose queries take ``slowing_s`` longer each second of its life."""

    slowing_s: float = 0.0
    silent_after: int = 1 << 30
    asked: int = 0

    def open(self, model, threads=None):
        begin_s, session = time.monotonic(), FakeSession(dict)

        def steady(feed, queries):
            query_s = 0.005 + self.slowing_s * (time.monotonic() - begin_s)
            time.sleep(query_s * queries)
            return LoopTimes((1000.0 * query_s,) * queries, ())

        session.steady = steady
        return session

    def vitals(self):
        self.asked += 1
        if self.asked > self.silent_after:
            raise DeviceBroken("npu-smi did not answer within 30 s")
        return Vitals(temperature_c=60.0, power_w=20.0, power_of="card", health="OK")


@pytest.fixture
def soaked(clean, make_suite, cache, thresholds):
    """Return what soaks a cell of the narrow model, and the workbench that it does so on."""

    def run(double=None, limits=LIMITS, say=None):
        bench = make_suite(cache, {"cpu": double or device("cpu")}).bench
        bench.progress.say = say or (lambda text: None)
        tier = thresholds.tier("nightly").model_copy(update={"soak_minutes": SECONDS / 60.0})
        cell = clean[1]["throughput"].cell
        found = thresholds.limits(cell).model_copy(update={"soak": limits})
        return check_soak(Context(cell, bench, tier, found))

    return run


def double(**options):
    state = DeviceState(Presence.PRESENT, "a double", {}, ("chip7",))
    return Hot(dataclasses.replace(device_spec("cuda"), name="cpu"), dict, state=state, **options)


def test_the_processor_is_soaked_for_real(soaked, clean):
    lines = []
    found = soaked(say=lines.append)
    measured = found.measurement
    assert found.verdict.status is Status.PASS, found.verdict.reason
    assert (measured.definition, measured.is_stopped) == ("processor", False)
    # A busy host makes stretches longer, so that fewer fit.
    assert 3 <= len(measured.per_s) <= 12
    assert measured.sample_count >= 3
    assert measured.host_growth_mb is not None
    assert len(lines) == len(measured.per_s)
    assert "of 0.0666667 min: " in lines[0]
    suite, records = clean
    record = records["throughput"].model_copy(
        update={
            "check": "soak",
            "measurement": measured,
            "raw": {"soak": suite.run.keep(*found.raw["soak"])},
        }
    )
    assert measurement_from_raw(record, suite.run) == measured


def test_a_device_that_slows_down_is_found(soaked):
    found = soaked(double(slowing_s=0.01))
    assert found.verdict.status is Status.FAIL
    assert "retention of speed is" in found.verdict.reason
    assert found.measurement.power.clip_j is not None


def test_an_output_that_a_device_loses_at_work_is_not_the_same():
    whole = {"scores": np.zeros(3), "features": np.zeros(9)}
    outputs = iter([whole, whole, {"scores": np.zeros(3)}, {**whole, "scores": np.zeros(4)}])
    session, times = (
        FakeSession(dict),
        iter([0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0]),
    )
    session.steady = lambda feed, queries: LoopTimes((1000.0,), (), next(outputs))
    found = list(_stretches(session, {}, 4.0, 1.0, lambda: next(times, 4.0)))
    assert [one.is_output_same for one in found] == [True, True, False, False]


def test_a_device_that_hangs_is_killed_and_named(soaked, monkeypatch):
    monkeypatch.setattr("harness.check.soak.HANG_S", 4.0)
    with pytest.raises(RunError, match=r"soak_session.*8 s"):
        soaked(double(slowing_s=1e9))


def test_tools_that_stop_answering_leave_it_unjudged(soaked):
    limits = SoakLimits(retention_min=0.5, source="us")
    assert soaked(double(), limits).verdict.status is Status.PASS
    found = soaked(double(silent_after=2), limits)
    assert found.verdict.status is Status.INVALID
    assert "npu-smi did not answer within 30 s" in found.verdict.reason


def test_ctrl_c_keeps_what_was_measured(soaked):
    lines = []

    def say(text):
        lines.append(text)
        if len(lines) == 3:
            raise KeyboardInterrupt

    found = soaked(say=say)
    assert found.verdict.status is Status.INCONCLUSIVE
    assert "; what was measured is kept" in found.verdict.reason
    assert found.measurement.is_stopped
    assert 3 <= len(found.measurement.per_s) < 9
    assert "stopped; what was measured is kept" in lines[3]
