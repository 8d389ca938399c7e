"""What changed since another release, as values; part of ``signoff.json``."""

from typing import Literal

from harness.measure.measurement import Measurement
from harness.spec import Check

Unit = Literal["%", "points"]


class Change(Measurement):
    """One number of a check now and in the other release.

    Attributes:
        id: of the check, ``model-device-bsN:check``.
        check: of the cell.
        name: of the number.
        before, after: its values, in its own unit.
        change: after less before: in points of accuracy, else in per cent of before.
        low, high: of the 95 % interval of the change; None where the noise is not known.
        unit: of the three.
        is_worse: whether the change is for the worse.
    """

    id: str
    check: Check
    name: str
    before: float
    after: float
    change: float
    low: float | None = None
    high: float | None = None
    unit: Unit
    is_worse: bool

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


class VersionChange(Measurement):
    """A version that differs between the two: of the suite, the contract, a package or a device."""

    name: str
    before: str
    after: str


class Comparison(Measurement):
    """This release beside another one.

    Attributes:
        name: of the other: the folder or file that was given.
        kind: a frozen baseline, or a release with its runs.
        digest: sha256 of its ``baseline.json`` or ``signoff.json``.
        decision: of the other release; empty for a baseline.
        changes: of every number that both have, the largest that is told apart from noise first.
        versions: that differ.
        added, gone: ids of the cells that only one of the two has run.
    """

    name: str
    kind: Literal["baseline", "release"]
    digest: str
    decision: str = ""
    changes: tuple[Change, ...] = ()
    versions: tuple[VersionChange, ...] = ()
    added: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
