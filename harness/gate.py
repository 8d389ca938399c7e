"""The decision: which problems a set of records leaves open, and the exit status that says so."""

import dataclasses
from collections.abc import Collection, Sequence
from enum import IntEnum

from harness.records import Record
from harness.spec import Status


class ExitStatus(IntEnum):
    """Exit statuses beyond pytest's own 0 to 5; only 0 is green."""

    PASSED = 0
    FAILED = 1
    INCOMPLETE = 6
    INCONCLUSIVE = 7


RED = frozenset({Status.FAIL, Status.INVALID, Status.ERROR})


@dataclasses.dataclass(frozen=True)
class Problem:
    """One reason not to be green; ``id`` names the check."""

    id: str
    status: Status
    reason: str


def problems(records: Sequence[Record], required: Collection[str]) -> list[Problem]:
    """List what is not green: required checks that did not run first, then what is red.

    Args:
        records: what ran.
        required: ids of the checks that must have passed. None at all is a problem: a gate that
            asks for nothing has seen nothing.
    """
    by_id = {record.id: record for record in records}
    if not required:
        return [Problem("(nothing)", Status.NOT_RUN, "no check was required, so nothing was shown")]
    missing = [
        Problem(name, Status.NOT_RUN, "required, but it was not collected or was deselected")
        for name in required
        if name not in by_id
    ]
    found = [
        Problem(record.id, record.verdict.status, record.verdict.reason)
        for record in records
        if record.verdict.status in RED
        or record.verdict.status is Status.INCONCLUSIVE
        or (record.verdict.status is Status.NOT_RUN and record.id in required)
    ]
    order = [Status.NOT_RUN, Status.ERROR, Status.INVALID, Status.FAIL, Status.INCONCLUSIVE]
    return sorted(missing + found, key=lambda problem: order.index(problem.status))


def exit_status(found: Sequence[Problem]) -> ExitStatus:
    """Reduce problems to one status: red before incomplete before inconclusive."""
    statuses = {problem.status for problem in found}
    if statuses & RED:
        return ExitStatus.FAILED
    if Status.NOT_RUN in statuses:
        return ExitStatus.INCOMPLETE
    return ExitStatus.INCONCLUSIVE if statuses else ExitStatus.PASSED
