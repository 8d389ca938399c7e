"""Build a cell with a keep list, compare it with PyTorch, time it: one trial of the search."""

import contextlib
import dataclasses
import statistics
from collections.abc import MutableMapping

from harness.check.checks import chain_scores
from harness.check.context import Context
from harness.check.divergence import divergent_operator, worst_input
from harness.check.precision_search import Keep, Trial
from harness.errors import BuildError, HarnessError, InvalidMeasurement
from harness.measure.parity import parity_measurement
from harness.precision import Precision
from harness.predict.device_predictions import open_session
from harness.predict.parity_inputs import ParityInputs
from harness.predict.run import feed_from_tensors
from harness.spec import Status
from harness.timings import LoopSettings

TIMED = LoopSettings(warmup_queries=5, min_queries=20, min_seconds=1.0)


@dataclasses.dataclass(frozen=True)
class Trials:
    """Runs trials. ``precisions`` are the model's, to which each trial adds its own."""

    context: Context
    precisions: MutableMapping[str, Precision]

    def __call__(self, keep: Keep) -> Trial:
        """Build and measure with a keep list; a build that is refused does not meet the limits.

        Raises:
            HarnessError: the device failed.
        """
        context = self._context(keep)
        progress = context.bench.progress
        progress.say(f"{context.cell.id}: keeps {', '.join(keep) or 'nothing'}")
        try:
            inputs, scores = chain_scores(context)
        except BuildError as error:
            return Trial(keep, False, str(error))
        clips = context.spec.clips_per_crop
        measurement = parity_measurement(
            scores, inputs.ids, inputs.counts, clips, context.limits.reference
        )
        verdict = context.judge(measurement)
        trial = Trial(
            *(keep, verdict.status is Status.PASS, verdict.reason),
            query_ms=_query_ms(context, inputs),
        )
        if trial.is_met:
            return trial
        operators = () if keep else _in_fp16(context)
        suspect = _suspect(context, inputs, worst_input(scores, inputs))
        return dataclasses.replace(trial, operators=operators, suspect=suspect)

    def _context(self, keep: Keep) -> Context:
        if not keep:
            return self.context
        name = f"search{len(self.precisions)}"
        self.precisions[name] = Precision(keep=keep)
        cell = dataclasses.replace(self.context.cell, precision=name)
        return dataclasses.replace(self.context, cell=cell)


def _in_fp16(context: Context) -> Keep:
    """Return the operators that could be kept in float32."""
    bench, cell = context.bench, context.cell
    operators = bench.device(cell.device).operators(bench.device_model(cell))
    return tuple(op.name for op in operators if op.nodes and op.dtype == "float16")


def _suspect(context: Context, inputs: ParityInputs, worst: int) -> str | None:
    """Name the first wrong operator; without dumps, as in a container, bisection has to do."""
    try:
        found = divergent_operator(context, inputs.tensors[worst])
    except HarnessError as error:
        context.bench.progress.say(f"{context.cell.id}: {error}")
        return None
    return found.suspect if found else None


def _query_ms(context: Context, inputs: ParityInputs) -> float | None:
    feed = feed_from_tensors(context.spec, context.cell.batch, inputs.tensors[:1])
    with contextlib.suppress(InvalidMeasurement):
        with open_session(context.cell, context.bench) as session:
            times = session.loop(feed, TIMED)
        return statistics.median(times.device_ms) if not times.problems else None
    return None
