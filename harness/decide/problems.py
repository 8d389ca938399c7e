"""The decision: which problems a set of records leaves open, and the exit status that says so."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType

from harness.record.record import Record
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


def problems(
    records: Sequence[Record],
    required: Collection[str],
    broken: Mapping[str, str] = MappingProxyType({}),
    waived: Collection[str] = (),
) -> list[Problem]:
    """List what is not green: required checks that did not run first, then what is red.

    Args:
        records: what ran.
        required: ids of the checks that must have passed. None at all is a problem: a gate that
            asks for nothing has seen nothing.
        broken: what went wrong outside of the records, with the reason.
        waived: ids of the records whose own outcome is a known failure, as ``waivers.review`` says.
            One that is missing, repeated or broken outside of its record stays a problem.
    """
    found = [
        *_missing(records, required),
        *(Problem(name, Status.ERROR, reason) for name, reason in broken.items()),
        *_repeated(records),
        *(
            Problem(record.id, record.verdict.status, record.verdict.reason)
            for record in records
            if (record.verdict.status in {*RED, Status.INCONCLUSIVE} and record.id not in waived)
            or (record.verdict.status is Status.NOT_RUN and record.id in required)
        ),
        *_nothing_but_waivers(records, waived),
    ]
    return in_order(found)


def in_order(found: Iterable[Problem]) -> list[Problem]:
    """Sort problems: what did not run first, then what is red, then what is open."""
    order = [Status.NOT_RUN, Status.ERROR, Status.INVALID, Status.FAIL, Status.INCONCLUSIVE]
    return sorted(found, key=lambda problem: order.index(problem.status))


def left_out(records: Sequence[Record], required: Collection[str]) -> list[Problem]:
    """List what did not run and need not have; it is shown, and turns nothing red."""
    return [
        Problem(record.id, Status.NOT_RUN, record.verdict.reason)
        for record in records
        if record.verdict.status is Status.NOT_RUN and record.id not in required
    ]


def _missing(records: Sequence[Record], required: Collection[str]) -> Iterator[Problem]:
    if not required:
        reason = "no check was required, so nothing was shown"
        yield Problem("(nothing)", Status.NOT_RUN, reason)
    seen = {record.id for record in records}
    for name in required:
        if name not in seen:
            reason = "required, but it was not collected or was deselected"
            yield Problem(name, Status.NOT_RUN, reason)


def _nothing_but_waivers(records: Sequence[Record], waived: Collection[str]) -> Iterator[Problem]:
    if waived and not any(record.verdict.status is Status.PASS for record in records):
        reason = "every check that ran is waived, so nothing was shown"
        yield Problem("(nothing)", Status.NOT_RUN, reason)


def _repeated(records: Sequence[Record]) -> Iterator[Problem]:
    for name, count in Counter(record.id for record in records).items():
        if count > 1:
            reason = f"was run {count} times; re-running a check until it passes does not count"
            yield Problem(name, Status.ERROR, reason)


def exit_status(found: Sequence[Problem]) -> ExitStatus:
    """Reduce problems to one status: red before incomplete before inconclusive."""
    statuses = {problem.status for problem in found}
    if statuses & RED:
        return ExitStatus.FAILED
    if Status.NOT_RUN in statuses:
        return ExitStatus.INCOMPLETE
    return ExitStatus.INCONCLUSIVE if statuses else ExitStatus.PASSED
