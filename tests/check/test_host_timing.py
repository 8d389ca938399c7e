import numpy as np
import pytest

from harness.check import host_timing
from harness.check.host_timing import HostWatch, time_turns
from harness.errors import RunError
from harness.host.clocks import Reading
from harness.registry import device_spec
from harness.spec import Artifact, DeviceModel, OnnxModel
from harness.testing import FakeDevice
from harness.timings import LoopSettings

PASSED = Reading(10.0, 12.0, 7.0, 0.0, 10.0, 10.0, 12.0)
ZERO = Reading(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(host_timing, "is_host_quiet", lambda *_: True)
    readings = iter([ZERO, *[PASSED] * 9])
    return HostWatch(lambda: next(readings))


def test_processors_at_work_are_all_threads_over_the_calling_one(watch):
    use = watch.host_use(Reading(1.0, 1.8, 1.0, 0.0, 1.0, 1.0, 1.8))
    assert (use.usable, use.used, use.is_quiet) == (2, 1.8, True)
    assert watch.host_use(Reading(0.2, 0.2, 0.19, 0.0, 0.2, 0.2, 0.2)).used is None


def test_clocks_are_compared_over_the_whole_session(watch):
    assert watch.problems() == ()


def test_a_device_that_fails_in_the_turns_is_closed(narrow_spec, tmp_path, monkeypatch):
    def fails(feed):
        raise RunError("the device is gone")

    monkeypatch.setattr(host_timing, "unoptimised_session", lambda *_, **__: None)
    monkeypatch.setattr(host_timing, "OrtSession", lambda *_: None)
    artifact = Artifact("device", tmp_path / "m.onnx", "00", {})
    model = DeviceModel(OnnxModel(narrow_spec, 1, "seeded", artifact), "cpu", artifact)
    double = FakeDevice(device_spec("cpu"), fails)
    session = double.open(model)
    monkeypatch.setattr(double, "open", lambda model, threads: session)
    with pytest.raises(RunError, match="is gone"):
        time_turns(double, model, tmp_path, {"x": np.zeros(1)}, LoopSettings(), lambda: ZERO)
    assert session.is_closed


def test_an_exported_graph_that_does_not_load_is_an_error_of_the_run(narrow_spec, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"not a graph")
    artifact = Artifact("device", tmp_path / "m.onnx", "00", {})
    model = DeviceModel(OnnxModel(narrow_spec, 1, "seeded", artifact), "cpu", artifact)
    double = FakeDevice(device_spec("cpu"), lambda feed: feed)
    with pytest.raises(RunError, match=r"ONNX Runtime cannot load .*m\.onnx"):
        time_turns(double, model, artifact.path, {}, LoopSettings(), lambda: ZERO)
