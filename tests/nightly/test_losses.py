import math

import numpy as np
import pytest

from harness.nightly.losses import RULES, Reference, _level, _most, losses, reference_from_values
from harness.nightly.noise import Noise

LEAST = 0.02
P = RULES.of_matrix(36)


def judged(nights, quiet=30, sd=0.01, seed=1):
    """The states of nights that follow some quiet ones, of which the first ten are the reference."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.0, sd, quiet + len(nights)) + np.concatenate([np.zeros(quiet), nights])
    reference = reference_from_values(values[:10])
    return losses(values, quiet + len(nights) - 10, reference, LEAST, P)[quiet - 10 :]


def words(found):
    return ["green" if one is None else "suspect" if one.nights == 1 else "red" for one in found]


def test_a_cliff_is_a_suspect_and_red_the_second_night():
    found = judged([-0.1] * 4)
    assert words(found) == ["suspect", "red", "red", "red"]
    # Of nights of 1 %, two beside ten: 0.1 / (0.01 * sqrt(1/2 + 1/10)), as far as their noise is known.
    assert found[1].errors == pytest.approx(-12.9, rel=0.4)


def test_one_bad_night_is_a_suspect_and_then_forgotten():
    assert words(judged([-0.2] + [0.0] * 8)) == ["suspect"] + ["green"] * 8


def test_two_bad_nights_of_three_are_red():
    assert words(judged([-0.2, 0.0, -0.2]))[2] == "red"


def test_a_loss_never_becomes_ordinary():
    found = words(judged([-0.05] * 300))
    assert found[5:] == ["red"] * 295


def test_a_second_loss_is_seen_as_soon_as_the_first():
    found = words(judged([-0.1] * 14 + [0.0] * 20 + [-0.1] * 2))
    assert found[-3:] == ["green", "suspect", "red"]


def test_a_drift_of_half_a_percent_a_night_is_found():
    drift = math.log1p(-0.005) * np.arange(1, 41)
    found = [words(judged(drift, seed=seed)) for seed in range(20)]
    assert np.median([nights.index("red") for nights in found]) <= 8
    assert max(nights.index("red") for nights in found) <= 30
    assert all(set(nights[nights.index("red") :]) == {"red"} for nights in found)


def test_what_is_better_or_too_small_to_matter_is_green():
    assert set(words(judged([0.1] * 20))) == {"green"}
    assert set(words(judged([-0.015] * 20, sd=0.001))) == {"green"}


def test_without_any_noise_every_loss_that_counts_is_certain():
    values = np.concatenate([np.zeros(20), [-0.021] * 2])
    suspect, red = losses(values, 2, Reference(0.0, 10), LEAST, P)
    assert (suspect.nights, red.nights, red.errors) == (1, 2, -math.inf)


@pytest.mark.parametrize(
    ("nights", "level"),
    [
        ([-5.0], -5.0),
        ([-5.0, -3.0], -3.0),
        # The best of three may be 1.5 standard deviations better, and of four twice that.
        ([-9.0, -9.0, 0.0], -1.5),
        ([-9.0, -9.0, -9.0, 0.0], -3.0),
        ([-9.0, -9.5, -10.0], -9.5),
        # One that is far off counts as 1.5 standard deviations from the middle.
        ([-9.0, -9.0, -9.0, -9.0, -99.0], -9.3),
    ],
)
def test_no_single_night_decides_a_level(nights, level):
    assert _level(np.array(nights), Noise(1.0, 0.0, 9.0)) == pytest.approx(level)


def test_a_large_loss_counts_even_where_nights_resemble_each_other():
    # Fourteen errors of what is new each night, and never less than the cliff.
    error = 0.02 * math.sqrt(0.5) * math.sqrt(1 / 2 + 1 / 10)
    assert _most(Noise(0.02, 0.5, 9.0), 2, 10) == pytest.approx(14.0 * error)
    assert _most(Noise(0.001, 0.5, 9.0), 2, 10) == pytest.approx(-math.log(0.9))


def test_before_the_noise_is_known_only_a_cliff_is_a_suspect():
    values = np.concatenate([np.zeros(5), [-0.08, -0.12, -0.12]])
    found = losses(values, 3, Reference(0.0, 5), LEAST, P)
    assert words(found) == ["green", "suspect", "suspect"]
    assert found[2].errors is None


def test_a_matrix_shares_its_false_alarms():
    shares = [RULES.of_matrix(count) for count in (0, 1, 20, 40)]
    assert shares == [0.001, 0.001, 0.001, pytest.approx(0.0005)]


def test_ordinary_nights_are_rarely_red():
    found = [words(judged(np.zeros(60), sd=0.03, seed=seed)) for seed in range(40)]
    assert np.mean(np.array(found) == "red") <= 0.005
