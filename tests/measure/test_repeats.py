import numpy as np
import pytest

from harness.measure.repeats import repeats_from_arrays

FIRST = np.random.default_rng(4).normal(size=(2, 4, 1, 5))
SAME = {"first": FIRST[:1].repeat(2, axis=0), "again": FIRST[:1].repeat(2, axis=0)}
ALONE = {"row": np.array(1), "alone": SAME["first"][:, 1:2]}


def off(name, index, by=0.25):
    arrays = {**SAME, **ALONE}
    arrays[name] = arrays[name].copy()
    arrays[name][index] += by
    return repeats_from_arrays(arrays)


def test_what_repeats_itself_is_bitwise_equal():
    found = repeats_from_arrays({**SAME, **ALONE})
    assert (found.again, found.alone, found.chips) == (0.0, 0.0, 0.0)
    assert not found.is_single
    assert repeats_from_arrays({**SAME, **ALONE, "is_single": np.array(True)}).is_single
    assert (found.input_count, found.chip_count, found.row) == (4, 2, 1)


def test_each_way_not_to_repeat_itself_is_found_alone():
    again = off("again", (1, 2, 0, 4))
    assert (again.again, again.alone, again.chips) == (pytest.approx(0.25), 0.0, 0.0)
    alone = off("alone", (0, 0, 0, 0))
    assert (alone.again, alone.alone, alone.chips) == (0.0, pytest.approx(0.25), 0.0)
    chips = off("first", (1, 0, 0, 0))
    assert (chips.alone, chips.chips) == (0.0, pytest.approx(0.25))


def test_one_row_is_held_against_one_input_and_in_float64():
    first = off("first", (slice(None), 2)).alone
    assert first == 0.0
    first, again = (
        np.full((1, 1, 1, 1), 60000, np.float16),
        np.full((1, 1, 1, 1), -60000, np.float16),
    )
    assert repeats_from_arrays({"first": first, "again": again}).again == 120000.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_never_repeats_itself(value):
    assert off("again", (0, 0, 0, 0), value).again is None


def test_one_chip_and_a_batch_of_one_leave_out_what_they_cannot_show():
    single = {name: rows[:1, :1] for name, rows in SAME.items()}
    found = repeats_from_arrays(single)
    assert (found.again, found.alone, found.chips, found.row) == (0.0, None, None, None)
