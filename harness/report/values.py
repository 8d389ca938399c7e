"""What a release rests on, as values; their JSON form is ``signoff.json``.

The published schema, docs/signoff.schema.json, is made from these classes.
"""

from collections.abc import Mapping
from typing import Literal, Self

import pydantic

from harness.decide.blockers import Blocker
from harness.decide.todo import Reason
from harness.judge.verdict import Finding
from harness.measure.measurement import Measurement
from harness.measure.statistics import Interval
from harness.report.comparison_values import Comparison
from harness.report.table_values import GuideTables
from harness.spec import Check

Outcome = Literal["pass", "fail", "inconclusive", "invalid", "error", "not run", "waived"]
# A run report says what a run shows; of a release it decides nothing, and it cannot be signed as one.
RUN_REPORT: Literal["RUN REPORT"] = "RUN REPORT"
Decision = Literal["SHIP", "DO NOT SHIP", "RUN REPORT"]


class MarginLine(Finding):
    """A comparison with its limit.

    Attributes:
        interval: in the unit of the comparison, if there is one.
        estimate: what the interval is about, where a bound of it is what was compared.
    """

    interval: Interval | None = None
    estimate: float | None = None


class RunLine(Measurement):
    """One merged run.

    Attributes:
        run_id: of the run.
        tier: that was run.
        started: UTC, ISO 8601.
        command: that was typed.
        host: where it ran.
        commit: of the suite; ``unknown`` outside of a checkout.
        is_dirty: whether the checkout had changes; None if that is not known.
        thresholds: sha256 of the contract that it was judged by.
        is_over: whether it finished.
        is_bound: whether its records are bound to it.
        faults: what stands against it outside of its records, by test.
        record_count: lines of its ``records.jsonl``.
        records_sha256, facts_sha256: of ``records.jsonl`` and of ``run.json``.
        environment: facts of the machine when it began.
        environment_after: the same when it ended; empty if nobody looked.
    """

    run_id: str
    tier: str
    started: str
    command: tuple[str, ...]
    host: str
    commit: str
    is_dirty: bool | None
    thresholds: str
    is_over: bool
    is_bound: bool = False
    faults: Mapping[str, str]
    record_count: int
    records_sha256: str
    facts_sha256: str
    environment: Mapping[str, str]
    environment_after: Mapping[str, str] = {}


class CheckLine(Measurement):
    """One check of a cell.

    Attributes:
        id: ``model-device-bsN:check``.
        check: of the cell.
        run_id: the run that the record comes from; None if the check has no record.
        is_required: whether the release rests on it.
        outcome: of the check; ``waived`` where an owner has taken a red outcome upon himself.
        reason: one sentence.
        margin: distance to the nearest limit, in words; empty if nothing was compared.
        findings: every comparison with its limit.
        blockers: why it can not be signed off, whatever its outcome.
        stage: that broke, for an error.
        subjects: digests of what was judged.
        raw: digests of the raw files.
        device_facts: chip, driver and versions.
        started: UTC, ISO 8601; empty without a record.
        seconds: that the check took.
    """

    id: str
    check: Check
    run_id: str | None = None
    is_required: bool
    outcome: Outcome
    reason: str
    margin: str = ""
    findings: tuple[MarginLine, ...] = ()
    blockers: tuple[Blocker, ...] = ()
    stage: str | None = None
    subjects: Mapping[str, str] = {}
    raw: Mapping[str, str] = {}
    device_facts: Mapping[str, str] = {}
    started: str = ""
    seconds: float = 0.0


class CellLine(Measurement):
    """One cell: its checks in their order, and the command that runs it again."""

    id: str
    model: str
    device: str
    batch: int
    is_required: bool
    checks: tuple[CheckLine, ...]
    reproduce: str

    def line(self, check: Check) -> CheckLine | None:
        """Return the line of a check; None where the cell has no such check."""
        return next((line for line in self.checks if line.check == check), None)

    @property
    def has_gap(self) -> bool:
        """Whether a check that the release rests on was not run."""
        return any(line.is_required and line.outcome == "not run" for line in self.checks)


class WaiverLine(Measurement):
    """A waiver of the contract; ``problem`` says why it does not count, or is empty."""

    cell: str
    check: str
    stage: str | None
    reason: str
    issue: str
    owner: str
    expires: str
    covers: tuple[str, ...]
    problem: str = ""


class Coverage(Measurement):
    """Required cells against those of which every required check was run."""

    required_cells: int
    run_cells: int
    required_checks: int
    run_checks: int
    passed_checks: int
    waived_checks: int


class Release(Measurement):
    """The decision on a release with everything that it rests on.

    SHIP with a reason against it, with a required check that has not passed, or of nothing, cannot
    be built.

    Attributes:
        decision: SHIP or DO NOT SHIP; RUN REPORT where only what runs were asked for is judged.
        title: product and release, as a person named them.
        reasons: against shipping, what did not run first; of a run report, why it is not green, and
            what was not asked for and did not run.
        made: day of the decision, ISO 8601.
        tier: whose requirements were applied; of a run report, the tiers of its runs.
        thresholds: sha256 of the contract.
        commit: of the suite that made every run; None where they differ.
        runs: that were merged.
        coverage: required against run.
        cells: of the release and whatever else was run, cells with a gap first.
        waivers: of the contract.
        tables: of the guides.
        against: the release that it is compared with; nobody recomputes it, its digest is signed.
    """

    schema_version: Literal[1] = 1
    decision: Decision
    title: str = ""
    reasons: tuple[Reason, ...]
    made: str
    tier: str
    thresholds: str
    commit: str | None
    runs: tuple[RunLine, ...]
    coverage: Coverage
    cells: tuple[CellLine, ...]
    waivers: tuple[WaiverLine, ...] = ()
    tables: GuideTables = GuideTables()
    against: Comparison | None = None

    @pydantic.model_validator(mode="after")
    def _has_seen_what_it_ships(self) -> Self:
        if self.decision == RUN_REPORT:
            return self
        if self.decision == "DO NOT SHIP":
            if not self.reasons:
                raise ValueError("DO NOT SHIP needs a reason")
            return self
        required = [line for line in self.check_lines if line.is_required]
        is_green = all(line.outcome in ("pass", "waived") for line in required)
        if self.reasons or not is_green or not any(line.outcome == "pass" for line in required):
            raise ValueError("SHIP needs every required check passed and no reason against it")
        return self

    @property
    def text(self) -> str:
        """The text of ``signoff.json``, or of the JSON of a run report."""
        return self.model_dump_json(indent=1) + "\n"

    @property
    def check_lines(self) -> tuple[CheckLine, ...]:
        """The checks of all cells."""
        return tuple(line for cell in self.cells for line in cell.checks)
