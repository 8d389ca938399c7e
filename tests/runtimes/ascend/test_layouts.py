import itertools

import numpy as np
import pytest

from harness.runtimes.ascend.layouts import logical_array

BLOCK = 16


def placed(array, shape, place):
    """Put every element where a formula says, into a tensor whose padding is never zero."""
    made = np.full(shape, -7, array.dtype)
    for index in np.ndindex(array.shape):
        made[place(*index)] = array[index]
    return made


def blocks(count):
    return -(-count // BLOCK)


LAYOUTS = {
    "NC1HWC0": (
        4,
        lambda n, c, h, w: (n, blocks(c), h, w, BLOCK),
        lambda n, c, h, w: (n, c // BLOCK, h, w, c % BLOCK),
    ),
    "NDC1HWC0": (
        5,
        lambda n, c, d, h, w: (n, d, blocks(c), h, w, BLOCK),
        lambda n, c, d, h, w: (n, d, c // BLOCK, h, w, c % BLOCK),
    ),
    "FRACTAL_NZ": (
        2,
        lambda r, c: (blocks(c), blocks(r), BLOCK, BLOCK),
        lambda r, c: (c // BLOCK, r // BLOCK, r % BLOCK, c % BLOCK),
    ),
    "ND": (3, lambda *shape: shape, lambda *index: index),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_element_comes_back_whatever_the_shape(layout):
    rank, shape_on_chip, place = LAYOUTS[layout]
    random = np.random.default_rng(3)
    corners = itertools.product((1, BLOCK, BLOCK + 1), repeat=2)
    for first, second in [*corners, *random.integers(1, 40, (20, 2)).tolist()]:
        rest = random.integers(1, 4, rank - 2).tolist()
        shape = (first, second) if layout == "FRACTAL_NZ" else (1 + first % 3, second, *rest)
        array = random.normal(size=shape).astype(np.float16)
        on_chip = placed(array, shape_on_chip(*shape), place)
        np.testing.assert_array_equal(logical_array(on_chip, layout, shape), array)


def test_a_batch_of_matrices_comes_back():
    array = np.arange(2 * 3 * 18 * 5).reshape(2, 3, 18, 5)
    _, shape_on_chip, place = LAYOUTS["FRACTAL_NZ"]
    on_chip = np.array([[placed(m, shape_on_chip(*m.shape), place) for m in row] for row in array])
    assert on_chip.shape == (2, 3, 1, 2, BLOCK, BLOCK)
    np.testing.assert_array_equal(logical_array(on_chip, "FRACTAL_NZ", array.shape), array)


@pytest.mark.parametrize(
    ("layout", "shape", "logical"),
    [
        ("FRACTAL_Z_3D", (2, 2), (2, 2)),
        ("NC1HWC0", (1, 1, 2, 2, 16), (1, 17, 2, 2)),
        ("NC1HWC0", (1, 1, 2, 2, 16), (16, 2, 2)),
        ("NC1HWC0", (1, 16, 2, 2), (1, 16, 2, 2)),
        ("ND", (2, 3), (5,)),
    ],
)
def test_what_does_not_fit_is_refused(layout, shape, logical):
    with pytest.raises(ValueError, match=r"layout|cannot hold one of|unpack|reshape"):
        logical_array(np.zeros(shape), layout, logical)
