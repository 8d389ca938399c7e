"""A cell with everything that a check of it needs."""

import dataclasses
from collections.abc import Callable

from harness.build.workbench import Workbench
from harness.clips import ClipSet, Predictions
from harness.contract.tables import Tier
from harness.judge.limits import Limits
from harness.judge.measurement import judge_measurement
from harness.judge.verdict import Verdict
from harness.measure.measurement import Measurement
from harness.predict.device_predictions import smallest_of
from harness.predict.shards import subset_of_clips
from harness.spec import Cell, ModelSpec


@dataclasses.dataclass(frozen=True)
class Context:
    """A cell with everything that a check of it needs.

    ``accuracy_predictions`` returns what the accuracy check of this run has kept, if it has run.
    ``seed`` decides which clips mmaction2 reads as well. ``is_single_planned`` says whether the tier has the cell
    of batch size 1, whose device model is built in any case.
    """

    cell: Cell
    bench: Workbench
    tier: Tier
    limits: Limits
    accuracy_predictions: Callable[[], Predictions | None] = lambda: None
    seed: str = ""
    is_single_planned: bool = False

    @property
    def spec(self) -> ModelSpec:
        """The model of the cell."""
        return self.bench.model(self.cell.model)

    @property
    def single(self) -> Cell | None:
        """The cell of batch size 1 in the same build or the same tier; None if this is it, or there is none."""
        one = dataclasses.replace(self.cell, batch=1)
        is_gear = 1 in self.bench.spec(self.cell).gears
        return one if one != self.cell and (self.is_single_planned or is_gear) else None

    @property
    def clip_set(self) -> ClipSet:
        """The clips that accuracy is measured on: all, or as many as the tier names.

        A set that is not the contract's has no subset: it is measured whole, and does not count.
        """
        whole, limits = self.bench.clip_set(self.cell.model), self.limits.accuracy
        is_digest_met = limits.clip_set_digest in (None, whole.digest)
        if len(whole.clips) != limits.clip_count or not is_digest_met:
            return whole
        return subset_of_clips(whole, self.tier.clips_for(self.cell))

    def judge(self, measurement: Measurement) -> Verdict:
        """Judge what a check of the cell measured."""
        sessions_min = self.tier.timing_for(self.cell).sessions_min
        inputs_min = self.tier.inputs_for(self.cell)
        return judge_measurement(measurement, self.limits, inputs_min, sessions_min)

    @property
    def smallest(self) -> float:
        """The smallest probability that the device can represent."""
        return smallest_of(self.cell, self.bench)
