"""Two readings of a clip -> the first step that differs, in words.

A step that differs is explained by what turns one reading into the other: frames in another order,
channels exchanged, pixels moved, every value shifted. Where nothing does, the step itself is named.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.known_inputs import (
    KnownInput,
    Sketch,
    inner_points,
    points_of_images,
    sketch_from_array,
)
from harness.data.loading import InputSteps

# How far decoders may be apart, in steps of 256: they round differently, and place colour between
# pixels differently. FFmpeg's own conversions differ by a bias of 1.5 and an RMS of 3.4.
BIAS_MAX = 3.0
RMS_MAX = 4.5
MARGIN = 2
SHIFTS = sorted(
    itertools.product(range(-MARGIN, MARGIN + 1), repeat=2), key=lambda at: at[0] ** 2 + at[1] ** 2
)[1:]
SHOWN = 8

Array = npt.NDArray[Any]


def input_difference(known: KnownInput, seen: InputSteps, *, is_exact: bool) -> str | None:
    """Say which step that the suite has seen is not the known one, and how; None where all are.

    If the same decoders on the same processor made both, ``is_exact``, every bit counts.
    """
    if seen.indices != known.indices:
        return f"indices: frames {_listed(seen.indices)} in place of {_listed(known.indices)}"
    pixels = _Comparison(is_exact)
    tensors = _Comparison(is_exact, step=_tensor_step(known))
    return (
        pixels.difference("decode", known.frames, seen.frames)
        or pixels.difference("resize", known.crops, seen.crops)
        or tensors.difference("normalise", known.tensor, seen.tensor)
    )


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """How arrays are compared: bit for bit, or as far as decoders differ.

    ``step`` is the distance of neighbouring values out of 256.
    """

    is_exact: bool
    step: float = 1.0

    def difference(self, name: str, known: Sketch, seen: Array) -> str | None:
        """Say how an array differs from the known one, or None; ``name`` is that of the step."""
        if known.shape != seen.shape:
            return f"{name}: the shape is {list(seen.shape)} in place of {list(known.shape)}"
        wanted, found = known.points(), points_of_images(seen)
        if self._is_same(wanted, found):
            is_whole = not self.is_exact or known.sha256 == sketch_from_array(seen).sha256
            return None if is_whole else f"{name}: values differ between the points that are kept"
        return (
            self._other_order(name, wanted, found)
            or self._other_colours(wanted, found)
            or self._moved(wanted, seen)
            or f"{name}: {_other_values(wanted, found)}"
        )

    def _is_same(self, wanted: Array, found: Array) -> bool:
        """Whether values [..., point, channel] are the same."""
        if self.is_exact:
            return bool(np.array_equal(wanted, found))
        error = (found.astype(np.float64) - wanted) / self.step
        bias = error.mean(axis=tuple(range(error.ndim - 1)))
        rms = np.sqrt(((error - bias) ** 2).mean(axis=(-2, -1)))
        return bool(np.abs(bias).max() <= BIAS_MAX and rms.max() <= RMS_MAX)

    def _other_order(self, name: str, wanted: Array, found: Array) -> str | None:
        """Say which images stand in the place of others, or None."""
        order = [self._number(image, wanted, place) for place, image in enumerate(found)]
        moved = [f"{number} at place {at}" for at, number in enumerate(order) if at != number]
        if None in order or not moved:
            return None
        kind = "layout: plane" if name == "normalise" else "order: frame"
        return f"{kind} {', '.join(moved[:SHOWN])}"

    def _number(self, image: Array, wanted: Array, own: int) -> int | None:
        numbers = (own, *range(len(wanted)))
        return next((one for one in numbers if self._is_same(wanted[one], image)), None)

    def _other_colours(self, wanted: Array, found: Array) -> str | None:
        for order in itertools.permutations(range(wanted.shape[-1])):
            if self._is_same(wanted, found[..., list(order)]):
                return f"colour: the channels are {''.join('RGB'[at] for at in order)}, not RGB"
        return None

    def _moved(self, wanted: Array, seen: Array) -> str | None:
        inner = inner_points(seen, MARGIN)
        for rows, columns in SHIFTS:
            found = points_of_images(seen, (rows, columns))
            if self._is_same(wanted[:, inner], found[:, inner]):
                return f"crop: the picture lies {columns:+d} pixels across and {rows:+d} down"
        return None


def _tensor_step(known: KnownInput) -> float:
    """Return how far neighbouring values of a pixel are apart in the tensor."""
    return float(np.ptp(known.tensor.points()) / max(1.0, float(np.ptp(known.crops.points()))))


def _other_values(wanted: Array, found: Array) -> str:
    error = found.astype(np.float64) - wanted
    return (
        f"{np.count_nonzero(error)} of {error.size} values differ, by {error.mean():+.3g} on average "
        f"and up to {np.abs(error).max():.3g}"
    )


def _listed(indices: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, indices[:SHOWN]))
    return f"{shown}, …" if len(indices) > SHOWN else shown
