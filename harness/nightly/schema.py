"""The tables of the history file, what is asked of them, and what tells it from any other SQLite file."""

import sqlite3
from pathlib import Path

from harness.errors import HistoryError
from harness.nightly.seen import TABLE

# "AVHN" in ASCII: tells this file from any other SQLite file.
APPLICATION_ID = 0x4156484E
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE runs (
  run_id TEXT PRIMARY KEY, digest TEXT NOT NULL, tier TEXT NOT NULL, started TEXT NOT NULL,
  appended TEXT NOT NULL, host TEXT NOT NULL, note TEXT NOT NULL
) STRICT;
CREATE TABLE facts (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, json TEXT NOT NULL) STRICT;
CREATE TABLE checks (
  id INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs, model TEXT NOT NULL,
  device TEXT NOT NULL, batch INTEGER NOT NULL CHECK (batch > 0), check_name TEXT NOT NULL,
  host_class TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, weights TEXT,
  is_emulated INTEGER NOT NULL, facts_id INTEGER NOT NULL REFERENCES facts,
  UNIQUE (run_id, model, device, batch, check_name)
) STRICT;
CREATE TABLE metrics (
  check_id INTEGER NOT NULL REFERENCES checks, metric TEXT NOT NULL,
  value REAL NOT NULL CHECK (abs(value) < 9e999), low REAL, high REAL,
  PRIMARY KEY (check_id, metric)
) STRICT, WITHOUT ROWID;
"""
KNOWN_RUN = "SELECT digest, note FROM runs WHERE run_id = ?"
NEWER_RUN = "SELECT run_id FROM runs WHERE host = ? AND started > ? ORDER BY started DESC LIMIT 1"
NIGHTS = """
SELECT run_id, tier, started, host, note FROM runs WHERE ? IS NULL OR tier = ?
ORDER BY started, run_id
"""
POINTS = """
SELECT model, device, batch, check_name, metric, host_class, runs.run_id, started, value, status, facts_id
FROM metrics JOIN checks ON checks.id = check_id JOIN runs USING (run_id)
WHERE ? IS NULL OR tier = ? ORDER BY started, run_id
"""
ALL_FACTS = "SELECT id, json FROM facts"
FACTS_ID = "SELECT id FROM facts WHERE digest = ?"
ADD_RUN = "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)"
ADD_FACTS = "INSERT OR IGNORE INTO facts (digest, json) VALUES (?, ?)"
ADD_CHECK = """
INSERT INTO checks (run_id, model, device, batch, check_name, host_class, status, reason, weights, is_emulated,
facts_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
ADD_METRIC = "INSERT INTO metrics VALUES (?, ?, ?, ?, ?)"
STATEMENTS = {*map(str.strip, SCHEMA.split(";\n")), TABLE.replace("IF NOT EXISTS ", "")} - {""}
# Asked of any file, so of no table or function that its maker could give another meaning.
_HEAD = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
_MADE = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
_CHECK = "PRAGMA quick_check(1)"


def recognise(file: sqlite3.Connection, path: Path, to_write: bool) -> None:
    """Make sure that this is a history of this schema; an empty file becomes one.

    Raises:
        HistoryError: it is something else, or of another schema.
        sqlite3.Error: it is damaged.
    """
    application, version, tables = (file.execute(query).fetchone()[0] for query in _HEAD)
    if (application, version, tables) == (0, 0, 0) and to_write:
        for statement in SCHEMA.split(";\n"):
            file.execute(statement)
        file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        file.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return
    if application != APPLICATION_ID:
        raise HistoryError(
            f"{path} is a database of something else, or empty; nothing was changed: "
            "name another file"
        )
    if version != SCHEMA_VERSION:
        raise HistoryError(
            f"{path} has schema version {version}, this harness reads {SCHEMA_VERSION}: "
            "use the harness that wrote it, or add the stored runs to a new file"
        )
    # A view or a trigger in a file of another's making would run as part of our queries.
    if not {sql for (sql,) in file.execute(_MADE)} <= STATEMENTS:
        raise HistoryError(f"{path} has tables that no harness writes; restore a copy")
    (state,) = file.execute(_CHECK).fetchone()
    if state != "ok":
        raise sqlite3.DatabaseError(state)
