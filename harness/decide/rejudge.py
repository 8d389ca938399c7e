"""A stored run under the contract of today."""

import datetime
from collections.abc import Collection, Sequence

from harness.contract.thresholds import Thresholds
from harness.decide.waivers import Decision, decide
from harness.errors import RecordError
from harness.judge.measurement import judge_measurement
from harness.judge.subjects import chip_problem, inputs_problem, weights_problem
from harness.judge.verdict import Verdict, invalid
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.soak import SoakMeasurement
from harness.measure.throughput import ThroughputMeasurement
from harness.record.recompute import founded_records
from harness.record.record import Record, RunDirectory, RunFacts
from harness.record.stints import stints_of
from harness.spec import Status


def rejudged(record: Record, thresholds: Thresholds) -> Record:
    """Return a record with the verdict that its measurement gets now.

    Raises:
        RecordError: the contract has no limits for its cell, or a pass would be of a device that was
            not there.
    """
    if record.measurement is None:
        return record
    if record.cell not in thresholds.cells():
        raise RecordError(f"{thresholds.path} has no limits for {record.cell.id}, which was run")
    verdict = verdict_again(record, thresholds)
    if verdict.status is Status.PASS and not record.is_device_present:
        raise RecordError(f"{record.id} would pass on a device that was not there: it was edited")
    return record.model_copy(update={"verdict": verdict})


def judged_today(
    run: RunDirectory, thresholds: Thresholds, without: Collection[str] = ()
) -> tuple[RunFacts, list[Record], Decision]:
    """Return a run as the contract, what it requires and its waivers have it today.

    Of a farm, results of the hosts ``without`` do not count, nor any check that they gave a part of.

    Raises:
        RecordError: the run cannot be read, a measurement in it does not follow from its raw files,
            or the contract has no limits for one of its cells.
        InputError: the contract has no such tier.
    """
    stored = (_thrown_out(record, run, without) for record in founded_records(run))
    records = [rejudged(record, thresholds) for record in stored]
    facts = _facts_today(run.facts(), records, thresholds)
    today = datetime.datetime.now(datetime.UTC).date()
    return facts, records, decide(records, facts, thresholds.file.waivers, today)


def _thrown_out(record: Record, run: RunDirectory, without: Collection[str]) -> Record:
    hosts = {stint.host for stint in stints_of(record, run)} | {record.host_facts.get("host", "")}
    refused = ", ".join(sorted(hosts.intersection(without)))
    if not refused:
        return record
    reason = f"results of {refused} were thrown out: run the check again without that host"
    return record.model_copy(update={"verdict": invalid(reason), "measurement": None})


def _facts_today(facts: RunFacts, records: Sequence[Record], thresholds: Thresholds) -> RunFacts:
    """Return the facts with what the contract requires now of the checks that the run was about.

    What was required then stays so, even if it was nothing. Cells that were excused, as their device
    is not there, still are.

    Raises:
        InputError: the contract has no such tier.
    """
    if not facts.required:
        return facts
    tier = thresholds.tier(facts.tier)
    excused = {name.rpartition(":")[0] for name in facts.excused}
    now = (
        record.id
        for record in records
        if record.cell.id not in excused and tier.requires(record.cell, record.check)
    )
    return facts.model_copy(update={"required": tuple(dict.fromkeys([*facts.required, *now]))})


def verdict_again(record: Record, thresholds: Thresholds) -> Verdict:
    """Judge what a record measured, as the tier of the record asks; wherever a run is judged again.

    Raises:
        InputError: nothing was measured, or the contract has no such cell or tier.
    """
    measured, tier = record.measurement, thresholds.tier(record.tier)
    if measured is None:
        raise RecordError(f"{record.id}: nothing was measured, so nothing can be judged")
    limits = thresholds.limits(record.cell)
    seen = record.subjects.get("inputs")
    problem = _foreign_weights(record, limits.weights) or inputs_problem(limits.inputs, seen)
    if problem is not None:
        return invalid(problem)
    if isinstance(measured, ThroughputMeasurement):
        problem = chip_problem(limits.throughput.chip, record.device_facts.get("chip"))
        if problem is not None:
            return invalid(problem)
    wanted = tier.clips_for(record.cell)
    if isinstance(measured, AccuracyMeasurement) and not measured.is_whole:
        count = measured.clip_count
        if wanted is None or count < wanted:
            asked = "the whole set" if wanted is None else f"{wanted} clips"
            return invalid(f"measured on {count} clips, tier {record.tier} asks for {asked}")
    asked_min = tier.soak_minutes or 0.0
    if isinstance(measured, SoakMeasurement) and measured.planned_s < 60.0 * asked_min:
        minutes = measured.planned_s / 60.0
        return invalid(f"a soak of {minutes:g} min, tier {record.tier} asks for {asked_min:g}")
    return judge_measurement(
        measured,
        limits,
        tier.inputs_for(record.cell),
        tier.timing_for(record.cell).sessions_min,
    )


def _foreign_weights(record: Record, wanted: str | None) -> str | None:
    """Say that a record rests on a checkpoint that is not the contract's, or None."""
    if record.weights != "checkpoint":
        return None
    digest = record.subjects.get("weights", "not in the record")
    return weights_problem(record.model, wanted, digest)
