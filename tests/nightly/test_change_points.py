import math

import numpy as np
import pytest

from harness.errors import InputError
from harness.nightly.change_points import ChangePoint, change_points


def noisy(levels, cv, seed=1):
    return list(np.random.default_rng(seed).normal(1.0, cv, len(levels)) * levels)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [3.0] * 40])
def test_nothing_changes_in_nothing(values):
    assert change_points(values) == ()


def test_a_step_is_found_where_it_is():
    (found,) = change_points([100.0] * 20 + [95.0] * 5)
    assert found == ChangePoint(20, 100.0, 95.0, 0.0)
    assert found.change == pytest.approx(-0.05)
    assert found.magnitude == pytest.approx(100 / 95 - 1)


@pytest.mark.parametrize("drop", [0.05, 0.10])
def test_a_noisy_step_is_found(drop):
    (found,) = change_points(noisy([1.0] * 40 + [1.0 - drop] * 20, 0.01))
    assert found.index == 40
    assert found.change == pytest.approx(-drop, abs=0.006)
    assert found.p_value < 0.001


def test_a_step_there_and_back_gives_two_points():
    found = change_points(noisy([1.0] * 30 + [0.9] * 10 + [1.0] * 30, 0.01))
    assert [point.index for point in found] == [30, 40]
    assert [point.change < 0 for point in found] == [True, False]


def test_a_step_far_back_is_found_in_windows():
    levels = [1.0] * 120 + [0.93] * 200
    assert [point.index for point in change_points(noisy(levels, 0.02), window=50)] == [120]


def test_one_outlier_night_is_no_change_of_level():
    values = noisy([1.0] * 50, 0.02, seed=3)
    values[30] = 0.8
    assert change_points(values) == ()


def test_the_same_series_gives_the_same_answer():
    values = noisy([1.0] * 30 + [0.97] * 30, 0.02)
    assert change_points(values) == change_points(values)


def test_a_small_change_is_left_out_on_demand():
    values = noisy([1.0] * 60 + [0.985] * 60, 0.003)
    assert len(change_points(values)) == 1
    assert change_points(values, min_magnitude=0.02) == ()


def test_quiet_noise_is_rarely_taken_for_a_change():
    rng = np.random.default_rng(5)
    found = [change_points(list(rng.normal(1.0, 0.03, 60)), min_magnitude=0.02) for _ in range(60)]
    assert sum(map(bool, found)) <= 4


# The split and the t-test by their definitions, slowly, beside the sums that are used.


def energy_distance(left, right):
    n, m = len(left), len(right)
    across = sum(abs(a - b) for a in left for b in right)
    within = [sum(abs(a - b) for a in side for b in side) / 2 for side in (left, right)]
    return (2 / (m + n)) * (across - m / max(n - 1, 1) * within[0] - n / max(m - 1, 1) * within[1])


# With some of them one of the pieces is a single value, which has no distances within it.
@pytest.mark.parametrize("seed", range(9, 15))
def test_the_split_is_where_the_energy_distance_is_largest(seed):
    from harness.nightly.change_points import _farthest

    values = np.random.default_rng(seed).normal(size=14)
    best = max(
        (energy_distance(values[2:middle], values[middle:end]), middle)
        for middle in range(3, 13)
        for end in range(middle + 1, 14)
    )
    distance, index = _farthest(values, 2, 13)
    assert (distance, index) == (pytest.approx(best[0]), best[1])


def test_the_p_value_is_that_of_scipy():
    from scipy.stats import ttest_ind_from_stats

    from harness.nightly.change_points import _p_value

    rng = np.random.default_rng(2)
    left, right = rng.normal(1.0, 0.1, 12), rng.normal(1.1, 0.1, 5)
    expected = ttest_ind_from_stats(left.mean(), left.std(), 12, right.mean(), right.std(), 5)
    assert _p_value(left, right) == pytest.approx(expected.pvalue)


def test_a_change_from_zero_is_infinite():
    assert ChangePoint(1, 0.0, 2.0, 0.0).change == math.inf
    assert ChangePoint(1, 2.0, 0.0, 0.0).magnitude == math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(InputError, match="NaN or infinite"):
        change_points([1.0, bad, 1.0])


def test_a_window_of_one_night_is_refused():
    with pytest.raises(InputError, match="a window of 1 nights"):
        change_points([1.0, 2.0, 3.0], window=1)
