"""What a cell is judged by, and how much a tier runs: the tables of thresholds.toml as values.

They know neither models nor devices, so that a judge may import them.
"""

import datetime
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import pydantic

from harness.spec import Cell, Check

Fraction = Annotated[float, pydantic.Field(ge=0.0, le=1.0)]
# A floor of 0 is one that every result reaches.
Share = Annotated[float, pydantic.Field(gt=0.0, le=1.0)]
Positive = Annotated[float, pydantic.Field(gt=0.0)]
NotNegative = Annotated[float, pydantic.Field(ge=0.0)]
Count = Annotated[int, pydantic.Field(ge=1)]
Text = Annotated[str, pydantic.Field(min_length=1)]
Filled = Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1)]


class Table(pydantic.BaseModel):
    """A table of the file: strict types, no unknown key, no NaN, never changed."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class ParityLimits(Table):
    """How far a stage of the chain may be from the one before it.

    ``fp64_factor`` bounds RMSE(stage, fp64) by that multiple of RMSE(fp32 PyTorch, fp64) plus
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
    """Least share of clips that must be right, with its origin."""

    floor: Share
    unit: Literal["share of clips"] = "share of clips"
    golden: Fraction | None = None
    source: Filled


class PairedLimits(Table):
    """The paired comparison with PyTorch: the loss of top-1 that is still not inferior."""

    margin: Annotated[float, pydantic.Field(ge=0.0, lt=1.0)]
    confidence: Annotated[float, pydantic.Field(gt=0.5, lt=1.0)]
    source: Filled


class ThroughputReference(Table):
    """A published or measured speed and how much slower is still acceptable.

    ``scope`` says whether the number is of one chip or of a card, with up to ``chips`` on it that
    made it together; a session has one chip. ``against`` says whether
    it is absolute or the ratio to PyTorch measured in the same run, interleaved.
    """

    golden: Positive
    # At a tolerance of 1 the floor is 0, which every speed reaches.
    tolerance: Annotated[float, pydantic.Field(ge=0.0, lt=1.0)]
    unit: Literal["clips/s", "x PyTorch"]
    definition: Literal["device", "device_io", "e2e"]
    scope: Literal["chip", "card", "host"]
    chips: Count = 1
    against: Literal["absolute", "pytorch"] = "absolute"
    implausible: Annotated[float, pydantic.Field(gt=1.0)] = 3.0
    source: Filled

    @pydantic.model_validator(mode="after")
    def _chips_are_of_a_card(self) -> Self:
        if self.chips > 1 and self.scope != "card":
            raise ValueError(f"chips = {self.chips} needs scope = 'card', not {self.scope!r}")
        return self

    @pydantic.model_validator(mode="after")
    def _unit_is_what_is_measured(self) -> Self:
        if (self.unit == "x PyTorch") != (self.against == "pytorch"):
            raise ValueError(f"unit = {self.unit!r} does not go with against = {self.against!r}")
        return self

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


class AccuracyLimits(Table):
    """Floors of one device, the expected clips and the paired comparison."""

    top1: AccuracyFloor
    top5: AccuracyFloor
    clip_count: Count
    clip_set_digest: str | None = None
    unreadable_max: Annotated[int, pydantic.Field(ge=0)] = 0
    paired: PairedLimits


class Limits(Table):
    """Everything that one cell is judged by.

    ``host_parity`` bounds the edges of the chain before the device, ``parity`` those on it.
    """

    parity: ParityLimits
    host_parity: ParityLimits
    accuracy: AccuracyLimits
    throughput: ThroughputReference


class ClipSetTable(Table):
    """A whole data set; ``digest`` is of its manifest, where all have the same files."""

    clip_count: Count
    digest: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")] | None = None
    unreadable_max: Annotated[int, pydantic.Field(ge=0)] = 0
    source: Filled


class DeviceTable(Table):
    """What a model must reach on one device."""

    top1: AccuracyFloor
    top5: AccuracyFloor
    throughput: Annotated[Mapping[str, ThroughputReference], pydantic.Field(min_length=1)]


class ModelTable(Table):
    """What a model must reach."""

    clip_set: Text
    parity: Mapping[Literal["fp32", "fp16"], ParityLimits]
    paired: PairedLimits
    devices: Annotated[Mapping[str, DeviceTable], pydantic.Field(min_length=1)]


class TimingPlan(Table):
    """How long the sessions of a cell are timed."""

    sessions_min: Count
    sessions_max: Count
    warmup_queries: Count
    min_queries: Count
    min_seconds: NotNegative


class Tier(Table):
    """How much is run, and what must have passed.

    ``cells`` and ``required`` are shell patterns over ``model-device-bsN`` and
    ``model-device-bsN:check``. ``parity_inputs`` and ``timing`` are by ``model-device``, with a
    ``default``. ``clips`` names, in the same way, how many clips of a set accuracy is measured on;
    where it names none, that is the whole set, and nothing else can be signed off.
    """

    cells: Annotated[tuple[Text, ...], pydantic.Field(min_length=1, strict=False)]
    required: Annotated[tuple[Text, ...], pydantic.Field(min_length=1, strict=False)]
    parity_inputs: Mapping[str, Count]
    timing: Mapping[str, TimingPlan]
    clips: Mapping[str, Count] = {}

    def clips_for(self, cell: Cell) -> int | None:
        """Number of clips that accuracy of a cell is measured on; None for the whole set."""
        return self.clips.get(cell.pair, self.clips.get("default"))

    def inputs_for(self, cell: Cell) -> int:
        """Fewest inputs that parity of a cell is shown on."""
        return self.parity_inputs.get(cell.pair, self.parity_inputs["default"])

    def timing_for(self, cell: Cell) -> TimingPlan:
        """How long the sessions of a cell are timed."""
        return self.timing.get(cell.pair, self.timing["default"])

    def requires(self, cell: Cell, check: Check) -> bool:
        """Whether a check must have passed."""
        return matches(f"{cell.id}:{check}", self.required)


class Waiver(Table):
    """A known failure of one check that somebody answers for until a date.

    Attributes:
        cell: id of the cell, such as ``nonlocal_r50-ascend310p-bs4``; no pattern.
        check: of that cell.
        stage: that breaks, where the outcome is ``error``; none where the check runs to its end.
        reason: what is known to be wrong.
        issue: where it is being mended.
        owner: who answers for it.
        expires: last day on which it holds.
    """

    cell: Filled
    check: Check
    stage: Filled | None = None
    reason: Filled
    issue: Filled
    owner: Filled
    expires: datetime.date

    @property
    def id(self) -> str:
        """Id of the check that is waived."""
        return f"{self.cell}:{self.check}"


class ThresholdsFile(Table):
    """The whole file."""

    version: Literal[1] = pydantic.Field(alias="schema")
    clip_sets: Mapping[str, ClipSetTable]
    models: Annotated[Mapping[str, ModelTable], pydantic.Field(min_length=1)]
    tiers: Annotated[Mapping[str, Tier], pydantic.Field(min_length=1)]
    waivers: Annotated[tuple[Waiver, ...], pydantic.Field(strict=False)] = ()


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of some shell patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
