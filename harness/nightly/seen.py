"""What the history has seen: the digest of what a run measured, so that none comes back as another."""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HistoryError
from harness.host.digests import digest_from_json
from harness.host.reading import bytes_from_file
from harness.record.facts import FACTS
from harness.record.record import RECORDS, Record, RunDirectory

TABLE = "CREATE TABLE IF NOT EXISTS contents (digest TEXT PRIMARY KEY, run_id TEXT NOT NULL) STRICT"
_KNOWN = "SELECT run_id FROM contents WHERE digest = ?"
_ADD = "INSERT OR REPLACE INTO contents VALUES (?, ?)"
# What an old run gets anew where somebody passes it off as another one.
_NAMES = {"run_id", "started", "binding", "raw"}


def stored_digest(run: RunDirectory) -> str:
    """Return the sha256 of what is judged: raw files are named in the records by theirs."""
    parts = [bytes_from_file(run.root / name) for name in (FACTS, RECORDS)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def refuse_seen(
    file: sqlite3.Connection, path: Path, run_id: str, records: Sequence[Record]
) -> None:
    """Remember what a run measured, and how long each check took, to all digits.

    Raises:
        HistoryError: a run of another id has measured the very same.
    """
    if not any(record.measurement is not None for record in records):
        return
    content = sorted((record.id, record.model_dump_json(exclude=_NAMES)) for record in records)
    digest = digest_from_json(content)
    file.execute(TABLE)
    known = file.execute(_KNOWN, (digest,)).fetchone()
    if known is not None and known[0] != run_id:
        raise HistoryError(
            f"{path} has the content of run {run_id} already, as run {known[0]}: the same numbers "
            "and durations to the last digit; it is that run under another name, and not added"
        )
    file.execute(_ADD, (digest, run_id))
