import dataclasses
from pathlib import Path

import pytest

from harness.__main__ import main
from harness.contract.show import Footnotes, matrix_lines, speed_rows
from harness.contract.thresholds import thresholds_from_file
from harness.judge.limits import DeviceModelLimits, ThroughputReference

CONTRACT = Path(__file__).parents[2] / "thresholds.toml"


@pytest.fixture(scope="module")
def thresholds():
    return thresholds_from_file(CONTRACT)


def rows(lines):
    return {tuple(line.split()[:2]): line.split() for line in lines if line.startswith("  ")}


def test_a_row_says_floor_golden_guide_tolerance_unit_and_source(thresholds):
    lines = matrix_lines(thresholds, "nonlocal_r50")
    found = rows(lines)
    floor = " ".join(found["ascend310p", "top-1"])
    assert "top-1 14,174 = 71.60 % 71.62 % 71.62 % – right clips" in floor
    speed = found["ascend310p-bs4", "speed"]
    assert "speed 74.341 78.254 78.254 5 % clips/s a chip, device [" in " ".join(speed)
    source = next(line for line in lines if line.startswith(speed[-1]))
    assert "ModelZoo guide Nonlocal, table of performance, column 310P" in source
    assert "clips/s a card of 4 chips" in " ".join(found["ascend310-bs1", "speed"])


def test_a_golden_of_another_processor_has_a_row_of_its_own():
    row = {"golden": 2.0, "tolerance": 0.1, "processor": "one", "tolerance_elsewhere": 0.5}
    terms = {"unit": "x unoptimised", "definition": "processor", "scope": "host"}
    other = {"golden": 1.0, "tolerance": 0.2, "source": "over there"}
    reference = ThroughputReference(
        **row, **terms, against="unoptimised", golden_on={"two": other}, source="here"
    )
    notes = Footnotes()
    first, second = speed_rows("cpu-bs1", reference, notes, has_golden=True)
    assert (first[2:4], second[2:4]) == (("1.800", "2.000"), ("0.800", "1.000"))
    assert (first[-1], second[-1]) == ("[1] [2]", "[3] [4]")
    without = "on one; a tolerance of 0.5 on one without a golden"
    assert notes.texts == ["here", without, "over there", "on two"]


def test_what_holds_for_every_device_stands_above_the_rows(thresholds):
    lines = matrix_lines(thresholds, "nonlocal_r50")
    heads = [line.strip().partition(": ") for line in lines if ": " in line]
    assert {
        ("multiply-adds beside PyTorch's", "tolerance 0.02"),
        ("parity in fp16", "fp64_factor 3"),
        ("every clip in fp16", "max_abs_error 1"),
    } <= {(head, text.split(" [")[0].split(",")[0]) for head, _, text in heads}


def test_bounds_are_not_shown_as_a_golden(thresholds):
    found = rows(matrix_lines(thresholds, "nonlocal_tiny"))
    assert found["cuda-bs8", "speed"][2:6] == ["1.000", "–", "–", "–"]
    assert found["cuda", "top-5"][2:5] == ["476", "=", "99.00"]


def test_limits_of_the_device_model_are_rows_of_their_own(thresholds):
    limits = DeviceModelLimits(memory_max_mb=512.5, ai_cpu_operators_max=3, source="us")
    table = thresholds.file.models["nonlocal_r50"]
    device = table.devices["ascend310p"].model_copy(update={"device_model": limits})
    table = table.model_copy(update={"devices": {**table.devices, "ascend310p": device}})
    file = thresholds.file.model_copy(update={"models": {"nonlocal_r50": table}})
    lines = matrix_lines(dataclasses.replace(thresholds, file=file), "nonlocal_r50")
    told = [" ".join(line.split()) for line in lines]
    assert any(line.startswith("ascend310p memory_max_mb 512.5 – – – at most [") for line in told)
    assert any(
        line.startswith("ascend310p ai_cpu_operators_max 3 – – – at most [") for line in told
    )


def test_every_cell_is_there_on_lines_that_fit_the_screen(thresholds, capsys):
    assert main(["thresholds", "show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    speeds = [line for line in lines if line.split()[1:2] == ["speed"]]
    goldens = [1 + len(one.golden_on) for one in thresholds.references().values()]
    assert len(speeds) == sum(goldens)
    assert lines.index("sources") < lines.index(next(one for one in lines if one[:2] == "[1"))
    tables = [line for line in lines if line.startswith("  cell ")]
    assert len(tables) == len(thresholds.file.models)


def test_a_model_that_is_not_there_is_named(capsys):
    assert main(["thresholds", "show", "resnet"]) == 2
    assert "has no model 'resnet'; there are: nonlocal_r50" in capsys.readouterr().err
