"""One record a check, one line each, in a run directory that can be judged again without a device.

A run directory holds ``run.json`` (what ran, where, under which thresholds), ``records.jsonl``,
``raw/`` (predictions and latencies by digest), ``environment.json``, ``junit.xml`` and
``benchmark.json``.
"""

import datetime
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import pydantic

from harness.errors import RecordError
from harness.judge import Verdict
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.export import ExportMeasurement
from harness.measure.measurement import Measurement
from harness.measure.parity import ParityMeasurement
from harness.measure.throughput import ThroughputMeasurement
from harness.spec import Cell, Check, Status, Weights

SCHEMA_VERSION: Literal[1] = 1
RECORDS = "records.jsonl"

MEASUREMENTS: Mapping[Check, type[Measurement]] = {
    "export": ExportMeasurement,
    "parity": ParityMeasurement,
    "accuracy": AccuracyMeasurement,
    "throughput": ThroughputMeasurement,
}


class StageRecord(Measurement):
    """What a stage took: wall seconds and peak memory, and whether the store had its result."""

    name: str
    seconds: float
    peak_bytes: int
    was_cached: bool


class Record(Measurement):
    """The outcome of one check of one cell, with everything it rests on.

    A pass of nothing, or of a device that was not there, cannot be built.

    Attributes:
        model, device, batch, check: what was checked.
        verdict: its outcome.
        stage: that broke, for an error.
        measurement: what was measured, by the schema of the check; None if nothing was.
        weights: whether a checkpoint or seeded weights were used.
        subjects: sha256 of the weights, the ONNX files, the device model and the clip set.
        raw: sha256 of the files in ``raw/`` by what they are.
        stages: what was built for it.
        device_facts: chip, driver and versions.
        is_device_present: whether the device was found.
        is_emulated: whether an emulator answered in the device's place.
        signoff_blockers: why it can never be signed off; empty if it can.
        inputs_min: of the tier, which a parity verdict rests on.
        sessions_min: of the tier, which a throughput verdict rests on.
        started: UTC, ISO 8601.
        seconds: that the check took.
    """

    schema_version: Literal[1] = 1
    run_id: str
    tier: str
    model: str
    device: str
    batch: int
    check: Check
    verdict: Verdict
    stage: str | None = None
    measurement: Mapping[str, pydantic.JsonValue] | None = None
    weights: Weights | None = None
    subjects: Mapping[str, str] = {}
    raw: Mapping[str, str] = {}
    stages: tuple[StageRecord, ...] = ()
    device_facts: Mapping[str, str] = {}
    is_device_present: bool = False
    is_emulated: bool = False
    signoff_blockers: tuple[str, ...] = ()
    inputs_min: int = 0
    sessions_min: int = 0
    started: str
    seconds: float

    @pydantic.model_validator(mode="after")
    def _has_seen_its_pass(self) -> Self:
        is_seen = self.measurement is not None and self.is_device_present
        if self.verdict.status is Status.PASS and not is_seen:
            raise ValueError("a pass needs a measurement, made on a device that was there")
        return self

    @property
    def cell(self) -> Cell:
        """The cell that was checked."""
        return Cell(self.model, self.device, self.batch)

    @property
    def id(self) -> str:
        """Name of the check in reports and thresholds."""
        return f"{self.cell.id}:{self.check}"

    def measured(self) -> Measurement | None:
        """Return what was measured, by its own type.

        Raises:
            RecordError: it does not fit the schema of the check.
        """
        if self.measurement is None:
            return None
        return MEASUREMENTS[self.check].from_json(json.dumps(self.measurement), self.id)


class RunFacts(Measurement):
    """What a run was asked to do, and under which contract.

    Attributes:
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
        is_over: whether it came to its end, red or green.
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

    @property
    def started_on(self) -> datetime.date:
        """The day in UTC on which it was started, by which its waivers are reviewed."""
        return datetime.datetime.fromisoformat(self.started).date()

    @property
    def faults(self) -> Mapping[str, str]:
        """What stands against the run whatever its records say."""
        if self.is_over:
            return self.broken
        return {**self.broken, "(run)": "it was stopped, or broke, before its end"}

    @property
    def must_pass(self) -> tuple[str, ...]:
        """Ids of the checks without which the run is not green."""
        return tuple(name for name in self.required if name not in self.excused)


class RunDirectory:
    """The folder of one run. Records are appended by one process; raw files by any."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def id(self) -> str:
        """Name of the run."""
        return self.root.name

    def write_facts(self, facts: RunFacts) -> None:
        """Write ``run.json``, replacing an earlier one."""
        _write_atomically(self.root / "run.json", facts.model_dump_json(indent=1).encode())

    def append(self, record: Record) -> None:
        """Add a line to ``records.jsonl``; it is on disk when this returns."""
        with (self.root / RECORDS).open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep(self, content: bytes, suffix: str) -> str:
        """Store a raw file under its sha256, which is returned."""
        digest = hashlib.sha256(content).hexdigest()
        folder = self.root / "raw"
        folder.mkdir(parents=True, exist_ok=True)
        _write_atomically(folder / f"{digest}{suffix}", content)
        return digest

    def facts(self) -> RunFacts:
        """Read ``run.json``.

        Raises:
            RecordError: it is missing or damaged.
        """
        path = self.root / "run.json"
        return RunFacts.from_json(_read(path), path)

    def records(self) -> list[Record]:
        """Read all records and check that their raw files are there, unchanged.

        Raises:
            RecordError: a line is damaged, of another schema or of another run, a check stands
                twice, or a raw file is missing or changed.
        """
        path, run_id = self.root / RECORDS, self.facts().run_id
        found: dict[str, Record] = {}
        for number, line in enumerate(_read(path).splitlines(), start=1):
            record = _record_from_line(line, f"{path}, line {number}")
            if record.run_id != run_id:
                raise RecordError(
                    f"{path}, line {number}: {record.id} is of run {record.run_id}, not {run_id}"
                )
            if record.id in found:
                raise RecordError(f"{path}, line {number}: {record.id} stands in it twice")
            self._check_raw(record)
            found[record.id] = record
        return list(found.values())

    def _check_raw(self, record: Record) -> None:
        for what, digest in record.raw.items():
            matches = list((self.root / "raw").glob(f"{digest}.*"))
            if not matches:
                raise RecordError(f"{self.root}: {record.id}: raw {what} ({digest}) is missing")
            for path in matches:
                if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                    raise RecordError(f"{path}: changed since the run; {record.id} rests on it")


def run_folder(run_root: Path, path: Path | None = None) -> Path:
    """Return the folder of a run: ``path``, or a new one below ``run_root`` named by the time."""
    now = datetime.datetime.now(datetime.UTC)
    name = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    return (path or run_root / name).resolve()


def new_run_directory(root: Path) -> RunDirectory:
    """Make the folder of a run; of two that ask for the same one, one is refused.

    Raises:
        RecordError: it holds a run already, or cannot be made.
    """
    held = f"{root} holds a run already; name another folder, nothing was changed"
    if (root / "run.json").exists():
        raise RecordError(held)
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / RECORDS).touch(exist_ok=False)
    except FileExistsError as error:
        reason = held if root.is_dir() else f"{root} is a file, not a folder"
        raise RecordError(reason) from error
    except OSError as error:
        raise RecordError(f"cannot make the run folder {root}: {error.strerror}") from error
    return RunDirectory(root)


def _record_from_line(line: bytes, where: str) -> Record:
    try:
        version = json.loads(line).get("schema_version")
    except (ValueError, AttributeError) as error:
        raise RecordError(
            f"{where} is truncated or damaged: the run was stopped while it wrote, or the file was "
            "edited; remove that line to use the others"
        ) from error
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{where} has schema version {version}, this harness reads {SCHEMA_VERSION}: judge it "
            "with the harness that wrote it"
        )
    return Record.from_json(line, where)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordError(
            f"{path} cannot be read: {error.strerror}; is it a run folder?"
        ) from error


def _write_atomically(path: Path, content: bytes) -> None:
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    temp.write_bytes(content)
    temp.replace(path)
