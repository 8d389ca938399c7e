"""Which series of a run are compared with what, and what a notice says of them."""

import dataclasses
import math

import numpy as np
import pytest

from harness.nightly.baseline import Baseline, BaselineSeries
from harness.nightly.comparison import (
    Kind,
    Notice,
    Past,
    _changes,
    _notice,
    gains,
    is_judged,
    lost,
    pasts,
)
from harness.nightly.losses import Loss
from harness.nightly.series import Point, Series, SeriesKey
from harness.spec import Status

RATIO = SeriesKey("m", "cpu", 1, "throughput", "processor.x_unoptimised", "epyc")
SPEED = dataclasses.replace(RATIO, metric="device.per_s")
ERROR = dataclasses.replace(RATIO, check="parity", metric="torch_to_device.relative_l2")


def series(values, key=RATIO, fact=lambda night: ""):
    return Series(
        key,
        tuple(
            Point(f"n{n}", f"2026-10-{n + 1:02}T02:00:00+00:00", value, Status.PASS, {"a": fact(n)})
            for n, value in enumerate(values)
        ),
    )


def frozen(keys, night):
    return Baseline(
        tier="nightly",
        reviewer="R",
        reason="1.0",
        frozen="2026-10-01",
        runs=("r",),
        newest_started=f"2026-10-{night + 1:02}T02:00:00+00:00",
        thresholds_digest="d",
        series=tuple(BaselineSeries(**dataclasses.asdict(key), values=(2.0,)) for key in keys),
    )


def test_a_ratio_stands_for_the_speed_of_a_host():
    assert [is_judged(key, {RATIO, SPEED, ERROR}) for key in (RATIO, SPEED, ERROR)] == [
        True,
        False,
        True,
    ]
    assert is_judged(SPEED, {SPEED, ERROR})
    assert not is_judged(SPEED, {dataclasses.replace(RATIO, metric="processor.x_pytorch")})
    assert is_judged(dataclasses.replace(ERROR, metric="x.per_s"), {RATIO})


@pytest.mark.parametrize(("night", "fresh"), [(8, 0), (9, 0), (10, 1), (14, 5)])
def test_without_a_baseline_the_first_ten_nights_are_the_reference(night, fresh):
    other = Series(ERROR, ())
    (past,) = pasts([other, series(range(1, 21))], f"n{night}", None)
    assert (past.key, past.entry, past.fresh) == (RATIO, None, fresh)
    assert past.series.values == list(range(1, night + 2))
    assert pasts([series([1.0])], "n0", None, ["m-cpu-bs1:throughput"]) == []


def test_nights_since_the_baseline_are_fresh_where_it_has_the_series():
    both = [series([1.0] * 15), series([1.0] * 15, ERROR)]
    ratio, error = pasts(both, "n13", frozen([RATIO], 9))
    assert (ratio.entry.values, ratio.fresh, ratio.reference_values) == ((2.0,), 4, (2.0,))
    assert (error.entry, error.fresh, error.reference_values) == (None, 4, [1.0] * 10)


def test_what_changed_is_looked_for_in_the_night_and_beside_it():
    found = series([1.0] * 6, fact=str)
    changes = [f"2026-10-{n + 1:02} a: {n - 1} -> {n}" for n in range(6)]
    assert [_changes(found, index) for index in (0, 1, 3, 5)] == [
        (changes[1],),
        (changes[1], changes[2]),
        (changes[2], changes[3], changes[4]),
        (changes[4], changes[5]),
    ]


def test_a_loss_is_dated_by_the_last_change_for_the_worse():
    levels = [100.0] * 12 + [90.0] * 12 + [95.0] * 12 + [80.0] * 12
    steps = [value + 0.1 * (n % 3) for n, value in enumerate(levels)]
    for key, values in ((RATIO, steps), (ERROR, [1e4**2 / value**4 for value in steps])):
        past = Past(dataclasses.replace(series(values), key=key), None, 38)
        notice = _notice([(past, Loss(10, -0.2, -9.0)), (past, Loss(2, -0.1, -5.0))])
        assert (notice.kind, notice.status) == (Kind.LOSS, Status.FAIL)
        assert ", since 2026-10-37; 9.0 standard errors" in notice.reason
    first = _notice([(Past(series([100.0] * 20), None, 10), Loss(3, math.log(0.5), -math.inf))])
    assert first == Notice(
        Kind.LOSS,
        RATIO.id,
        Status.FAIL,
        "the last 3 nights: -50.0 % against the first nights, 100 (mean of 10), since 2026-10-18; "
        "less than once in 200 simulated nights without a change",
    )


def test_a_suspect_says_what_each_of_its_numbers_lost():
    past = Past(series([2.0] * 20), None, 10)
    worse = Past(series([1.0] * 20, ERROR), None, 10)
    notice = _notice([(past, Loss(1, math.log(0.9), None)), (worse, Loss(1, -math.log(1.5), -3.0))])
    assert notice == Notice(
        Kind.SUSPECT,
        RATIO.id,
        Status.INCONCLUSIVE,
        "tonight: -10.0 % against the first nights, 2 (mean of 10); the noise between nights is not "
        "known yet: run it again; also torch_to_device.relative_l2 +50.0 %",
    )


def test_a_gain_counts_from_the_least_change_on():
    def told(level):
        return gains([Past(series([1.0] * 12 + [level] * 12), None, 14)])

    assert told(1.03) == [f"{RATIO.id} is better since 2026-10-13"]
    assert told(1.0202) == []
    assert told(0.9) == []
    # A second change is the one that is named, and nothing is where no night is fresh.
    values = [1.0] * 12 + [1.1] * 12 + [1.2] * 12
    assert gains([Past(series(values), None, 26)]) == [f"{RATIO.id} is better since 2026-10-25"]
    assert gains([Past(series(values), None, 0)]) == []


def test_a_loss_comes_before_a_suspect_of_its_check_and_the_clearest_first():
    rng = np.random.default_rng(1)
    other = dataclasses.replace(RATIO, metric="processor.x_pytorch")

    def past(key, losses, sd):
        quiet = 1.0 + rng.normal(0.0, sd, 30)
        return Past(series([*quiet, *(quiet[: len(losses)] - losses)], key), None, 20 + len(losses))

    suspect = past(RATIO, [0.0, 0.0, 0.0, 0.0, 0.5], 0.001)
    lasting = past(other, [0.1] * 5, 0.01)
    for found in ([suspect, lasting], [lasting, suspect]):
        (notice,) = lost(found)
        assert (notice.kind, notice.id) == (Kind.LOSS, other.id)
        assert "; also processor.x_unoptimised -" in notice.reason
    clear = past(RATIO, [0.1] * 5, 0.001)
    assert [notice.id for notice in lost([lasting, clear])] == [RATIO.id]
    assert lost([dataclasses.replace(clear, fresh=0)]) == []
