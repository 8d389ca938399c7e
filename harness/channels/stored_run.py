"""A run as it is told to others: its records, and what they come to at the gate."""

import dataclasses
from pathlib import Path

from harness.contract.thresholds import Thresholds, stored_thresholds
from harness.decide.waivers import Decision, decide
from harness.record.recompute import founded_records
from harness.record.record import Record, RunDirectory, RunFacts


@dataclasses.dataclass(frozen=True)
class ToldRun:
    """A stored run under the contract that it was judged by."""

    facts: RunFacts
    records: tuple[Record, ...]
    thresholds: Thresholds
    decision: Decision

    def outcome(self, record: Record) -> str:
        """Return the outcome of a check; what is waived is no pass and no failure."""
        return "waived" if record.id in self.decision.waived else str(record.verdict.status)


def told_run(root: Path) -> ToldRun:
    """Read a run folder.

    Raises:
        RecordError: it is none, or damaged.
        ThresholdsError: its thresholds are.
    """
    run = RunDirectory(root)
    facts, records = run.facts(), tuple(founded_records(run))
    thresholds = stored_thresholds(root / "thresholds.toml")
    decision = decide(records, facts, thresholds.file.waivers, facts.started_on)
    return ToldRun(facts, records, thresholds, decision)
