import dataclasses

import pytest

from harness.check.soak import soak_session
from harness.errors import DeviceBroken
from harness.host.command import CommandResult
from harness.judge.limits import SoakLimits
from harness.judge.soak import judge_soak
from harness.measure.soak import soak_measurement
from harness.measure.soak_lines import soak_lines
from harness.registry import device_spec
from harness.runtimes.ascend.npu_smi import NpuSmi
from harness.runtimes.ascend.vitals import chip_vitals
from harness.spec import Status

# As the source of npu-smi prints it for a 310B with a controller.
POWER_310B = (
    "NPU ID : 0\nChip Count : 1\n\nChip ID : 0\nNPU Real-time Power(W) : 9.1\n\n"
    "Power Dissipation(W) : 16.9\nChip Name : MCU\n"
)
RATED = "NPU ID : 0\n\nChip ID : 0\nRated Power Dissipation(W) : 12.8\n"
LIMITS = SoakLimits(retention_min=0.9, source="us")


@pytest.fixture
def loaded(bench, make, tmp_path, monkeypatch):
    """Return the device and a model that is built for it; the emulated tools know of each other."""
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv("EMULATOR_STATE", str(state))
    monkeypatch.setenv("EMULATOR_GENERATION", "2025")
    monkeypatch.setattr("harness.check.soak.INTERVALS_S", (2.0, 2.0))
    return bench.device(), bench.built_before(make.tiny_onnx(bench.folder))


def soaked(loaded, tmp_path, seconds=15.0):
    device, model = loaded
    path = tmp_path / "soak.jsonl"
    soak_session(device, model, seconds, path)
    return soak_measurement(soak_lines(path.read_bytes()), model.onnx.batch)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(POWER_310B, (9.1, "chip")), (RATED, (None, "")), ("not supported", (None, ""))],
)
def test_power_is_that_of_the_chip_or_of_its_card_and_never_what_it_is_rated_for(
    bench, text, expected
):
    smi = NpuSmi(run=bench.tools.run)
    (chip,) = smi.report().chips
    told = dataclasses.replace(smi, run=lambda command: CommandResult(0, text, 0.1))
    assert told.power(chip) == expected
    assert told.frequency_mhz(chip) is None


def test_npu_smi_tells_a_chip_at_work(loaded, bench):
    found = loaded[0].vitals()
    assert (found.temperature_c, found.memory_mb, found.health) == (47.0, 1894.0, "OK")
    # The table of a 310P says NA; the card's controller knows.
    assert (found.power_w, found.power_of, found.frequency_mhz) == (16.9, "card", 960.0)
    bench.fault("smi_no_power")
    assert loaded[0].vitals().power_w is None


def test_a_chip_that_is_gone_is_told(bench):
    with pytest.raises(DeviceBroken, match="no longer shows npu7-chip0"):
        chip_vitals(NpuSmi(run=bench.tools.run), device_spec("ascend310p").chip_names, "npu7-chip0")


def test_a_soak_is_watched_while_the_chip_works(loaded, tmp_path):
    found = soaked(loaded, tmp_path)
    assert (found.temperature_c.high, found.definition) == (62.0, "device")
    assert (found.power.mean_w, found.power.of, found.host_growth_mb) == (16.9, "card", None)
    assert (found.unhealthy, found.silent) == ((), 0)
    verdict = judge_soak(found, LIMITS)
    assert verdict.status is Status.PASS, verdict.reason


def test_a_chip_that_slows_down_and_one_whose_memory_grows_fail(loaded, bench, tmp_path):
    bench.fault("bench_slowing,smi_leak")
    found = soaked(loaded, tmp_path)
    limits = LIMITS.model_copy(update={"device_growth_max_mb": 50.0})
    verdict = judge_soak(found, limits)
    assert verdict.status is Status.FAIL
    for said in ("retention of speed", "growth of device memory"):
        assert said in verdict.reason


def test_npu_smi_that_stops_answering_leaves_nothing_to_pass_on(loaded, bench, tmp_path):
    bench.fault("smi_hang_loaded")
    device = dataclasses.replace(
        loaded[0], tools=dataclasses.replace(loaded[0].tools, probe_timeout_s=1.0)
    )
    found = soaked((device, loaded[1]), tmp_path)
    verdict = judge_soak(found, LIMITS)
    assert (verdict.status, "did not answer within 1 s" in verdict.reason) == (Status.INVALID, True)
