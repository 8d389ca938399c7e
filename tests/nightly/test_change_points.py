import itertools
import math

import numpy as np
import pytest

from harness.errors import InputError
from harness.nightly.change_points import ChangePoint, _farthest, _p_value, _split, change_points


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
    values = np.random.default_rng(seed).normal(size=14)
    best = max(
        (energy_distance(values[2:middle], values[middle:end]), middle)
        for middle in range(3, 13)
        for end in range(middle + 1, 14)
    )
    distance, index = _farthest(values, 2, 13)
    assert (distance, index) == (pytest.approx(best[0]), best[1])


@pytest.mark.parametrize(("n", "m"), [(12, 5), (2, 1), (1, 2)])
def test_the_p_value_is_that_of_scipy(n, m):
    rng = np.random.default_rng(2)
    left, right = rng.normal(1.0, 0.1, n), rng.normal(1.1, 0.1, m)
    assert _p_value(left, right) == pytest.approx(t_test(left, right))
    assert _p_value(left[:1], right[:1]) == 1.0
    apart = left - left.mean() + right.mean() + 1.0
    assert _p_value(apart, right) == pytest.approx(t_test(apart, right))


def t_test(left, right):
    from scipy.stats import ttest_ind_from_stats

    if len(left) + len(right) < 3:
        return 1.0
    sides = [(side.mean(), side.std(), len(side)) for side in (left, right)]
    return float(ttest_ind_from_stats(*sides[0], *sides[1]).pvalue)


def first_pass(values, window, max_p):
    """The points of all windows, split again and again, by the definitions."""
    found, start = set(), 0
    while start < len(values):
        part, points = values[start : start + window], []
        while True:
            splits = [
                (energy_distance(part[first:middle], part[middle:end]), first, middle, last)
                for first, last in itertools.pairwise([0, *points, len(part)])
                for middle in range(first + 1, last)
                for end in range(middle + 1, last + 1)
            ]
            _, first, middle, last = max(splits, default=(0.0, 0, 0, 0))
            if not splits or t_test(part[first:middle], part[middle:last]) > max_p:
                break
            points = sorted([*points, middle])
        found |= {start + point for point in points}
        start = max(start + window // 2, *(start + point for point in [0, *points]))
    return sorted(found)


def second_pass(values, points, max_p, min_magnitude):
    """The weakest point is taken away as long as one is too weak, by the definitions."""
    while points:
        edges = [0, *points, len(values)]
        pieces = [values[a:b] for a, b in itertools.pairwise(edges)]
        sides = list(itertools.pairwise(pieces))
        p_values = [t_test(*both) for both in sides]
        means = [sorted(side.mean() for side in both) for both in sides]
        sizes = [high / low - 1.0 for low, high in means]
        if max(p_values) >= max_p:
            points.pop(p_values.index(max(p_values)))
        elif min(sizes) <= min_magnitude:
            points.pop(sizes.index(min(sizes)))
        else:
            break
    return points


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("min_magnitude", [0.0, 0.1])
def test_the_points_are_those_of_the_definitions(seed, min_magnitude):
    rng = np.random.default_rng(seed)
    values = 1.0 + 0.1 * np.cumsum(rng.normal(size=5)).repeat(6) + rng.normal(0.0, 0.05, 30)
    window = 9 + seed % 4
    expected = second_pass(values, first_pass(values, window, 0.3), 0.03, min_magnitude)
    found = change_points(values, window=window, max_p=0.03, min_magnitude=min_magnitude)
    assert [point.index for point in found] == expected
    edges = [0, *expected, len(values)]
    levels = [values[a:b].mean() for a, b in itertools.pairwise(edges)]
    assert [(point.before, point.after) for point in found] == list(itertools.pairwise(levels))


def test_a_change_has_to_be_more_than_the_least_and_surer_than_chance():
    step = [100.0] * 5 + [80.0] * 5
    assert len(change_points(step, min_magnitude=0.2499)) == 1
    assert change_points(step, min_magnitude=0.25) == ()
    assert change_points(step, max_p=0.0) == ()
    assert change_points([1.0, 2.0], window=2) == ()
    # The first pass keeps what is as sure as asked, the second what is surer.
    assert _split(np.array(step), 0.0) == [5]


def test_a_change_from_zero_is_infinite():
    assert ChangePoint(1, 0.0, 2.0, 0.0).change == math.inf
    assert ChangePoint(1, 0.0, -2.0, 0.0).change == -math.inf
    assert ChangePoint(1, 2.0, 0.0, 0.0).magnitude == math.inf
    assert ChangePoint(1, 2.0, 1.0, 0.0).magnitude == ChangePoint(1, 1.0, 2.0, 0.0).magnitude == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(InputError, match=r"^a series with NaN or infinite .* leave them out$"):
        change_points([1.0, bad, 1.0])


def test_a_window_of_one_night_is_refused():
    with pytest.raises(InputError, match="a window of 1 nights"):
        change_points([1.0, 2.0, 3.0], window=1)
