"""How often chance alone keeps a matrix of perfect devices from being green, from their own flips."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from harness.judge.accuracy import accuracy_reaches
from harness.judge.limits import AccuracyLimits
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.measurement import Measurement

DRAWS = 20_000
SEED = 2026
_CHUNK = 1_000


@dataclasses.dataclass(frozen=True)
class AccuracyCell:
    """The accuracy of one cell; cells of one model share what flips."""

    model: str
    measurement: AccuracyMeasurement
    limits: AccuracyLimits


class MatrixChance(Measurement):
    """Share of releases in which chance alone leaves a cell red or open, simulated.

    Attributes:
        share: of the releases.
        cells: that were simulated: whole sets compared with PyTorch.
        clips: that are discordant in any of them.
    """

    share: float
    cells: int
    clips: int


def matrix_chance(cells: Sequence[AccuracyCell]) -> MatrixChance | None:
    """Draw again which way each discordant clip flips, and judge; None without a cell to draw.

    A perfect device loses a discordant clip as often as it wins it. Which way it goes depends on
    whether PyTorch is right there, so that a clip goes the same way in all cells of a model. Floors
    of top-5 are not drawn.
    """
    drawn = [cell for cell in cells if cell.measurement.is_whole and cell.measurement.paired]
    if not drawn:
        return None
    flips = [_discordant(cell) for cell in drawn]
    names = {name: place for place, name in enumerate(sorted(set().union(*flips)))}
    is_in = np.zeros((len(names), len(drawn)), dtype=np.float32)
    for column, of_cell in enumerate(flips):
        is_in[[names[name] for name in of_cell], column] = 1.0
    most = np.array([_most_lost(cell, len(own)) for cell, own in zip(drawn, flips, strict=True)])
    rng, red = np.random.default_rng(SEED), 0
    for _ in range(DRAWS // _CHUNK):
        lost = rng.integers(0, 2, size=(_CHUNK, len(names)), dtype=np.int8)
        red += int((lost.astype(np.float32) @ is_in > most).any(axis=1).sum())
    return MatrixChance(share=red / DRAWS, cells=len(drawn), clips=len(names))


def _discordant(cell: AccuracyCell) -> set[tuple[str, str]]:
    paired = cell.measurement.paired
    flips = () if paired is None else paired.flips
    return {(cell.model, flip.clip_id) for flip in flips if flip.is_discordant}


def _most_lost(cell: AccuracyCell, discordant: int) -> int:
    """Return how many of its discordant clips a green device may lose; -1 if it is red anyway."""
    low, high = -1, discordant
    while low < high:
        middle = (low + high + 1) // 2
        is_green = accuracy_reaches(cell.measurement, cell.limits, middle, discordant - middle)
        low, high = (middle, high) if is_green else (low, middle - 1)
    return low
