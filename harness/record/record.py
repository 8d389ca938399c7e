"""One record a check, one line each, in a run folder that can be judged again without a device.

A run folder holds ``run.json`` (what ran, where, under which thresholds), ``records.jsonl``,
``thresholds.toml``, ``raw/`` (predictions and latencies by digest), ``junit.xml`` and
``benchmark.json``.

A record is bound to its run: ``binding`` is one digest of the record, of the digests of its raw
files, and of what ``run.json`` says from the start: id, nonce, start, host, suite commit, contract.
At its end the run gets a ``closing``, one digest of all that ``run.json`` then says and of the bindings. Neither has
a secret: they find what was edited, taken away or moved; only a signature shows that nobody made up a whole run.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic

from harness.errors import RecordError, is_plain_name
from harness.host.reading import bytes_from_file, json_from_text
from harness.judge.verdict import Verdict
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.export import ExportMeasurement
from harness.measure.measurement import Measurement
from harness.measure.parity import ParityMeasurement
from harness.measure.soak import SoakMeasurement
from harness.measure.startup import StartupMeasurement
from harness.measure.throughput import ThroughputMeasurement
from harness.record.facts import FACTS, RunFacts, binding_of, closing_of, new_nonce
from harness.record.lines import tagged, values_from_line
from harness.record.raw import RawFiles, append_whole, write_atomically, writing
from harness.spec import Cell, Check, Status, Weights

__all__ = ["Record", "RunDirectory", "RunFacts", "new_nonce", "new_run_directory"]

RECORDS = "records.jsonl"

CheckMeasurement = Annotated[
    ExportMeasurement
    | ParityMeasurement
    | AccuracyMeasurement
    | ThroughputMeasurement
    | StartupMeasurement
    | SoakMeasurement,
    pydantic.Field(discriminator="kind"),
]


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
        model, device, batch, precision, check: what was checked.
        verdict: its outcome.
        stage: that broke, for an error.
        measurement: what was measured; None if nothing was.
        weights: whether a checkpoint or seeded weights were used.
        subjects: sha256 of the weights, the ONNX files, the device model, the clip set and the known
            answers of inputs.
        inputs: with what the model's inputs were compared; empty if they were not.
        raw: sha256 of the files in ``raw/`` by what they are.
        stages: what was built for it.
        device_facts: chip, driver and versions; ``host_facts``: of the host of a farm that measured it.
        is_device_present: whether the device was found.
        is_emulated: whether an emulator answered in the device's place.
        signoff_blockers: why it can never be signed off; empty if it can.
        inputs_min, sessions_min: of the tier, which a parity or throughput verdict rests on.
        started: UTC, ISO 8601.
        seconds: that the check took.
        binding: digest of the record and its run; empty before it is stored, and in records of
            suites that did not bind them.
    """

    schema_version: Literal[1] = 1
    run_id: str
    tier: str
    model: str
    device: str
    batch: int
    precision: str = ""
    check: Check
    verdict: Verdict
    stage: str | None = None
    measurement: CheckMeasurement | None = None
    weights: Weights | None = None
    subjects: Mapping[str, str] = {}
    inputs: str = ""
    raw: Mapping[str, str] = {}
    stages: tuple[StageRecord, ...] = ()
    device_facts: Mapping[str, str] = {}
    host_facts: Mapping[str, str] = {}
    is_device_present: bool = False
    is_emulated: bool = False
    signoff_blockers: tuple[str, ...] = ()
    inputs_min: int = 0
    sessions_min: int = 0
    started: str
    seconds: float
    binding: str = ""

    @pydantic.field_validator("run_id", "tier", "model", "device")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        if not is_plain_name(name):
            raise ValueError(f"{name!r} has a control character")
        return name

    @pydantic.model_validator(mode="after")
    def _has_seen_its_pass(self) -> Self:
        if self.measurement is not None and self.measurement.kind != self.check:
            raise ValueError(f"a measurement of {self.measurement.kind} in a {self.check} check")
        is_seen = self.measurement is not None and self.is_device_present
        if self.verdict.status is Status.PASS and not is_seen:
            raise ValueError("a pass needs a measurement, made on a device that was there")
        return self

    @property
    def cell(self) -> Cell:
        """The cell that was checked."""
        return Cell(self.model, self.device, self.batch, self.precision)

    @property
    def id(self) -> str:
        """Name of the check in reports and thresholds."""
        return f"{self.cell.id}:{self.check}"


class RunDirectory:
    """The folder of one run. Records are appended by one process; raw files by any."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def id(self) -> str:
        """Name of the run."""
        return self.root.name

    @functools.cached_property
    def raw(self) -> RawFiles:
        """The raw files of the run, whose nonce stands from its start."""
        return RawFiles(self.root / "raw", self.facts().nonce)

    def write_facts(self, facts: RunFacts) -> None:
        """Write ``run.json``, replacing an earlier one.

        Raises:
            RecordError: it cannot be written; an earlier one stays.
        """
        with writing(path := self.root / FACTS):
            write_atomically(path, facts.model_dump_json(indent=1).encode())

    def close(self, facts: RunFacts) -> None:
        """Write ``run.json`` for the last time: bound to the records, where the run is over."""
        values = json.loads(facts.model_dump_json())
        bindings = [record.binding for record in self.bound_records()]
        closing = closing_of(values, bindings) if facts.binds_its_end and facts.is_over else ""
        self.write_facts(facts.model_copy(update={"closing": closing}))

    def append(self, record: Record) -> None:
        """Bind a record to the run and add it to ``records.jsonl``; then it is on disk.

        Raises:
            RecordError: it cannot be written; the records before it stay as they were.
        """
        append_whole(self.root / RECORDS, self.line(record).encode())

    def line(self, record: Record) -> str:
        """Return the line of a record that is bound to this run."""
        values, facts = json_from_text(record.model_dump_json()), self._facts_json()
        if facts.get("nonce"):
            values["binding"] = binding_of(facts, values)
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n"

    def keep(self, content: bytes, suffix: str) -> str:
        """Store a raw file under its digest, which is returned.

        Raises:
            RecordError: it cannot be written.
        """
        return self.raw.keep(content, suffix)

    def read(self, record: Record, what: str) -> bytes:
        """Return a raw file that a record rests on, as it was when the run stored it.

        Raises:
            RecordError: the record names none, or it is missing, changed or of another run.
        """
        if what not in record.raw:
            raise RecordError(
                f"{record.id} names no raw {what}, so its verdict cannot be recomputed: run the "
                "check again with this suite"
            )
        try:
            return self.raw.read(record.raw[what])
        except RecordError as error:
            raise RecordError(f"{record.id}: raw {what}: {error}") from error

    def facts(self) -> RunFacts:
        """Read ``run.json``.

        Raises:
            RecordError: it is missing or damaged.
        """
        path = self.root / FACTS
        return RunFacts.from_json(_read(path), path)

    def records(self) -> list[Record]:
        """Read all records; each is bound to this run, and its raw files are as it left them.

        Whether what they say follows from the raw files, ``recompute.founded_records`` says.

        Raises:
            RecordError: as ``bound_records``, or a raw file is missing or changed.
        """
        records = self.bound_records()
        for record in records:
            for what in record.raw:
                self.read(record, what)
        return records

    def bound_records(self) -> list[Record]:
        """Read all records, each bound to this run, without a look at their raw files.

        Raises:
            RecordError: a line is damaged, of another schema, edited or of another run, a check
                stands twice, or the run was over and has changed since.
        """
        path, facts, facts_json = self.root / RECORDS, self.facts(), self._facts_json()
        found: dict[str, Record] = {}
        for number, line in enumerate(_read(path).splitlines(), start=1):
            where = f"{path}, line {number}"
            values = values_from_line(line, where)
            record = Record.from_json(tagged(line, values), where)
            if record.run_id != facts.run_id:
                raise RecordError(
                    f"{where}: {record.id} is of run {record.run_id}, not {facts.run_id}"
                )
            if record.binding != (binding_of(facts_json, values) if facts.nonce else ""):
                raise RecordError(
                    f"{where}: {record.id} does not belong to this run as both stand now: it, or "
                    f"{FACTS}, was edited, or it was taken from another run"
                )
            if record.id in found:
                raise RecordError(f"{where}: {record.id} is there twice")
            found[record.id] = record
        bindings = [record.binding for record in found.values()]
        is_closed = facts.closing or (facts.binds_its_end and facts.is_over)
        if is_closed and facts.closing != closing_of(facts_json, bindings):
            raise RecordError(
                f"{self.root / FACTS} and {RECORDS} are not bound to each other: a record was removed, "
                "or one of the two changed after the run was over"
            )
        return list(found.values())

    def _facts_json(self) -> dict[str, Any]:
        values: dict[str, Any] = json_from_text(_read(self.root / FACTS))
        return values


def new_run_directory(root: Path) -> RunDirectory:
    """Make the folder of a run; of two that ask for the same one, one is refused.

    Raises:
        RecordError: it holds a run already, or cannot be made.
    """
    held = f"{root} holds a run already; name another folder, nothing was changed"
    if (root / FACTS).exists():
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


def _read(path: Path) -> bytes:
    try:
        return bytes_from_file(path)
    except OSError as error:
        raise RecordError(
            f"{path} cannot be read: {error.strerror}; is it a run folder?"
        ) from error
