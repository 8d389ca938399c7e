"""The nightly history: one SQLite file that many nights, processes and hosts share.

A run is added in one transaction, once: a second time changes nothing; another content under the
same id, or the same under another, is refused. The journal is SQLite's rollback journal, since its
write-ahead log does not work on shared file systems; a writer that is killed leaves the file as it
was. The schema is described in ``docs/nightly.md``.
"""

import contextlib
import dataclasses
import datetime
import fnmatch
import hashlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import HistoryError, first_line
from harness.host.reading import json_from_text
from harness.nightly import schema
from harness.nightly.seen import refuse_seen, stored_digest
from harness.nightly.series import (
    Point,
    Series,
    SeriesKey,
    Value,
    facts_of,
    host_class,
    series_device,
    values_from_record,
)
from harness.record.record import Record, RunDirectory, RunFacts
from harness.spec import Status

BUSY_S = 60.0
STATUSES = {str(status): status for status in Status}
# Clocks of hosts that share a history differ by less.
CLOCK_SLACK = datetime.timedelta(minutes=10)


@dataclasses.dataclass(frozen=True)
class Appended:
    """What adding a run did: whether it was new, and what there is to say about its clock."""

    is_new: bool
    note: str


@dataclasses.dataclass(frozen=True)
class Night:
    """One run of the history; ``note`` is what was odd about its clock."""

    run_id: str
    tier: str
    started: str
    host: str
    note: str


class History:
    """The nightly series in one file; it is made by the first run that is added."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, run: RunDirectory, now: datetime.datetime | None = None) -> Appended:
        """Add a run that is over; one that is there already changes nothing.

        Raises:
            RecordError: the run cannot be read.
            HistoryError: the file is damaged or foreign, or the run is not over, dated in the future,
                has an impossible value, or another run has its id or content.
        """
        facts, records = run.facts(), run.records()
        now = now or datetime.datetime.now(datetime.UTC)
        self._refuse(facts, now)
        found = [(record, _checked(record, self.path)) for record in records]
        digest = stored_digest(run)
        with self._open(to_write=True) as file:
            known = file.execute(schema.KNOWN_RUN, (facts.run_id,)).fetchone()
            if known is not None:
                self._refuse_other(run, digest, known[0])
                return Appended(is_new=False, note=known[1])
            refuse_seen(file, self.path, facts.run_id, records)
            note = _clock_note(file, facts, records)
            stamp = now.isoformat(timespec="seconds")
            row = (facts.run_id, digest, facts.tier, _utc(facts.started), stamp, facts.host, note)
            file.execute(schema.ADD_RUN, row)
            for record, values in found:
                _insert(file, record, facts.environment, values)
        return Appended(is_new=True, note=note)

    def series(self, pattern: str = "*", tier: str | None = None) -> list[Series]:
        """Return the series whose id, with or without its host class, fits a shell pattern.

        Tiers measure with different patience: ``tier`` takes the runs of one.

        Raises:
            HistoryError: the file is missing, damaged or foreign.
        """
        # By the bare columns: there are many rows.
        found: dict[tuple[Any, ...], list[Point]] = {}
        with self._open() as file, self._damage_is_named():
            facts = {number: _facts(text) for number, text in file.execute(schema.ALL_FACTS)}
            rows = file.execute(schema.POINTS, (tier, tier))
            for *key, run_id, started, value, status, facts_id in rows:
                point = Point(run_id, started, value, STATUSES[status], facts[facts_id])
                found.setdefault(tuple(key), []).append(point)
        keys = {SeriesKey(*key): points for key, points in found.items()}
        fits = sorted(key for key in keys if _fits(key.id, pattern))
        return [Series(key, tuple(keys[key])) for key in fits]

    def nights(self, tier: str | None = None) -> list[Night]:
        """Return the runs, oldest first.

        Raises:
            HistoryError: the file is missing, damaged or foreign.
        """
        with self._open() as file:
            return [Night(*row) for row in file.execute(schema.NIGHTS, (tier, tier))]

    def _refuse(self, facts: RunFacts, now: datetime.datetime) -> None:
        if not facts.is_over:
            raise HistoryError(
                f"{self.path} takes no run that is not over: {facts.run_id} was stopped, or still "
                "runs; it stays a missing night"
            )
        if datetime.datetime.fromisoformat(_utc(facts.started)) > now + CLOCK_SLACK:
            raise HistoryError(
                f"{self.path}: run {facts.run_id} started at {facts.started}, which is in the "
                f"future of this clock ({now.isoformat(timespec='seconds')}): it would be the "
                "last night for ever; set the clock that is wrong, and run again"
            )

    def _refuse_other(self, run: RunDirectory, digest: str, known: str) -> None:
        if digest != known:
            raise HistoryError(
                f"{self.path} has a run {run.id} already, with another content (sha256 "
                f"{known[:12]}, that of {run.root} is {digest[:12]}): one of the two was edited, "
                "or two runs were given one name; nothing was changed"
            )

    @contextlib.contextmanager
    def _damage_is_named(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError) as error:
            raise HistoryError(
                f"the history {self.path} is damaged: {first_line(error)}"
            ) from error

    @contextlib.contextmanager
    def _open(self, *, to_write: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the file, in one transaction that ends with the block."""
        if not self.path.is_file() and not to_write:
            raise HistoryError(f"there is no history {self.path}; `harness history add` makes one")
        if self.path.exists() and not self.path.is_file():
            raise HistoryError(f"{self.path} is not a plain file; name another one")
        try:
            file = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
            with contextlib.closing(file):
                file.execute("BEGIN IMMEDIATE" if to_write else "BEGIN")
                schema.recognise(file, self.path, to_write)
                yield file
                file.execute("COMMIT")
        # A name in its schema that is not UTF-8 is an error of Python's, not of SQLite's.
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise HistoryError(
                f"the history {self.path} cannot be used: {error}; if it is damaged, restore a "
                "copy, or move it away and add the stored runs again: harness history add RUN..."
            ) from error


def _facts(text: str) -> dict[str, Any]:
    found = json_from_text(text)
    if not isinstance(found, dict):
        raise ValueError(f"the facts {text[:40]!r} are not an object")  # noqa: TRY004
    return found


def _fits(name: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for text in (name, name.partition("@")[0]))


def _utc(text: str) -> str:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise HistoryError(f"the start of the run, {text!r}, is not an ISO 8601 time") from error
    if moment.tzinfo is None:
        raise HistoryError(f"the start of the run, {text!r}, has no time zone")
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds")


def _checked(record: Record, path: Path) -> list[Value]:
    """Return the values of a record; a speed is above zero, an error or a share not below."""
    values = values_from_record(record)
    for value in values:
        is_possible = value.value > 0.0 if record.check == "throughput" else value.value >= 0.0
        if not (is_possible and math.isfinite(value.value)):
            raise HistoryError(
                f"{path} takes no {record.id} with {value.metric} = {value.value:g}; judge the run "
                "again: harness judge"
            )
    return values


def _clock_note(file: sqlite3.Connection, facts: RunFacts, records: list[Record]) -> str:
    """Say that a clock went backwards: within the run, or since one that was added before."""
    started = _utc(facts.started)
    early = [record.id for record in records if _utc(record.started) < started]
    if early:
        return f"the clock went backwards during the run: {early[0]} started before the run did"
    newer = file.execute(schema.NEWER_RUN, (facts.host, started)).fetchone()
    if newer is None:
        return ""
    return (
        f"started before {newer[0]}, which {facts.host} added first: an older run was added late, or the "
        "clock went backwards; the series are in the order of the starts"
    )


def _insert(
    file: sqlite3.Connection, record: Record, environment: Mapping[str, str], values: list[Value]
) -> None:
    text = json.dumps(facts_of(record, environment), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    file.execute(schema.ADD_FACTS, (digest, text))
    (facts_id,) = file.execute(schema.FACTS_ID, (digest,)).fetchone()
    cell = (record.run_id, record.model, series_device(record), record.batch, record.check)
    outcome = (str(record.verdict.status), record.verdict.reason, record.weights)
    row = (*cell, host_class(record, environment), *outcome, int(record.is_emulated), facts_id)
    check_id = file.execute(schema.ADD_CHECK, row).lastrowid
    rows = [(check_id, *dataclasses.astuple(value)) for value in values]
    file.executemany(schema.ADD_METRIC, rows)
