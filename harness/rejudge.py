"""A stored record under the limits of today."""

from harness.checks import rejudge
from harness.errors import RecordError
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
    limits, tier = thresholds.limits(record.cell), thresholds.tier(record.tier)
    inputs_min = tier.inputs_for(record.cell)
    sessions_min = tier.timing_for(record.cell).sessions_min
    verdict = rejudge(measured, limits, inputs_min, sessions_min)
    return record.model_copy(update={"verdict": verdict})
