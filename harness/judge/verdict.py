"""A verdict and the findings it rests on: comparisons of one number with one limit."""

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Self

import pydantic

from harness.measure.measurement import Measurement
from harness.measure.statistics import Interval
from harness.spec import Status

LISTED = 3

Comparison = Literal[">=", "<=", "<"]
COMPARE: Mapping[Comparison, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
}


class Finding(Measurement):
    """One comparison of a number with a limit.

    Attributes:
        name: of the number.
        measured: the number; None where it is undefined, which meets no limit.
        limit: that it was compared with.
        comparison: that must hold.
        unit: of both.
        is_met: whether it holds; None where the interval does not decide.
        note: what else to know about it.
        contract_limit: what the contract says, where ``limit`` allows for chance.
    """

    name: str
    measured: float | None
    limit: float
    # Of the number, where it is an estimate over sessions.
    bounds: Interval | None = None
    comparison: Comparison
    unit: str
    is_met: bool | None
    note: str = ""
    contract_limit: float | None = None

    @property
    def text(self) -> str:
        """The comparison in words, for a reason."""
        measured = "undefined" if self.measured is None else f"{self.measured:.6g}"
        unit = f" {self.unit}" if self.unit else ""
        stated = "" if self.contract_limit is None else f" (contract: {self.contract_limit:.6g})"
        return (
            f"{self.name} is {measured}{unit}, must be {self.comparison} {self.limit:.6g}{stated}"
        )

    @property
    def noted(self) -> str:
        """The comparison in words, and the note in brackets."""
        return f"{self.text} ({self.note})" if self.note else self.text


class Verdict(Measurement):
    """The outcome of a check, one sentence that says why, and every comparison made.

    A pass needs at least one finding, and every finding met.
    """

    status: Status
    reason: str
    findings: tuple[Finding, ...] = ()

    @pydantic.model_validator(mode="after")
    def _has_seen_its_pass(self) -> Self:
        is_seen = bool(self.findings) and all(finding.is_met is True for finding in self.findings)
        if self.status is Status.PASS and not is_seen:
            raise ValueError("a pass needs findings, every one of them met")
        return self


def _compare(
    comparison: Comparison,
    name: str,
    measured: float | None,
    limit: float,
    unit: str = "",
    note: str = "",
) -> Finding:
    """Compare a number with a limit; an undefined or infinite one does not meet it."""
    known = measured if measured is not None and math.isfinite(measured) else None
    return Finding(
        name=name,
        measured=known,
        limit=limit,
        comparison=comparison,
        unit=unit,
        is_met=known is not None and COMPARE[comparison](known, limit),
        note=note,
    )


at_least = functools.partial(_compare, ">=")
at_most = functools.partial(_compare, "<=")
below = functools.partial(_compare, "<")


def undecided(finding: Finding) -> Finding:
    """Return the finding as one that the interval does not decide."""
    return finding.model_copy(update={"is_met": None})


def fail(reason: str, findings: tuple[Finding, ...] = ()) -> Verdict:
    """Say that the contract is broken."""
    return Verdict(status=Status.FAIL, reason=reason, findings=findings)


def invalid(reason: str, findings: tuple[Finding, ...] = ()) -> Verdict:
    """Say that the measurement does not count."""
    return Verdict(status=Status.INVALID, reason=reason, findings=findings)


def inconclusive(reason: str, findings: tuple[Finding, ...] = ()) -> Verdict:
    """Say that the interval straddles the limit."""
    return Verdict(status=Status.INCONCLUSIVE, reason=reason, findings=findings)


def passed(reason: str, findings: tuple[Finding, ...]) -> Verdict:
    """Say that every finding is met.

    Raises:
        ValueError: the findings are empty, or one of them is not met.
    """
    return Verdict(status=Status.PASS, reason=reason, findings=findings)


def listed(names: Sequence[str], separator: str = "; ") -> str:
    """Join the first three names and say how many more there are."""
    first, more = separator.join(names[:LISTED]), len(names) - LISTED
    return f"{first} and {more} more" if more > 0 else first


def unjudged(check: str) -> str:
    """Say that something was measured for which the contract has no limit."""
    return f"measured, not judged: the contract has no {check} limits for this cell"


def verdict_of(findings: Sequence[Finding], what: str) -> Verdict:
    """Reduce findings: broken before not taken before undecided; ``what`` begins the reason of a pass."""
    found = tuple(findings)
    broken = [one.text for one in found if one.is_met is False and one.measured is not None]
    if broken:
        return fail(listed(broken), found)
    missing = [one.name for one in found if one.measured is None]
    if missing:
        return invalid(f"the contract limits what was not taken: {listed(missing)}", found)
    open_ones = [one.noted for one in found if one.is_met is None]
    if open_ones:
        return inconclusive(f"not decided: {listed(open_ones)}", found)
    return passed(f"{what}: {listed([one.text for one in found])}", found)
