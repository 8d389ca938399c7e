"""A new run: its folder, what it is asked to do, and a copy of its contract."""

import datetime
import secrets
import sys
from pathlib import Path

from harness.contract.thresholds import Thresholds
from harness.errors import RecordError, printable
from harness.host.environment import environment_facts
from harness.record.facts import RunFacts, new_nonce
from harness.record.raw import write_atomically, writing
from harness.record.record import RECORDS, RunDirectory, new_run_directory

CONTRACT = "thresholds.toml"


def run_folder(run_root: Path, path: Path | None = None) -> Path:
    """Return the folder of a run: ``path``, or a new one below ``run_root`` named by the time."""
    now = datetime.datetime.now(datetime.UTC)
    name = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    return (path or run_root / name).resolve()


def begun_run(
    root: Path,
    thresholds: Thresholds,
    tier: str,
    required: tuple[str, ...],
    more_timing: tuple[int, float] = (0, 0.0),
) -> RunDirectory:
    """Make the folder of a run that starts now; ``required`` are the ids of the checks that must pass.

    ``more_timing``: sessions and minutes that a timing may use beyond the tier's.

    Raises:
        RecordError: the folder holds a run already, cannot be made or written, or has a name that is not text.
    """
    try:
        root.name.encode()
    except UnicodeEncodeError as error:
        raise RecordError(
            f"{str(root)!a}: the name of a run must be UTF-8, in a locale that has its characters: name "
            "another folder, or set LC_ALL=C.UTF-8"
        ) from error
    run = new_run_directory(root)
    facts = RunFacts(
        run_id=run.id,
        tier=tier,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=tuple(map(printable, sys.argv)),
        sessions=more_timing[0],
        budget_minutes=more_timing[1],
        thresholds_digest=thresholds.digest,
        environment=environment_facts(thresholds.path),
        required=required,
        nonce=new_nonce(),
        binds_its_end=True,
    )
    try:
        with writing(path := run.root / CONTRACT):
            write_atomically(path, thresholds.path.read_bytes())
        run.write_facts(facts)
    except RecordError:
        # Nothing ran: a start that can be made good is not refused because of this one.
        for name in (CONTRACT, RECORDS):
            (run.root / name).unlink(missing_ok=True)
        raise
    return run
