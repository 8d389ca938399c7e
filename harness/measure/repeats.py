"""Whether a device repeats itself: twice on a chip, alone and in a batch, on one chip and another."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.measure.measurement import Measurement

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Repeats(Measurement):
    """Largest absolute differences of scores; 0 is bitwise equal.

    Attributes:
        input_count: inputs of the batch that was run again.
        chip_count: chips that ran it.
        again: between two runs of the batch on one chip; None: NaN, which is never equal.
        alone: between an input alone and in row ``row`` of the batch; None where ``row`` is, or for NaN.
        is_single: whether alone means the device model for batch size 1, not a batch of copies.
        chips: between any chip and the first; None for NaN, or where there is only one.
        row: of the batch, from 0; None for a batch of one.
    """

    input_count: int
    chip_count: int
    again: float | None
    alone: float | None = None
    chips: float | None = None
    row: int | None = None
    is_single: bool = False


def repeats_from_arrays(arrays: Mapping[str, "Array"]) -> Repeats:
    """Compare scores [chip, input, crop, class].

    Args:
        arrays: ``first`` and ``again`` of the same batch; ``alone`` of one of its inputs
            [chip, 1, crop, class], which stands in ``row`` of it; both are left out for a batch of one.
    """
    first, again = arrays["first"], arrays["again"]
    row = int(arrays["row"]) if "row" in arrays else None
    return Repeats(
        input_count=first.shape[1],
        chip_count=len(first),
        again=_largest(first, again),
        alone=None if row is None else _largest(first[:, row : row + 1], arrays["alone"]),
        chips=_largest(first, np.broadcast_to(first[:1], first.shape)) if len(first) > 1 else None,
        row=row,
        is_single=bool(arrays.get("is_single", False)),
    )


def _largest(one: "Array", other: "Array") -> float | None:
    with np.errstate(invalid="ignore"):
        found = float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).max())
    return found if np.isfinite(found) else None
