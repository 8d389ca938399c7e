import signal
import time

import numpy as np
import pytest

from harness.device import Presence
from harness.errors import BuildError, RunError
from harness.host.child_process import run_in_child
from harness.registry import device_spec, model_spec
from harness.spec import Artifact, DeviceModel, OnnxModel
from harness.testing import FakeClock, FakeDevice, FakeSession, FaultyDevice
from harness.timings import LoopSettings

FEED = {"x": np.arange(3.0)}


@pytest.fixture
def onnx(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"a whole model")
    return OnnxModel(model_spec("timesformer"), 1, "seeded", Artifact("onnx", path, "00", {}))


def twice(feed):
    return {"y": 2 * feed["x"]}


def spoilt(outputs):
    return {"y": -outputs["y"]}


def test_a_clock_moves_by_steps_and_by_hand():
    clock = FakeClock(step_s=0.5)
    assert [clock(), clock()] == [0.0, 0.5]
    clock.advance(2.0)
    assert clock() == 3.0


@pytest.mark.parametrize("clock", [FakeClock(), None])
def test_a_session_costs_its_latency(clock):
    session, read = FakeSession(twice, 0.005, clock), clock or time.monotonic
    start_s = read()
    np.testing.assert_array_equal(session.run(FEED)["y"], [0, 2, 4])
    assert read() - start_s >= 0.005
    times = session.loop(FEED, LoopSettings(min_queries=3))
    assert times.device_ms == times.device_io_ms == (5.0,) * 3
    np.testing.assert_array_equal(times.output["y"], [0, 2, 4])


def test_a_closed_session_refuses():
    session = FakeSession(twice)
    session.close()
    with pytest.raises(RunError, match="closed"):
        session.run(FEED)


def test_a_device_copies_its_model(onnx, tmp_path):
    double = FakeDevice(device_spec("cpu"), twice, latency_s=0.0)
    assert double.probe().presence is Presence.PRESENT
    target = tmp_path / "built"
    assert double.build(onnx, target) == {"double": True}
    assert target.read_bytes() == b"a whole model"
    model = DeviceModel(onnx, "cpu", Artifact("device", target, "00", {}))
    np.testing.assert_array_equal(double.open(model).run(FEED)["y"], [0, 2, 4])


@pytest.mark.parametrize("error", [BuildError("refused"), KeyboardInterrupt("refused")])
def test_a_fault_comes_in_the_middle_of_a_build(onnx, tmp_path, error):
    double = FakeDevice(device_spec("cpu"), twice, fault=error)
    with pytest.raises(type(error), match="refused"):
        double.build(onnx, tmp_path / "built")
    assert (tmp_path / "built").read_bytes() == b"half"
    with pytest.raises(type(error), match="refused"):
        double.open(DeviceModel(onnx, "cpu", onnx.artifact))


def test_a_signal_ends_the_process_that_builds(onnx, tmp_path):
    # A built-in function, so that this module must not be importable in the child.
    double = FakeDevice(device_spec("cpu"), dict, fault=signal.SIGTERM)
    with pytest.raises(BuildError, match="killed by SIGTERM"):
        run_in_child(double.build, onnx, tmp_path / "built", failure=BuildError)


def test_a_faulty_device_works_but_for_its_outputs(onnx, tmp_path):
    inner = FakeDevice(device_spec("cpu"), twice, latency_s=0.0)
    faulty = FaultyDevice(inner, lambda: spoilt)
    assert (faulty.spec, faulty.probe()) == (inner.spec, inner.probe())
    assert faulty.build(onnx, tmp_path / "built") == {"double": True}
    session = faulty.open(DeviceModel(onnx, "cpu", onnx.artifact))
    np.testing.assert_array_equal(session.run(FEED)["y"], [0, -2, -4])
    np.testing.assert_array_equal(session.loop(FEED, LoopSettings()).output["y"], [0, -2, -4])
    session.close()
    with pytest.raises(RunError, match="closed"):
        session.run(FEED)
