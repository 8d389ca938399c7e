"""The contract as values: clip sets, models, devices, tiers and waivers, each table complete."""

import datetime
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import pydantic

from harness.judge.limits import (
    AccuracyFloor,
    DeviceModelLimits,
    EveryClipLimits,
    MultiplyAddsLimits,
    PairedLimits,
    ParityLimits,
    SoakLimits,
    StartupLimits,
    ThroughputReference,
)
from harness.judge.table import (
    Count,
    Digest,
    Filled,
    NotNegative,
    Positive,
    Table,
    Text,
    WeightsDigest,
)
from harness.spec import ALL_CHECKS, Cell, Check

Precision = Literal["fp32", "fp16"]


class ClipSetTable(Table):
    """A whole data set; ``digest`` is of its manifest, where all have the same files.

    ``class_count`` is what the head of each of its models must have; None does not ask.
    """

    clip_count: Count
    class_count: Count | None = None
    digest: Digest | None = None
    unreadable_max: Annotated[int, pydantic.Field(ge=0)] = 0
    source: Filled


class DeviceTable(Table):
    """What a model must reach on one device.

    ``no_golden`` names the batch sizes whose throughput is a sanity bound alone. ``startup`` and
    ``soak`` have the rows of the cells that are checked for it.
    """

    top1: AccuracyFloor
    top5: AccuracyFloor
    throughput: Annotated[Mapping[str, ThroughputReference], pydantic.Field(min_length=1)]
    no_golden: Annotated[tuple[str, ...], pydantic.Field(strict=False)] = ()
    device_model: DeviceModelLimits | None = None
    startup: Mapping[str, StartupLimits] = {}
    soak: Mapping[str, SoakLimits] = {}


class ModelTable(Table):
    """What a model must reach.

    ``weights`` are the first hex digits of the sha256 of its checkpoint; without them any will do.
    ``every_clip`` has the precisions that ``parity`` has, or is left out.
    """

    clip_set: Text
    weights: WeightsDigest | None = None
    parity: Mapping[Precision, ParityLimits]
    every_clip: Mapping[Precision, EveryClipLimits] = {}
    multiply_adds: MultiplyAddsLimits | None = None
    paired: PairedLimits
    devices: Annotated[Mapping[str, DeviceTable], pydantic.Field(min_length=1)]


class TimingPlan(Table):
    """How long the sessions of a cell are timed.

    Sessions are added until they decide. They end undecided once there are ``sessions_max`` of them
    and ``budget_minutes`` have passed, whichever comes later.
    """

    sessions_min: Count
    sessions_max: Count
    warmup_queries: Count
    min_queries: Count
    min_seconds: NotNegative
    budget_minutes: NotNegative = 0.0

    def is_spent(self, session_count: int, seconds: float) -> bool:
        """Whether no further session may be added."""
        return session_count >= self.sessions_max and seconds >= 60.0 * self.budget_minutes

    def with_more(self, sessions: int, budget_minutes: float) -> "TimingPlan":
        """Return the plan with room for so many sessions and minutes; it never becomes smaller."""
        more = {
            "sessions_max": max(self.sessions_max, sessions),
            "budget_minutes": max(self.budget_minutes, budget_minutes),
        }
        return self.model_copy(update=more)


class Tier(Table):
    """How much is run, and what must have passed.

    ``cells`` and ``required`` are shell patterns over ``model-device-bsN`` and
    ``model-device-bsN:check``, or ``bsN-precision`` for a cell that names one. ``parity_inputs`` and
    ``timing`` are by ``model-device``, with a ``default``. ``clips`` says, by the same keys, on how
    many clips accuracy is measured; without it, that is the whole set, and only the whole set can be
    signed off. ``soak_minutes`` is how long its cells with soak limits work; without it, none does.
    """

    cells: Annotated[tuple[Text, ...], pydantic.Field(min_length=1, strict=False)]
    required: Annotated[tuple[Text, ...], pydantic.Field(min_length=1, strict=False)]
    parity_inputs: Mapping[str, Count]
    timing: Mapping[str, TimingPlan]
    clips: Mapping[str, Count] = {}
    soak_minutes: Positive | None = None

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
        cell: id of the cell, such as ``nonlocal_r50-ascend310p-bs4``; not a pattern.
        check: of that cell.
        stage: that breaks, where the outcome is ``error``; none where the check runs to its end.
        reason: what is known to be wrong.
        issue: where the fix is tracked.
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
    """The whole contract, with everything that the tables of the file share spelled out.

    ``inputs`` is the sha256 of the known answers of inputs, with which every model is compared.
    """

    inputs: Digest | None = None
    clip_sets: Mapping[str, ClipSetTable]
    models: Annotated[Mapping[str, ModelTable], pydantic.Field(min_length=1)]
    tiers: Annotated[Mapping[str, Tier], pydantic.Field(min_length=1)]
    waivers: Annotated[tuple[Waiver, ...], pydantic.Field(strict=False)] = ()

    def cells(self, tier: Tier | None = None) -> tuple[Cell, ...]:
        """All cells, or those of a tier, in the order of the file."""
        cells = (
            Cell.of_row(model, device, row)
            for model, table in self.models.items()
            for device, device_table in table.devices.items()
            for row in device_table.throughput
        )
        return tuple(cell for cell in cells if tier is None or matches(cell.id, tier.cells))

    def checks(self, cell: Cell, tier: Tier) -> tuple[Check, ...]:
        """The checks that a cell of this file has in a tier."""
        device = self.models[cell.model].devices[cell.device]
        is_there = {
            "startup": cell.row in device.startup,
            "soak": cell.row in device.soak and tier.soak_minutes is not None,
        }
        return tuple(check for check in ALL_CHECKS if is_there.get(check, True))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of some shell patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
