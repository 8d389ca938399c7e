import math

import numpy as np
import pytest

from harness.nightly.noise import Noise, noise_from_nights, scaled, sd_of_steps


def noise(values, tested=1):
    return noise_from_nights(values, tested, np.ones(len(values), dtype=bool))


def correlated(rng, correlation, count):
    values = rng.normal(size=count)
    for night in range(1, count):
        values[night] = (
            correlation * values[night - 1] + math.sqrt(1 - correlation**2) * values[night]
        )
    return values


def test_lower_is_worse_after_scaling():
    assert list(np.diff(scaled([1.0, 2.0], True))) == [pytest.approx(math.log(2))]
    assert list(np.diff(scaled([1.0, 2.0], False))) == [pytest.approx(-math.log(2))]
    assert np.isfinite(scaled([0.0], True)).all()


def test_few_nights_tell_no_noise():
    assert noise(np.zeros(11)) is None
    assert noise(np.zeros(12)).sd == 0.0
    assert sd_of_steps(np.zeros(10)) is None


def test_the_scale_is_not_inflated_by_a_step_or_a_drift():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        quiet = rng.normal(0.0, 0.02, 60)
        stepped = quiet - 0.1 * (np.arange(60) > 40)
        drifted = quiet - 0.002 * np.arange(60)
        found.append([sd_of_steps(values) for values in (quiet, stepped, drifted)])
    assert np.median(found, axis=0) == pytest.approx([0.02, 0.021, 0.02], rel=0.06)


def test_noise_that_grew_is_seen_within_days():
    rng = np.random.default_rng(2)
    grown = [rng.normal(0.0, np.repeat([0.01, 0.03], [50, 9])) for _ in range(200)]
    assert np.median([sd_of_steps(values) for values in grown]) > 0.02


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_the_error_of_a_mean_is_what_such_nights_do(correlation):
    """The expected error of ten nights against seven, for nights that resemble each other."""
    rng = np.random.default_rng(3)
    rows = np.array([correlated(rng, correlation, 400) for _ in range(2000)])
    differences = rows[:, 200:210].mean(axis=1) - rows[:, 300:307].mean(axis=1)
    assert Noise(1.0, correlation, 30.0).error(7, 10) == pytest.approx(differences.std(), rel=0.06)


@pytest.mark.parametrize("correlation", [0.5, 0.8])
def test_nights_that_resemble_each_other_are_noticed(correlation):
    rng = np.random.default_rng(4)
    found = [noise(correlated(rng, correlation, 60), tested=3) for _ in range(100)]
    assert np.median([one.correlation for one in found]) == pytest.approx(
        min(0.95, correlation + 0.2), abs=0.1
    )
    assert np.median([one.freedom for one in found]) < 60 * (1 - correlation)


def test_nights_that_do_not_resemble_each_other_count_in_full():
    rng = np.random.default_rng(5)
    found = [noise(rng.normal(size=60)).correlation for _ in range(200)]
    assert np.mean(np.array(found) == 0.0) > 0.75


def test_the_nights_under_test_may_have_another_level():
    rng = np.random.default_rng(6)
    found = [
        noise(rng.normal(0.0, 0.02, 50) - 0.1 * (np.arange(50) >= 43), tested=7).correlation
        for _ in range(200)
    ]
    assert np.median(found) == 0.0


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_two_nights_that_stand_out_do_not_make_all_resemble_each_other(side):
    rng = np.random.default_rng(7)
    for _ in range(20):
        values = rng.normal(size=60)
        values[30:32] += 30.0 * side
        assert noise(values).correlation < 0.6
