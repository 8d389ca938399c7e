import dataclasses
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness import registry
from harness.device import Presence
from harness.errors import BuildError, DeviceBroken, HarnessError, RunError
from harness.runtimes.ort.device import OrtDevice
from harness.runtimes.ort.session import OrtSession, ort_errors
from harness.spec import DeviceModel
from harness.timings import LoopSettings, Vitals

X = np.ones((2, 3), np.float32)
QUICK = LoopSettings(warmup_queries=1, min_queries=4, min_seconds=0.0)
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


class FakeSession:
    """Stands for onnxruntime.InferenceSession."""

    def __init__(self, providers, error=None):
        self._providers = providers
        self._error = error

    def get_providers(self):
        return self._providers

    def get_inputs(self):
        return [SimpleNamespace(name="x")]

    get_outputs = get_inputs

    def run(self, names, feed):
        raise self._error

    def io_binding(self):
        raise self._error


@pytest.fixture
def cuda_device():
    return OrtDevice(
        registry.device_spec("cuda"), CUDA, "cuda", install_hint="install onnxruntime-gpu"
    )


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Return what puts a script on PATH in the place of nvidia-smi."""
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(script):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)

    return write


@pytest.fixture
def fake_ort(monkeypatch):
    """Let onnxruntime offer CUDA, and make sessions of what a test chooses."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])

    def sessions(make):
        monkeypatch.setattr(onnxruntime, "InferenceSession", make)

    return sessions


def test_a_host_without_onnx_runtime(cuda_device, monkeypatch, onnx_model, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    state = cuda_device.probe()
    assert state.presence is Presence.ABSENT
    assert "onnxruntime" in state.detail
    assert state.detail.endswith("; install onnxruntime-gpu")
    with pytest.raises(BuildError, match=r"cuda is absent: .*; install onnxruntime-gpu"):
        cuda_device.build(onnx_model, tmp_path / "built")


def test_an_onnx_runtime_without_the_provider(cuda_device, monkeypatch, onnx_model, tmp_path):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    state = cuda_device.probe()
    assert state.presence is Presence.ABSENT
    assert f"offers {CPU} but not {CUDA}; install onnxruntime-gpu" in state.detail
    with pytest.raises(BuildError, match="cuda is absent"):
        cuda_device.build(onnx_model, tmp_path / "built")
    with pytest.raises(RunError, match="cuda is absent"):
        cuda_device.open(DeviceModel(onnx_model, "cuda", onnx_model.artifact))
    assert not (tmp_path / "built").exists()


def test_a_provider_whose_hardware_or_libraries_are_missing_is_broken(cuda_device, fake_ort):
    fake_ort(lambda *_, **__: FakeSession([CPU]))
    state = cuda_device.probe()
    assert state.presence is Presence.BROKEN
    assert state.detail == (
        f"{CUDA} is offered but cannot be used: a graph ran on {CPU}; install onnxruntime-gpu"
    )


def test_a_provider_that_fails_is_broken(cuda_device, fake_ort):
    def fail(*_, **__):
        raise RuntimeError("CUDA failure 35: driver too old")

    fake_ort(fail)
    state = cuda_device.probe()
    assert state.presence is Presence.BROKEN
    assert "fails: CUDA failure 35: driver too old; install onnxruntime-gpu" in state.detail


def test_a_provider_that_loads_a_graph_is_present(cuda_device, fake_ort):
    import onnxruntime

    real = onnxruntime.InferenceSession

    def make(content, options, **_):
        real(content, options, providers=[CPU])
        return FakeSession([CUDA, CPU])

    fake_ort(make)
    state = cuda_device.probe()
    assert (state.presence, state.unit_ids) == (Presence.PRESENT, ("cuda",))


def test_cuda_computes_in_fp32_with_the_libraries_that_pip_installed(fake_ort, monkeypatch, capsys):
    import onnxruntime

    asked = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcufft.so"))
    fake_ort(lambda *_, providers, **__: asked.append(providers) or FakeSession([CUDA, CPU]))
    assert registry.device("cuda").probe().presence is Presence.PRESENT
    assert asked == [[(CUDA, {"use_tf32": "0"}), (CPU, {})]]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("script", "facts"),
    [
        ("echo 'Tesla T4, 535.104.05'", {"chip": "Tesla T4", "driver": "535.104.05"}),
        (
            "printf 'NVIDIA A10, 1.2\\nTesla T4, 1.2\\n'",
            {"chip": "NVIDIA A10 or Tesla T4", "driver": "1.2"},
        ),
        ("printf 'Tesla T4, 1.2\\nTesla T4, 1.2\\n'", {"chip": "Tesla T4", "driver": "1.2"}),
        ("echo 'No devices were found'", {}),
        ("echo 'couldn't communicate, at all'; exit 9", {}),
        ("exit 6", {}),
    ],
    ids=["one", "two kinds", "two of a kind", "none", "broken", "silent"],
)
def test_what_the_driver_says_of_a_gpu(script, facts, nvidia_smi, fake_ort):
    nvidia_smi(script)
    fake_ort(lambda *_, **__: FakeSession([CUDA, CPU]))
    found = registry.device("cuda").probe().facts
    assert {name: found[name] for name in found.keys() & {"chip", "driver"}} == facts


TWO = f"""case "$1" in
    *compute-apps*) printf 'GPU-a, 1\\nGPU-b, {os.getpid()}\\n' ;;
    *) printf 'GPU-a, 40, 9.1, 300, 0\\nGPU-b, 71, 240.5, 1410, 1000\\n' ;;
esac"""
OTHERS = TWO.replace(str(os.getpid()), "2")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'GPU-a, 40, 9.13, 300, 1000'", Vitals(40.0, 9.13, None, "card", 300.0, 1048.576)),
        (
            "echo 'GPU-a, 40, [N/A], [Not Supported], 0'",
            Vitals(temperature_c=40.0, memory_mb=0.0),
        ),
        (TWO, Vitals(71.0, 240.5, None, "card", 1410.0, 1048.576)),
        (OTHERS, Vitals()),
        ("echo 'No devices were found'", Vitals()),
    ],
    ids=["one", "not known", "of two", "of others", "none"],
)
def test_how_a_gpu_is_comes_from_the_one_that_computes(script, expected, nvidia_smi):
    nvidia_smi(script)
    found = registry.device("cuda").vitals()
    assert found.host_mb > 5.0
    assert dataclasses.replace(found, host_mb=None) == expected


@pytest.mark.parametrize(
    ("used_mb", "gained"), [((100.0, 400.0), 300.0), ((100.0, 100.0), None), ((None, 5.0), None)]
)
def test_a_start_takes_the_memory_that_the_device_gained(used_mb, gained, onnx_model):
    looks = iter(used_mb)
    cpu = registry.device("cpu")
    device = dataclasses.replace(cpu, signs=lambda: Vitals(memory_mb=next(looks)))
    model, prepared = DeviceModel(onnx_model, "cpu", onnx_model.artifact), []
    feed = {one.name: np.zeros(one.shape, one.dtype) for one in onnx_model.inputs}
    start = device.start(model, feed, prepared.append)
    assert (start.device_peak_mb, prepared) == (gained, [onnx_model.artifact.path])
    assert start.load_ms > 0.0


def test_a_gpu_that_is_lost_is_told(nvidia_smi):
    nvidia_smi("echo 'Unable to determine the device handle: GPU is lost.'; exit 15")
    with pytest.raises(DeviceBroken, match=r"nvidia-smi .*did not answer: .*GPU is lost"):
        registry.device("cuda").vitals()


def test_a_host_without_the_tool_of_the_driver(monkeypatch, tmp_path, fake_ort):
    monkeypatch.setenv("PATH", str(tmp_path))
    fake_ort(lambda *_, **__: FakeSession([CUDA, CPU]))
    assert registry.device("cuda").probe().facts.keys() == {"onnxruntime", "provider"}
    assert registry.device("cuda").vitals().temperature_c is None


def test_a_silent_fallback_is_refused(cuda_device, fake_ort, onnx_model, tmp_path):
    fake_ort(lambda *_, **__: FakeSession([CPU]))
    message = f"fell back to {CPU} instead of {CUDA}: install .* proves nothing about cuda"
    with pytest.raises(BuildError, match=message):
        cuda_device.build(onnx_model, tmp_path / "built")
    with pytest.raises(RunError, match=message):
        cuda_device.open(DeviceModel(onnx_model, "cuda", onnx_model.artifact))


def test_onnx_runtime_may_not_fall_back_by_itself(cuda_device, fake_ort, onnx_model, tmp_path):
    asked = []

    def make(path, options, providers, enable_fallback):
        asked.append((providers, enable_fallback))
        return FakeSession([CUDA, CPU])

    fake_ort(make)
    assert cuda_device.build(onnx_model, tmp_path / "built") == {"provider": CUDA}
    assert cuda_device.open(DeviceModel(onnx_model, "cuda", onnx_model.artifact))
    assert asked == [([(CUDA, {}), (CPU, {})], False)] * 2


def test_a_session_does_not_fall_back_on_the_way(onnx_model):
    device = registry.device("cpu")
    session = device.open(DeviceModel(onnx_model, "cpu", onnx_model.artifact))
    assert session._session._enable_fallback is False


@pytest.mark.parametrize("kind", ["EPFail", "Fail", "RuntimeException"])
def test_a_provider_that_fails_on_the_way_is_an_error(kind):
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    broken = FakeSession([CUDA], getattr(state, kind)("CUDA error 700"))
    session = OrtSession(broken, Path("a.onnx"))
    with pytest.raises(RunError, match=r"cannot run a\.onnx: CUDA error 700"):
        session.run({"x": X})
    with pytest.raises(RunError, match=r"cannot run a\.onnx: CUDA error 700"):
        session.loop({"x": X}, QUICK)


def test_errors_of_the_suite_are_not_taken_for_those_of_onnx_runtime():
    assert len(ort_errors()) > 10
    assert not any(issubclass(HarnessError, kind) for kind in ort_errors())
