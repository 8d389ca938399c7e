"""The rows of the guides' tables, as values."""

from collections.abc import Mapping

from harness.judge.matrix import MatrixChance
from harness.measure.measurement import Measurement
from harness.measure.statistics import Interval


class VersionRow(Measurement):
    """The versions under which a device was run; ``unknown`` is what nobody could find out.

    ``run_id`` is the first run under them.
    """

    run_id: str
    host: str
    device: str
    chip: str
    driver: str
    firmware: str
    runtime: str
    python: str
    torch: str
    os: str


class AccuracyRow(Measurement):
    """Top-1 and top-5 of a model on a device, as shares, beside the guide's own figures.

    The worst batch size stands for the device. A deviation is measured less guide, in points.
    """

    model: str
    device: str
    batch: int
    clip_count: int
    top1: float
    top5: float
    guide_top1: float | None
    guide_top5: float | None
    deviation_top1: float | None
    deviation_top5: float | None
    note: str = ""


class SpeedFigure(Measurement):
    """Speed of one device at one batch size, beside the guide's own figure.

    Attributes:
        per_s: clips a second, measured by the definition of the contract.
        scope: what was measured: a chip, a card or a host.
        guide: clips a second that the guide prints; None where it prints none.
        guide_scope: what the guide measured.
        deviation: measured over guide, less one; None where the two are of different scopes.
        is_best: whether this is the best batch size of the device.
        bounds: 95 % bounds over sessions; None after one session.
        golden: clips a second that the contract expects; None where it expects a ratio.
        is_decided: whether the speed was told from its floor.
    """

    per_s: float
    scope: str
    guide: float | None = None
    guide_scope: str | None = None
    deviation: float | None = None
    is_best: bool = False
    bounds: Interval | None = None
    golden: float | None = None
    is_decided: bool = True


class RatioFigure(Measurement):
    """How many times as fast one device is as another, such as ``310P/310``.

    ``scopes`` is what the two measured numbers are of, ``guide_scopes`` what the guide's are of:
    where they differ the two ratios cannot be compared.
    """

    name: str
    value: float
    scopes: tuple[str, str]
    guide: float | None
    guide_scopes: tuple[str, str]

    @property
    def is_comparable(self) -> bool:
        """Whether both ratios are of the same scopes."""
        return self.scopes == self.guide_scopes


class ThroughputRow(Measurement):
    """Speeds at one batch size by device, and the guides' ratios; without a batch size, the best."""

    model: str
    batch: int | None
    speeds: Mapping[str, SpeedFigure]
    ratios: tuple[RatioFigure, ...] = ()


class VariantRow(Measurement):
    """A model that was built another way, such as a gear, beside the plain build of its batch size.

    Attributes:
        precision: what the cell names: a precision, or gears.
        per_s, plain_per_s: clips a second of both.
        ratio: how many times as fast it is.
        bounds: of the ratio; None where one of the two had one session.
    """

    model: str
    device: str
    batch: int
    precision: str
    per_s: float
    plain_per_s: float
    ratio: float
    bounds: Interval | None = None


class GuideTables(Measurement):
    """What the two guides print as their last section, and what other builds of a model give.

    ``accuracy_chance`` says how often a matrix of perfect devices is not green by chance.
    """

    versions: tuple[VersionRow, ...] = ()
    accuracy: tuple[AccuracyRow, ...] = ()
    accuracy_chance: MatrixChance | None = None
    throughput: tuple[ThroughputRow, ...] = ()
    variants: tuple[VariantRow, ...] = ()
