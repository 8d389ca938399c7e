"""Which host of a farm did what when: a raw file beside the record of a check."""

from harness.measure.measurement import Measurement
from harness.record.record import Record, RunDirectory

HOSTS = "hosts"


class Stint(Measurement):
    """What a host did for a check, in seconds since 1970 on the clock of the driver.

    ``fault`` says why the host lost the work; empty if it ended it. ``part`` says which part of it this was, as
    "shard 3 of 12".
    """

    host: str
    what: str
    start_s: float
    end_s: float
    fault: str = ""
    part: str = ""


def stints_of(record: Record, run: RunDirectory) -> tuple[Stint, ...]:
    """Read the stints behind a record; none where one machine did it all.

    Raises:
        RecordError: they are missing, changed or damaged.
    """
    if HOSTS not in record.raw:
        return ()
    lines = run.read(record, HOSTS).splitlines()
    return tuple(Stint.from_json(line, f"{record.id}: raw {HOSTS}") for line in lines)
