"""What a run was asked to do, where, and under which contract: its ``run.json``."""

import datetime
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic

from harness.errors import RecordError
from harness.host.digests import digest_from_json
from harness.host.suite_code import UNKNOWN
from harness.language import later
from harness.measure.measurement import Measurement

FACTS = "run.json"
# What run.json learns when a run is over; all else stands from the start and binds the records.
LATE = frozenset({"environment_after", "excused", "broken", "is_over", "closing"})


class RunFacts(Measurement):
    """What a run was asked to do, and under which contract.

    Attributes:
        run_id: of the run.
        tier: that was run.
        started: UTC, ISO 8601.
        command: that was typed.
        sessions, budget_minutes: which timing could use of each cell beyond the tier's; 0: none.
        thresholds_digest: sha256 of the contract.
        environment: the facts of the machine.
        environment_after: the same once the run is over; empty before.
        required: ids of the checks that had to pass.
        excused: those of them that need not, as their device is absent and nobody named it; known
            when the run is over.
        broken: what went wrong outside of the records, by test; known when the run is over.
        is_over: whether it finished, red or green.
        nonce: made up when the run started, in hexadecimal: it tells this run's raw files and records
            from those of any other run. Empty in runs of suites that did not bind their records.
        binds_its_end: whether a run that is over has a ``closing``; not in runs of earlier suites.
        closing: digest of all of the above and of the records, once the run is over.
    """

    schema_version: Literal[1] = 1
    run_id: str
    tier: str
    started: str
    command: tuple[str, ...]
    sessions: int = 0
    budget_minutes: float = 0.0
    thresholds_digest: str
    environment: Mapping[str, str]
    environment_after: Mapping[str, str] = {}
    required: tuple[str, ...] = ()
    excused: tuple[str, ...] = ()
    broken: Mapping[str, str] = {}
    is_over: bool = False
    nonce: Annotated[str, pydantic.Field(pattern="^([0-9a-f]{2})*$")] = ""
    binds_its_end: bool = False
    closing: str = ""

    @property
    def started_on(self) -> datetime.date:
        """The day in UTC on which it was started, by which its waivers are reviewed.

        Raises:
            RecordError: ``started`` is not a time.
        """
        try:
            return datetime.datetime.fromisoformat(self.started).date()
        except ValueError as error:
            raise RecordError(
                f"{FACTS} of {self.run_id} says that it started at {self.started!r}, which is not an "
                "ISO 8601 time"
            ) from error

    @property
    def host(self) -> str:
        """The name of the machine."""
        return self.environment.get("host", UNKNOWN)

    @property
    def faults(self) -> Mapping[str, str]:
        """What stands against the run whatever its records say."""
        if self.is_over:
            return self.broken
        return {**self.broken, "(run)": later("it was stopped or broke before it finished")}

    @property
    def must_pass(self) -> tuple[str, ...]:
        """Ids of the checks without which the run is not green."""
        return tuple(name for name in self.required if name not in self.excused)


def binding_of(facts: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Return the digest of a record and its run, both as they are stored."""
    run = {name: value for name, value in facts.items() if name not in LATE}
    content = {name: value for name, value in record.items() if name != "binding"}
    return digest_from_json({"run": run, "record": content})


def closing_of(facts: Mapping[str, Any], bindings: Sequence[str]) -> str:
    """Return the digest of all facts of a run that is over and of the bindings of its records."""
    run = {name: value for name, value in facts.items() if name != "closing"}
    return digest_from_json({"run": run, "records": bindings})


def new_nonce() -> str:
    """Return what tells a run from any other."""
    return secrets.token_hex(16)
