import math

import numpy as np
import pytest

from harness.nightly.regression import (
    Noise,
    Reference,
    Rules,
    clearest_loss,
    holm,
    noise_from_nights,
    reference_from_values,
    scaled,
)

RULES = Rules()


def test_lower_is_worse_after_scaling():
    assert list(np.diff(scaled([1.0, 2.0], True))) == [pytest.approx(math.log(2))]
    assert list(np.diff(scaled([1.0, 2.0], False))) == [pytest.approx(-math.log(2))]
    assert np.isfinite(scaled([0.0], True)).all()


def test_noise_is_not_inflated_by_a_step_a_drift_or_an_outlier():
    rng = np.random.default_rng(1)
    quiet = rng.normal(0.0, 0.02, 400)
    stepped = quiet - 0.3 * (np.arange(400) > 200)
    drifted = quiet - 0.002 * np.arange(400)
    spiked = quiet.copy()
    spiked[::50] -= 0.5
    for values in (quiet, stepped, drifted, spiked):
        noise = noise_from_nights(values, 10)
        assert noise.sd == pytest.approx(0.02, rel=0.1)
        assert noise.freedom == pytest.approx(2 / 3 * 399, rel=0.1)


def test_few_nights_tell_no_noise():
    assert noise_from_nights(np.zeros(10), 10) is None
    assert noise_from_nights(np.zeros(11), 10) == Noise(0.0, pytest.approx(20 / 3))


def loss(nights, noise, count=10, higher=True):
    return clearest_loss(scaled(nights, higher), Reference(0.0, count), noise, RULES, 0.005)


def test_a_cliff_shows_in_one_night():
    found = loss([1.0] * 8 + [0.9], Noise(0.01, 30.0))
    assert (found.nights, found.change) == (1, pytest.approx(math.log(0.9)))
    assert found.p_value < 1e-6


def test_a_drift_shows_in_several():
    found = loss([0.97] * 7, Noise(0.02, 30.0))
    assert (found.nights, found.change) == (7, pytest.approx(math.log(0.97)))


def test_an_error_that_grows_is_a_loss():
    found = loss([1.0, 1.5], Noise(0.05, 30.0), higher=False)
    assert found.change == pytest.approx(-math.log(1.5))
    assert found.p_value < 1e-4


def test_what_is_better_is_no_loss():
    assert loss([1.0, 1.1], Noise(0.01, 30.0)) is None


def test_unknown_noise_gives_no_p_value():
    found = loss([0.97] * 7, None)
    assert (found.nights, found.p_value) == (1, None)


def test_without_any_noise_every_loss_is_certain():
    assert loss([0.99], Noise(0.0, 30.0)).p_value == 0.0
    assert loss([1.0], Noise(0.0, 30.0)) is None


def test_a_loss_too_small_to_matter_is_none():
    assert loss([0.996] * 9, Noise(1e-6, 30.0)) is None


def test_one_bad_night_is_forgotten_the_night_after():
    assert loss([1.0, 0.8], Noise(0.01, 30.0)).nights == 1
    assert loss([1.0, 0.8, 1.0, 1.0], Noise(0.01, 30.0)) is None


def test_the_p_value_holds_what_it_says():
    """Of quiet nights, a share of at most p has a p-value of at most p."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(600):
        values = rng.normal(0.0, 0.02, 40)
        noise = noise_from_nights(values[:-1], 10)
        reference = reference_from_values(values[:10])
        one = clearest_loss(values[10:], reference, noise, RULES, 0.0)
        found.append(1.0 if one is None else one.p_value)
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 600)


def test_holm_steps_down():
    # 0.02 / 3, 0.02 / 2, 0.02 / 1
    assert holm([0.009, 0.006, 0.5], 0.02, 1.0) == [True, True, False]
    assert holm([0.011, 0.006, 0.012], 0.02, 1.0) == [False, True, False]
    assert holm([0.007, 0.009, 0.5], 0.02, 1.0) == [False, False, False]
    assert holm([], 0.02, 1.0) == []


def test_holm_is_never_looser_than_a_series_may_be():
    assert holm([0.002], 0.02, 0.001) == [False]
    assert holm([0.001], 0.02, 0.001) == [True]


def test_what_is_no_number_never_falls():
    assert holm([math.nan], 0.02, 1.0) == [False]
