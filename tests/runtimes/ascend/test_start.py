import pytest

from harness.check.startup import start_once
from harness.errors import RunError
from harness.host.child_process import run_in_child


@pytest.fixture
def started(bench, make, generation, tmp_path, monkeypatch):
    """Return what starts a model on the emulator, in a process of its own."""
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv("EMULATOR_STATE", str(state))
    model = bench.built_before(make.tiny_onnx(bench.folder))

    def run(fault="", cache="warm"):
        bench.fault(fault)
        return run_in_child(start_once, bench.device(), model, cache, failure=RunError)[0]

    return run


def test_a_start_tells_load_first_inference_and_the_memory_of_chip_and_host(started):
    found = started(cache="cold")
    assert found.cache in ("cold", None)
    assert 0.0 < found.load_ms < 5e3
    assert 0.0 < found.first_ms < 5e3
    assert found.device_peak_mb == 300.0
    assert 20.0 < found.host_peak_mb < 2e3
    assert found.problems == ()
    assert "62 °C" in found.notes[1]


def test_a_model_that_loads_slowly_is_seen(started):
    assert started("bench_slow_load").load_ms > 2000.0


def test_without_infer_session_only_the_first_inference_is_known(started):
    found = started("bench_no_interface")
    # The emulator's first run takes three times its 5 ms; the copies are 0.904 ms.
    assert found.first_ms == pytest.approx(15.904 * 1.07, rel=0.1)
    assert (found.load_ms, found.device_peak_mb) == (None, None)
    assert "through ais_bench" in found.notes[0]


def test_a_chip_in_use_makes_it_invalid(started):
    assert "was in use" in started("smi_busy").problems[0]
