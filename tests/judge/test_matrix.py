import numpy as np
import pytest

from harness.judge.accuracy import judge_accuracy
from harness.judge.limits import AccuracyFloor, AccuracyLimits, PairedLimits
from harness.judge.matrix import AccuracyCell, matrix_chance
from harness.measure.accuracy import (
    AccuracyMeasurement,
    ClassFlip,
    ClipCount,
    Join,
    PairedComparison,
)
from harness.measure.statistics import mcnemar_midp, tango_bounds, wilson_interval
from harness.spec import Status

CLIPS, LEAST, CELLS = 19796, 14174, 12


def limits(rate):
    return AccuracyLimits(
        top1=AccuracyFloor(floor=0.716, source="test"),
        top5=AccuracyFloor(floor=0.5, source="test"),
        clip_count=CLIPS,
        paired=PairedLimits(margin=0.002, confidence=0.95, floor_error_rate=rate, source="test"),
        matrix_cells=CELLS,
    )


def count(k):
    return ClipCount(k=k, n=CLIPS, interval=wilson_interval(k, CLIPS))


def measured(lost, won, reference=LEAST + 4):
    """A whole run in which the clips of these numbers are discordant."""
    b, c = len(lost), len(won)
    flips = [
        ClassFlip(clip_id=f"c{one}", label=1, reference_class=1, device_class=2) for one in lost
    ]
    flips += [
        ClassFlip(clip_id=f"c{one}", label=1, reference_class=2, device_class=1) for one in won
    ]
    # Another wrong class is not discordant.
    flips.append(ClassFlip(clip_id="x", label=1, reference_class=2, device_class=3))
    return AccuracyMeasurement(
        clip_set="kinetics400",
        clip_set_digest="d" * 64,
        is_whole=True,
        clip_count=CLIPS,
        class_count=400,
        top1=count(reference - b + c),
        top5=count(18000),
        join=Join(),
        is_constant=False,
        confusion=(),
        paired=PairedComparison(
            n=CLIPS,
            b=b,
            c=c,
            p_midp=mcnemar_midp(b, c),
            loss=(b - c) / CLIPS,
            bounds=tango_bounds(b, c, CLIPS),
            detectable_loss=0.001,
            reference_top1=reference,
            reference_join=Join(),
            flips=tuple(flips),
        ),
    )


def cells(rate, is_one_model=True, number=CELLS, **more):
    """Cells with 60 discordant clips each; those of one model have them in common."""
    found = measured(range(30), range(30, 60), **more)
    names = ["m" if is_one_model else f"m{cell}" for cell in range(number)]
    return [AccuracyCell(name, found, limits(rate)) for name in names]


def test_an_exact_floor_turns_a_perfect_matrix_red_by_chance():
    # b - c > 4 of 60 fair coins, which all cells of one model share: 26 %.
    alike, apart = matrix_chance(cells(1.0)), matrix_chance(cells(1.0, is_one_model=False))
    assert (alike.cells, alike.clips, apart.clips) == (12, 60, 720)
    assert 0.24 < alike.share < 0.28
    assert 0.96 < apart.share < 0.99


def test_the_default_keeps_a_perfect_matrix_green_however_its_cells_hang_together():
    rate = PairedLimits(margin=0.0, confidence=0.9, source="test").floor_error_rate
    for is_one_model in (True, False):
        assert matrix_chance(cells(rate, is_one_model)).share < 0.05


def test_a_reference_below_the_floor_is_red_whatever_the_device():
    (cell,) = cells(0.02, number=1, reference=LEAST - 60)
    assert matrix_chance([cell]).share > 0.999


@pytest.mark.parametrize(
    "change", [{"is_whole": False}, {"paired": None}], ids=["subset", "no reference"]
)
def test_what_is_not_compared_on_the_whole_set_is_not_drawn(change):
    (cell,) = cells(0.02, number=1)
    other = AccuracyCell("m", cell.measurement.model_copy(update=change), cell.limits)
    assert matrix_chance([other]) is None
    assert matrix_chance([cell, other]) == matrix_chance([cell])


@pytest.mark.parametrize("reference", [LEAST - 3, LEAST + 4, LEAST + 500])
def test_it_draws_the_judge_s_own_limit(reference):
    rng = np.random.default_rng(1)
    (cell,) = cells(0.02, number=1, reference=reference)
    green = [
        judge_accuracy(measured(range(b), range(b, 60), reference), cell.limits).status
        is Status.PASS
        for b in rng.binomial(60, 0.5, size=400)
    ]
    assert matrix_chance([cell]).share == pytest.approx(1 - np.mean(green), abs=0.08)
