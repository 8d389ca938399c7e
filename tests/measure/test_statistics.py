import itertools
import math

import numpy as np
import pytest
from scipy.special import stdtrit
from scipy.stats import gamma
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from harness.measure.statistics import (
    chance_deficit,
    look_confidence,
    mcnemar_midp,
    minimum_detectable_loss,
    percentile_bound,
    session_bounds,
    spread_bounds,
    student_quantile,
    tango_bounds,
    wilson_interval,
)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 18, 19, 200, 1001])
def test_the_quantile_of_student_is_the_one_of_scipy(freedom):
    for probability in (0.5, 0.6, 0.95, 0.975, 0.999, 0.9999):
        expected = stdtrit(freedom, probability)
        found = student_quantile(freedom, probability)
        assert found == pytest.approx(expected, rel=1e-11, abs=1e-15)


def test_wilson_is_the_one_of_statsmodels(subtests):
    counts = [(0, 10), (10, 10), (3, 7), (14174, 19796), (1, 1)]
    for (k, n), confidence in itertools.product(counts, (0.8, 0.95, 0.99)):
        with subtests.test(k=k, n=n, confidence=confidence):
            low, high = proportion_confint(k, n, alpha=1 - confidence, method="wilson")
            interval = wilson_interval(k, n, confidence)
            assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


def test_wilson_of_nothing_is_everything():
    assert (wilson_interval(0, 0).low, wilson_interval(0, 0).high) == (0.0, 1.0)


def test_wilson_of_kinetics_is_wider_than_the_margin_of_the_published_runs():
    interval = wilson_interval(14174, 19796)
    assert (interval.high - interval.low) / 2 == pytest.approx(0.0063, abs=1e-4)


@pytest.mark.parametrize(("b", "c"), [(0, 1), (6, 16), (16, 6), (3, 4), (40, 40), (0, 12)])
def test_midp_is_the_exact_p_less_the_observed_table(b, c):
    exact = mcnemar([[10, b], [c, 10]], exact=True).pvalue
    observed = math.comb(b + c, b) * 0.5 ** (b + c)
    assert mcnemar_midp(b, c) == pytest.approx(exact - observed if b != c else 1.0, abs=1e-12)


def test_midp_published():
    # Cavo et al. (2012), in Fagerland, Lydersen, Laake: Statistical Analysis of Contingency Tables.
    assert mcnemar_midp(6, 16) == pytest.approx(0.034690, abs=1e-6)


def test_midp_without_discordant_pairs_is_one():
    assert mcnemar_midp(0, 0) == 1.0


@pytest.mark.parametrize(
    ("b", "c", "n", "confidence", "low", "high"),
    [
        (1, 7, 21, 0.95, -0.517, -0.026),  # Bentur et al. (2009), same book
        (6, 16, 161, 0.95, -0.1240, -0.0054),  # Cavo et al. (2012), same book
        (28, 25, 618, 0.90, -0.0148, 0.0247),  # R: PropCIs::scoreci.mp(25, 28, 618, 0.90)
    ],
)
def test_tango_published(b, c, n, confidence, low, high):
    # Each end of a two-sided interval is a one-sided bound at half the doubt.
    interval = tango_bounds(b, c, n, (1.0 + confidence) / 2.0)
    digits = 3 if n == 21 else 4
    assert round(interval.low, digits) == low
    assert round(interval.high, digits) == high


@pytest.mark.parametrize("n", [10, 400, 19796])
def test_tango_without_discordant_pairs_has_its_closed_form(n):
    squared = 1.959963984540054**2
    interval = tango_bounds(0, 0, n, 0.975)
    assert interval.high == pytest.approx(squared / (n + squared), abs=1e-9)
    assert interval.low == -interval.high


@pytest.mark.parametrize(("b", "c", "n"), [(0, 5, 5), (5, 0, 5), (1, 4, 5), (0, 0, 0), (2, 0, 5)])
def test_tango_stays_in_range_at_the_edges(b, c, n):
    interval = tango_bounds(b, c, n)
    estimate = (b - c) / n if n else 0.0
    assert -1.0 <= interval.low <= estimate <= interval.high <= 1.0


def test_tango_is_antisymmetric():
    there, back = tango_bounds(7, 3, 200), tango_bounds(3, 7, 200)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_tango_bound_errs_as_often_as_it_says():
    """At a true loss that equals the margin, non-inferiority is claimed in 5 % of all runs."""
    n, margin, rng = 5000, 0.004, np.random.default_rng(20)
    draws = rng.multinomial(n, [0.008, 0.004, 0.988], size=2000)
    claims = np.mean([tango_bounds(int(b), int(c), n).high <= margin for b, c, _ in draws])
    assert 0.03 < claims < 0.07


def test_midp_errs_at_most_as_often_as_it_says():
    rng = np.random.default_rng(21)
    draws = rng.multinomial(1000, [0.02, 0.02, 0.96], size=2000)
    claims = np.mean([mcnemar_midp(int(b), int(c)) <= 0.05 for b, c, _ in draws])
    assert 0.025 < claims < 0.06


@pytest.mark.parametrize(
    ("discordance", "points"), [(0.002, 0.079), (0.005, 0.125), (0.01, 0.177), (0.02, 0.25)]
)
def test_detectable_loss_of_kinetics(discordance, points):
    discordant = round(19796 * discordance)
    assert 100 * minimum_detectable_loss(19796, discordant) == pytest.approx(points, abs=1e-3)


def test_detectable_loss_has_the_power_it_names():
    n, discordance, rng = 19796, 0.005, np.random.default_rng(22)
    loss = minimum_detectable_loss(n, round(n * discordance))
    shares = [(discordance + loss) / 2, (discordance - loss) / 2, 1 - discordance]
    draws = rng.multinomial(n, shares, size=1000)
    power = np.mean([tango_bounds(int(b), int(c), n).low > 0 for b, c, _ in draws])
    assert 0.76 < power < 0.84


def test_detectable_loss_is_never_nothing():
    assert minimum_detectable_loss(400, 0) == minimum_detectable_loss(400, 1) > 0
    assert minimum_detectable_loss(400, 0) == pytest.approx(2.486475 / 400, rel=1e-6)
    assert minimum_detectable_loss(1, 1) == 1.0


@pytest.mark.parametrize("doubt", [0.4, 0.2, 0.02 / 12, 1e-6])
def test_chance_takes_the_least_net_loss_that_a_fair_coin_seldom_exceeds(doubt):
    for discordant in range(60):
        ways = [math.comb(discordant, lost) for lost in range(discordant + 1)]
        least = next(
            lost for lost in range(discordant + 1) if sum(ways[lost + 1 :]) <= doubt * 2**discordant
        )
        assert chance_deficit(discordant, doubt) == max(0, 2 * least - discordant)


@pytest.mark.parametrize(("percentile", "count"), [(0.90, 20), (0.99, 200)])
def test_percentile_needs_its_queries_in_every_session(percentile, count):
    times = [float(time + 1) for time in range(count)]
    assert percentile_bound([times], percentile) is None
    assert percentile_bound([times, times[1:]], percentile) is None
    bound = percentile_bound([times, times], percentile)
    assert bound == pytest.approx(percentile * (count + 1))


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.10])
@pytest.mark.parametrize("sessions", [3, 8])
def test_percentile_bound_is_right_in_95_of_100_runs_however_sessions_differ(spread, sessions):
    """A session's luck multiplies all of its queries; the truth is an average session's p90."""
    rng = np.random.default_rng(23)
    within = rng.gamma(25.0, 0.04, size=(1000, sessions, 50))
    times = within * np.exp(spread * rng.normal(size=(1000, sessions, 1)))
    truth = gamma.ppf(0.90, 25.0, scale=0.04)
    bounds = [percentile_bound(run.tolist(), 0.90) for run in times]
    # A percentile that is taken from 50 queries is itself off by a little.
    assert 0.93 < np.mean([bound >= truth for bound in bounds]) < 0.985


def test_session_bounds_by_hand():
    bounds = session_bounds([98.0, 100.0, 102.0])
    assert bounds is not None
    assert bounds.low == pytest.approx(100 - 2.919986 * 2 / math.sqrt(3), abs=1e-5)
    assert bounds.high == pytest.approx(100 + 2.919986 * 2 / math.sqrt(3), abs=1e-5)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_session_bounds_need_two_sessions(values):
    assert session_bounds(values) is None


def test_session_bound_errs_as_often_as_it_says():
    rng = np.random.default_rng(24)
    runs = rng.normal(100.0, 3.0, size=(2000, 4))
    passes = [bounds.low >= 100.0 for run in runs if (bounds := session_bounds(run.tolist()))]
    assert 0.035 < np.mean(passes) < 0.065


def test_a_known_spread_bounds_a_single_session_and_what_is_seen_widens_it():
    assert spread_bounds([], 0.02) is None
    one = spread_bounds([0.0], 0.02)
    assert one.high == -one.low == pytest.approx(1.812461 * 0.02, rel=1e-6)
    near, wide = spread_bounds([-0.01, 0.01], 0.02), spread_bounds([-0.3, 0.3], 0.02)
    assert near.high < one.high < wide.high


@pytest.mark.parametrize("sessions", [1, 2, 6])
def test_bounds_of_a_known_spread_err_as_often_as_they_say(sessions):
    rng = np.random.default_rng(25)
    runs = 0.03 * rng.normal(size=(2000, sessions))
    # What is known is the spread of as many sessions again.
    known = 0.03 * np.sqrt(rng.chisquare(10, size=2000) / 10)
    passes = [
        spread_bounds(run.tolist(), sd).low >= 0.0 for run, sd in zip(runs, known, strict=True)
    ]
    assert 0.035 < np.mean(passes) < 0.065


def test_all_looks_together_spend_the_doubt_and_no_more():
    spent = [1.0 - look_confidence(look) for look in range(1, 20001)]
    assert spent == sorted(spent, reverse=True)
    assert 0.0499 < sum(spent) < 0.05
    assert look_confidence(1) == pytest.approx(0.969604, abs=1e-6)
