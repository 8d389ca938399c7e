"""thresholds.toml -> Limits: the contract, with one home, a unit and a source for each number.

``thresholds.example`` of the layout::

    schema = 1
    [tier.nightly]                      what a tier runs and requires
    [models.M]                          clip set, parity limits by precision
    [models.M.ascend310p]               batch sizes, accuracy floors of that device
    [models.M.ascend310p.bs4]           throughput reference of that batch size

Unknown keys, tables of unknown models or devices, empty requirements, NaN, strings for numbers and
numbers out of range are errors that name the key.
"""

from typing import Annotated, Literal

import pydantic

SCHEMA_VERSION = 1

Fraction = Annotated[float, pydantic.Field(ge=0.0, le=1.0)]
Positive = Annotated[float, pydantic.Field(gt=0.0)]
NotNegative = Annotated[float, pydantic.Field(ge=0.0)]
Count = Annotated[int, pydantic.Field(ge=1)]
Text = Annotated[str, pydantic.Field(min_length=1)]


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
    cosine: Fraction
    top1_agreement: Fraction
    top5_overlap: Fraction
    source: Text


class AccuracyFloor(Table):
    """Least share of clips that must be right, with its origin."""

    floor: Fraction
    unit: Literal["share of clips"] = "share of clips"
    golden: Fraction | None = None
    source: Text


class PairedLimits(Table):
    """The paired comparison with PyTorch: the loss of top-1 that is still not inferior."""

    margin: Fraction
    confidence: Annotated[float, pydantic.Field(gt=0.5, lt=1.0)]
    source: Text


class ThroughputReference(Table):
    """A published or measured speed and how much slower is still acceptable.

    ``scope`` says whether the number is of one chip or of a card with several; ``against`` whether
    it is absolute or the ratio to PyTorch measured in the same run, interleaved.
    """

    golden: Positive
    tolerance: Fraction
    unit: Literal["clips/s", "x PyTorch"]
    definition: Literal["device", "device_io", "e2e"]
    scope: Literal["chip", "card", "host"]
    against: Literal["absolute", "pytorch"] = "absolute"
    implausible: Annotated[float, pydantic.Field(gt=1.0)] = 3.0
    source: Text

    @property
    def floor(self) -> float:
        """Slowest acceptable speed."""
        return self.golden * (1.0 - self.tolerance)

    @property
    def ceiling(self) -> float:
        """Speed above which the work was not done: cached or empty."""
        return self.golden * self.implausible


class AccuracyLimits(Table):
    """Floors of one device, the expected number of clips and the paired comparison."""

    top1: AccuracyFloor
    top5: AccuracyFloor
    clip_count: Count
    unreadable_max: Annotated[int, pydantic.Field(ge=0)] = 0
    paired: PairedLimits


class Limits(Table):
    """Everything that one cell is judged by."""

    parity: ParityLimits
    accuracy: AccuracyLimits
    throughput: ThroughputReference
