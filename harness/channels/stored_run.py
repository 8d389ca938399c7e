"""A stored run as the channels show it: its records, and what they come to at the gate."""

import dataclasses
from pathlib import Path

from harness.contract.thresholds import Thresholds, stored_thresholds
from harness.decide.summary import reasons_of_run
from harness.decide.todo import ToDo, todos
from harness.decide.waivers import Decision, decide
from harness.decide.wording import run_headline, shown_by
from harness.record.recompute import founded_records
from harness.record.record import Record, RunDirectory, RunFacts


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A stored run under the contract that it was judged by."""

    facts: RunFacts
    records: tuple[Record, ...]
    thresholds: Thresholds
    decision: Decision

    def outcome(self, record: Record) -> str:
        """Return the outcome of a check; a waived one counts neither as passed nor as failed."""
        return "waived" if record.id in self.decision.waived else str(record.verdict.status)

    @property
    def todos(self) -> tuple[ToDo, ...]:
        """What a person must do before it is green."""
        return todos(reasons_of_run(self.records, self.decision, self.facts))

    @property
    def headline(self) -> str:
        """What it shows, in the words of its page and of the terminal."""
        shown = shown_by(self.records, self.facts.must_pass, self.decision.waived)
        return run_headline(self.todos, shown)

    def by_cell(self) -> dict[str, list[Record]]:
        """Return the records of each cell by its id, in the order of the run."""
        cells: dict[str, list[Record]] = {}
        for record in self.records:
            cells.setdefault(record.cell.id, []).append(record)
        return cells


def stored_run(root: Path) -> StoredRun:
    """Read a run folder.

    Raises:
        RecordError: it is not a run folder, or is damaged.
        ThresholdsError: its thresholds are damaged.
    """
    run = RunDirectory(root)
    facts, records = run.facts(), tuple(founded_records(run))
    thresholds = stored_thresholds(root / "thresholds.toml")
    decision = decide(records, facts, thresholds.file.waivers, facts.started_on)
    return StoredRun(facts, records, thresholds, decision)
