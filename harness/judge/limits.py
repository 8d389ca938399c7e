"""What a cell is judged by: the tables of thresholds.toml as values, without models and devices."""

import fractions
import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import pydantic

from harness.judge.table import (
    Ceilings,
    Count,
    Digest,
    Filled,
    Fraction,
    NotNegative,
    Positive,
    Rows,
    Share,
    Spread,
    Table,
    Tolerance,
    WeightsDigest,
)
from harness.measure.speed import SERIES, Against, Definition
from harness.spec import Reference


class ParityLimits(Table):
    """How far a stage of the chain may be from the one before it.

    ``fp64_factor`` bounds RMSE(stage, fp64) by that multiple of RMSE(fp32 reference, fp64) plus
    ``fp64_atol``; the others bound the errors of logits or log-probabilities.
    """

    fp64_factor: Positive
    fp64_atol: NotNegative
    max_abs_error: NotNegative
    p999_abs_error: NotNegative
    relative_l2: NotNegative
    cosine: Share
    top1_agreement: Share
    top5_overlap: Share
    source: Filled


class AccuracyFloor(Table):
    """Least share of clips that must be right, with its origin.

    ``guide`` is the share that a guide prints; it is shown beside the result and decides nothing.
    """

    floor: Share
    unit: Literal["share of clips"] = "share of clips"
    golden: Fraction | None = None
    guide: Fraction | None = None
    source: Filled


class PairedLimits(Table):
    """The paired comparison with the reference.

    Attributes:
        margin: loss of top-1 that is still acceptable.
        confidence: with which the loss must be shown to be within it.
        floor_error_rate: how often the floor of top-1 may turn a matrix of devices red that are as
            good as a reference which reaches it; 1 holds them to the exact count.
        source: of these numbers.
    """

    margin: Tolerance
    confidence: Annotated[float, pydantic.Field(gt=0.5, lt=1.0)]
    floor_error_rate: Share = 0.02
    source: Filled


class EveryClipLimits(Table):
    """How far the scores of any clip of the accuracy run may be from the reference's.

    ``max_abs_error`` and ``relative_l2`` bound the worst clip, ``p999_abs_error`` all scores.
    """

    max_abs_error: NotNegative
    p999_abs_error: NotNegative
    relative_l2: NotNegative
    source: Filled


class HostGolden(Table):
    """A golden of another processor than the row's; where None, ``tolerance`` and ``spread`` are the row's."""

    golden: Positive
    tolerance: Tolerance | None = None
    spread: Spread | None = None
    speedup_min: Positive | None = None
    source: Filled


class ThroughputReference(Table):
    """A published or measured speed and how much slower is still acceptable.

    ``scope`` says what reached the number: one chip, a card with up to ``chips`` chips together (a session has one), or
    a host. ``against`` says whether it is absolute or the ratio to the exported graph, which the same session runs
    without optimisation: a ratio of processor times, on one thread each. Contracts of earlier editions say ``pytorch``
    there. ``spread`` is its standard deviation over sessions, relative, as A/A runs showed it. ``speedup_min`` is the
    least speed with every thread over that with one, by the wall clock; it is judged where nothing else ran.
    ``processor`` is the one on which a host's golden was measured, as the ratio of two programs depends on it;
    ``golden_on`` has goldens of others, by name, and on any that is not named ``tolerance_elsewhere`` holds. ``chip``
    is the accelerator on which it was measured, by words of its driver's name for it; it says nothing about any other.
    ``guide`` is the number in clips/s that a guide prints, shown beside the result; ``guide_scope`` is its scope, where
    that differs from the golden's.
    """

    golden: Positive
    # At a tolerance of 1 the floor is 0, which every speed reaches.
    tolerance: Tolerance
    unit: Literal["clips/s", "x unoptimised", "x PyTorch"]
    definition: Definition
    scope: Literal["chip", "card", "host"]
    chips: Count = 1
    against: Against = "absolute"
    implausible: Annotated[float, pydantic.Field(gt=1.0)] = 3.0
    spread: Spread | None = None
    speedup_min: Positive | None = None
    processor: Filled | None = None
    golden_on: Annotated[Mapping[Filled, HostGolden], pydantic.AfterValidator(Rows)] = Rows()
    tolerance_elsewhere: Tolerance | None = None
    chip: Filled | None = None
    guide: Positive | None = None
    guide_scope: Literal["chip", "card", "host"] | None = None
    source: Filled

    @pydantic.model_validator(mode="after")
    def _chips_are_of_a_card(self) -> Self:
        if self.chips > 1 and self.scope != "card":
            raise ValueError(f"chips = {self.chips} needs scope = 'card', not {self.scope!r}")
        return self

    @pydantic.model_validator(mode="after")
    def _unit_is_what_is_measured(self) -> Self:
        if self.unit != SERIES[self.against][1]:
            raise ValueError(f"unit = {self.unit!r} does not go with against = {self.against!r}")
        return self

    @pydantic.model_validator(mode="after")
    def _processor_has_a_tolerance_elsewhere(self) -> Self:
        if (self.processor is None) != (self.tolerance_elsewhere is None):
            raise ValueError("processor and tolerance_elsewhere go together: give both or neither")
        if self.golden_on and self.processor in (None, *self.golden_on):
            raise ValueError("golden_on needs processor, the one that golden is of, and has others")
        return self

    @pydantic.model_validator(mode="after")
    def _processor_time_is_of_a_host(self) -> Self:
        if self.definition == "processor" and not (self.is_of_host and self.scope == "host"):
            raise ValueError(
                "definition = 'processor' needs against = 'unoptimised' and scope = 'host': a host "
                "is judged by its processor time beside that of the unoptimised graph"
            )
        return self

    @property
    def is_of_host(self) -> bool:
        """Whether it is for a host, which is judged by its processor time beside a reference's."""
        return self.against != "absolute"

    def is_of_processor(self, processor: str | None) -> bool:
        """Whether the golden is of a processor; None, one that is not known, counts as its own."""
        return self.processor is None or processor in (None, self.processor)

    def has_golden_of(self, processor: str | None) -> bool:
        """Whether it or one of ``golden_on`` is of a processor."""
        return self.is_of_processor(processor) or processor in self.golden_on

    def on_processor(self, processor: str | None) -> Self:
        """Return what holds on a host with ``processor``; None if the measurement does not tell."""
        if self.is_of_processor(processor):
            return self
        here = self.golden_on.get(processor or "")
        if here is None:
            return self.model_copy(update={"tolerance": self.tolerance_elsewhere})
        return self.model_copy(update={"speedup_min": None, **here.model_dump(exclude_none=True)})

    @property
    def floor(self) -> float:
        """Slowest acceptable speed."""
        return self.golden * (1.0 - self.tolerance)

    @property
    def floor_of_a_share(self) -> float:
        """Slowest acceptable speed of one chip, if all chips of the card made the golden."""
        return self.floor / self.chips

    @property
    def ceiling(self) -> float:
        """Speed above which the work was not done: cached or empty."""
        return self.golden * self.implausible


class DeviceModelLimits(Table):
    """What a device model may take of the device; None: as much as it likes.

    ``memory_max_mb`` bounds its memory and its weights together.
    """

    memory_max_mb: Positive | None = None
    ai_cpu_operators_max: Annotated[int, pydantic.Field(ge=0)] | None = None
    source: Filled


class MultiplyAddsLimits(Table):
    """By what share the multiply-adds of the exported and the simplified file may differ from PyTorch's."""

    # At a tolerance of 1, a file of twice the work is within it, and one without any.
    tolerance: Tolerance
    source: Filled


class StartupLimits(Ceilings):
    """What a start may take: milliseconds of the wall clock and megabytes; None: whatever it takes.

    ``cold`` is with the model's file out of the host's page cache, ``warm`` with it there.
    """

    cold_load_max_ms: Positive | None = None
    cold_first_max_ms: Positive | None = None
    warm_load_max_ms: Positive | None = None
    warm_first_max_ms: Positive | None = None
    host_peak_max_mb: Positive | None = None
    device_peak_max_mb: Positive | None = None

    @property
    def limits_time(self) -> bool:
        """Whether any of the limits is of a time."""
        return any("_ms" in name for name in self.model_dump(exclude_none=True))


class SoakLimits(Ceilings):
    """What hours of work may change; None: as much as they like.

    ``retention_min`` bounds the speed of the last ten minutes over that of the first,
    ``growth`` what memory gains between them, ``energy_max_j`` is of one clip.
    """

    retention_min: Share | None = None
    temperature_max_c: Positive | None = None
    host_growth_max_mb: NotNegative | None = None
    device_growth_max_mb: NotNegative | None = None
    energy_max_j: Positive | None = None


class AccuracyLimits(Table):
    """Floors of one device, the expected clips and the comparisons with the reference.

    ``every_clip`` is None in contracts that do not bound single clips; ``matrix_cells`` counts the
    cells of the contract that are judged on the same clips.
    """

    top1: AccuracyFloor
    top5: AccuracyFloor
    clip_count: Count
    clip_set_digest: str | None = None
    unreadable_max: Annotated[int, pydantic.Field(ge=0)] = 0
    paired: PairedLimits
    every_clip: EveryClipLimits | None = None
    matrix_cells: Count = 1
    reference: Reference = "PyTorch"


class Limits(Table):
    """Everything that one cell is judged by.

    ``host_parity`` bounds the edges of the chain before the device, ``parity`` those on it.
    ``weights`` are the first hex digits of the checkpoint's sha256; None accepts any checkpoint.
    ``inputs`` is the sha256 of the known answers of inputs; None asks for none. ``multiply_adds`` is
    None where the contract does not ask, and where the model has no PyTorch. ``startup`` and
    ``soak`` are None where the cell has no such check. ``reference`` is what the device is compared
    with.
    """

    reference: Reference = "PyTorch"
    weights: WeightsDigest | None = None
    inputs: Digest | None = None
    parity: ParityLimits
    host_parity: ParityLimits
    accuracy: AccuracyLimits
    throughput: ThroughputReference
    multiply_adds: MultiplyAddsLimits | None = None
    device_model: DeviceModelLimits | None = None
    startup: StartupLimits | None = None
    soak: SoakLimits | None = None


def floor_count(floor: float, n: int) -> int:
    """Return the fewest right clips of ``n`` that are a share of at least ``floor``, exactly.

    71.6 % of 19,796 is 14,173.936, so 14,174: computed from the decimal that was written down, not
    from its binary neighbour.
    """
    return math.ceil(fractions.Fraction(repr(floor)) * n)
