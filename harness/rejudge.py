"""A stored record under the limits of today."""

from harness.checks import rejudge
from harness.errors import RecordError
from harness.judge import Verdict
from harness.measurement import Measurement
from harness.records import Record
from harness.thresholds import Thresholds


def rejudged(record: Record, thresholds: Thresholds) -> Record:
    """Return a record with the verdict that its measurement gets now.

    Raises:
        RecordError: the contract has no limits for its cell.
    """
    measured = record.measured()
    if measured is None:
        return record
    if record.cell not in thresholds.cells():
        raise RecordError(f"{thresholds.path} has no limits for {record.cell.id}, which was run")
    return record.model_copy(update={"verdict": verdict_on(record, measured, thresholds)})


def verdict_on(record: Record, measurement: Measurement, thresholds: Thresholds) -> Verdict:
    """Judge a measurement of the cell of a record as the tier of the record asks.

    Raises:
        InputError: the contract has no such cell or tier.
    """
    tier = thresholds.tier(record.tier)
    return rejudge(
        measurement,
        thresholds.limits(record.cell),
        tier.inputs_for(record.cell),
        tier.timing_for(record.cell).sessions_min,
    )
