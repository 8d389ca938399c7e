from pathlib import Path

import pytest
from scipy.stats import binom

import harness
from harness.contract.floor_lint import chance_below, floor_warnings
from harness.contract.thresholds import thresholds_from_file
from harness.judge.limits import AccuracyFloor

CONTRACT = Path(harness.__file__).parent.parent / "thresholds.toml"


@pytest.fixture(scope="module")
def thresholds():
    return thresholds_from_file(CONTRACT)


def test_a_floor_that_is_its_own_reference_gives_one_warning_a_device(thresholds):
    warnings = floor_warnings(thresholds, thresholds.cells())
    by_key = dict(text.split(": ", 1) for text in warnings)
    assert len(by_key) == len(warnings)
    on_cpu, on_310, _ = (
        by_key[f"models.nonlocal_r50.devices.{name}.top1"]
        for name in ("cpu", "ascend310", "ascend310p")
    )
    assert "floor of 14,174 of 19,796 clips" in on_cpu
    assert "14,174 clips +- 124" in on_cpu
    assert "in 50 of 100 sets" in on_cpu
    assert "when 1 more are wrong" in on_cpu
    assert "when 3 more are wrong" in on_310


def test_only_the_cells_of_the_run_are_looked_at(thresholds):
    assert floor_warnings(thresholds, thresholds.cells("smoke")) == ()


@pytest.mark.parametrize(
    ("floor", "golden", "warns"),
    [
        (0.716, 0.716, True),
        (0.716, 0.7222, True),
        (0.716, 0.7224, False),
        (0.72, 0.716, True),
        (0.716, None, False),
        (0.769, 0.7768, False),
        (1.0, 1.0, True),
    ],
)
def test_the_noise_is_the_interval_of_the_reference(thresholds, floor, golden, warns):
    changed = AccuracyFloor(floor=floor, golden=golden, source="test")
    model = thresholds.file.models["nonlocal_r50"]
    cpu = model.devices["cpu"].model_copy(update={"top1": changed})
    model = model.model_copy(update={"devices": {"cpu": cpu}})
    file = thresholds.file.model_copy(update={"models": {"nonlocal_r50": model}})
    other = type(thresholds)(thresholds.path, thresholds.digest, file)
    assert bool(floor_warnings(other, other.cells())) is warns


@pytest.mark.parametrize("least", [14000, 14100, 14174, 14300])
def test_the_chance_is_the_one_of_the_binomial(least):
    expected = binom.cdf(least - 1, 19796, 0.716)
    assert chance_below(least, 19796, 0.716) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("least", "chance"), [(10, 0.0), (11, 1.0)])
def test_what_never_varies_falls_below_always_or_never(least, chance):
    assert chance_below(least, 10, 1.0) == chance
