"""Faults of time are held against a golden of the host that they are planted on, whatever processor it has."""

import dataclasses
from pathlib import Path

import pytest

from harness.contract.thresholds import thresholds_from_file
from harness.selftest import time_faults
from harness.selftest.setting import Setting
from harness.spec import Cell

CONTRACT = Path(__file__).parents[2] / "thresholds.toml"
CELL = Cell("nonlocal_tiny", "cpu", 4)
SHIPPED = thresholds_from_file(CONTRACT).limits(CELL).throughput


def with_golden(device, folder):
    text = CONTRACT.read_text("utf-8")
    setting = Setting(device, folder, folder, text, lambda: (folder, folder), {})
    path = folder / "thresholds.toml"
    path.write_text(time_faults.with_golden(setting, 1.25), "utf-8")
    return thresholds_from_file(path).limits(dataclasses.replace(CELL, device=device)).throughput


@pytest.mark.parametrize("processor", [SHIPPED.processor, *SHIPPED.golden_on, "another one"])
def test_a_fault_of_time_has_a_golden_of_this_processor(tmp_path, monkeypatch, processor):
    monkeypatch.setattr("harness.selftest.setting.processor_name", lambda: processor)
    here = with_golden("cpu", tmp_path).on_processor(processor)
    assert (here.golden, here.tolerance) == (1.25, time_faults.HOST_TOLERANCE)


def test_a_fault_of_time_has_a_golden_of_whatever_chip_there_is(tmp_path):
    here = with_golden("cuda", tmp_path)
    assert (here.golden, here.chip) == (1.25, None)
