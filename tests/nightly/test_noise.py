import dataclasses
import itertools
import math
import statistics

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


def by_definition(values, tested, is_quiet):
    """The noise of some nights, one number at a time."""
    steps = [abs(after - before) for before, after in itertools.pairwise(values[: -min(tested, 3)])]
    scales = []
    for count, left_out, normal, share in ((39, 2, 0.88, 1.0), (9, 2, 0.68, 0.8)):
        kept = sorted(steps[-count:])[:-left_out]
        scales.append(share * math.sqrt(statistics.fmean(step**2 for step in kept)) / normal)
    nights = [night for night in range(len(values) - tested) if is_quiet[night]][-60:]
    middle = statistics.median(values[night] for night in nights)
    limit = 3 * 1.4826 * statistics.median(abs(values[night] - middle) for night in nights)
    groups, level = [{night: values[night] - middle for night in nights}], 1
    if tested > 2:
        mean = statistics.fmean(values[-tested:])
        groups.append(dict(enumerate(value - mean for value in values[-tested:])))
        level = 2
    groups = [{n: max(-limit, min(limit, off)) for n, off in group.items()} for group in groups]
    products = [off * one[n + 1] for one in groups for n, off in one.items() if n + 1 in one]
    squares = [off**2 for one in groups for off in one.values()]
    found, count = statistics.fmean(products) / statistics.fmean(squares), len(squares)
    found += level * (1 + 3 * found) / count
    correlation = 0.0 if found < 1 / math.sqrt(count) else min(found + 0.2, 0.95)
    share = 1.0 if tested <= 2 else (1 - correlation) / (1 + correlation)
    sd = max(scales) / math.sqrt(2) / math.sqrt(1 - correlation)
    return Noise(sd, correlation, max(2.0, share * count))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tested", [1, 2, 3, 5])
def test_the_noise_is_that_of_the_definition(seed, tested):
    rng = np.random.default_rng(seed)
    values = correlated(rng, 0.15 * seed, [14, 40, 90][seed % 3])
    is_quiet = rng.random(len(values)) > 0.2
    # Two nights that stand out, and a level under test that is another one.
    values[4:6] += 20.0 * (-1) ** seed
    values[-tested:] -= 3.0
    expected = by_definition(list(values), tested, is_quiet)
    found = noise_from_nights(values, tested, is_quiet)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(expected))


def test_of_too_few_quiet_nights_the_resemblance_is_taken_for_the_largest():
    values, is_quiet = np.random.default_rng(8).normal(size=15), np.zeros(15, dtype=bool)
    is_quiet[[0, 5]] = True
    found = noise_from_nights(values, 1, is_quiet)
    assert (found.correlation, found.freedom) == (0.95, 2.0)
    # Three quiet nights are enough, even where no two of them are neighbours.
    is_quiet[10] = True
    found = noise_from_nights(values, 1, is_quiet)
    assert (found.correlation, found.freedom) == (0.0, 3.0)
