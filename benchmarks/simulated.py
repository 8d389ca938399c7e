"""Stored runs of nights that never happened, for tests and benchmarks of what reads stored runs.

Measurements are real values of the schemas, computed by the measuring functions from made-up raw
data; nothing is run. The host of such a run is ``simulated``.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.contract.thresholds import Thresholds
from harness.decide.rejudge import rejudged
from harness.judge.verdict import Verdict
from harness.measure.host_turns import Turns
from harness.measure.throughput import (
    SessionTiming,
    ThroughputMeasurement,
    session_timing,
    throughput_measurement,
)
from harness.record.record import (
    CheckMeasurement,
    Record,
    RunDirectory,
    RunFacts,
    new_run_directory,
)
from harness.spec import Cell, Check, Status, Weights

ENVIRONMENT = {"host": "simulated", "cpu.model": "Simulated CPU", "cpu.usable": "8"}
# As many sessions as a release needs.
SESSIONS, QUERIES = 5, 20
START = datetime.datetime(2022, 1, 1, 2, 0, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True)
class SimulatedNight:
    """The description of a made-up run.

    Attributes:
        number: nights since the first; names the run and dates it.
        speed: that of all cells, over the golden of the contract.
        device_facts: versions that the device reports.
        subjects: digests of what was judged.
        environment: facts of the machine, beside those that every such run has.
        tier: the tier that was run.
        weights: the weights of the models.
        is_emulated: whether an emulator answered.
    """

    number: int
    speed: float = 1.0
    device_facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    subjects: Mapping[str, str] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tier: str = "nightly"
    weights: Weights = "checkpoint"
    is_emulated: bool = False

    @property
    def run_id(self) -> str:
        """Name of its run."""
        return f"night-{self.number:04d}"

    @property
    def started(self) -> str:
        """Its start: 02:00 UTC on its day."""
        return (START + datetime.timedelta(days=self.number)).isoformat(timespec="seconds")


def simulated_run(
    folder: Path, thresholds: Thresholds, cells: Sequence[Cell], night: SimulatedNight
) -> RunDirectory:
    """Write a night's run, with the throughput of each cell, below ``folder``."""
    run = new_run_directory(folder / night.run_id)
    checks: tuple[Check, ...] = ("throughput",)
    run.write_facts(run_facts(thresholds, cells, night, checks))
    for cell in cells:
        sessions = simulated_sessions(thresholds, cell, night.speed)
        measured = throughput_measurement(sessions, cell.batch)
        raw = {"latencies": run.keep(lines_of(sessions), ".jsonl")}
        run.append(simulated_record(thresholds, cell, "throughput", measured, night, raw))
    return run


def run_facts(
    thresholds: Thresholds, cells: Sequence[Cell], night: SimulatedNight, checks: Sequence[Check]
) -> RunFacts:
    """Return the ``run.json`` of a night that required some checks of some cells and finished."""
    return RunFacts(
        run_id=night.run_id,
        tier=night.tier,
        started=night.started,
        command=("pytest", "acceptance/"),
        thresholds_digest=thresholds.digest,
        environment={**ENVIRONMENT, **night.environment},
        required=tuple(f"{cell.id}:{check}" for cell in cells for check in checks),
        is_over=True,
        nonce=f"{night.number:032x}",
    )


def simulated_throughput(thresholds: Thresholds, cell: Cell, speed: float) -> ThroughputMeasurement:
    """Return the measurement of ``simulated_sessions``."""
    return throughput_measurement(simulated_sessions(thresholds, cell, speed), cell.batch)


def simulated_sessions(thresholds: Thresholds, cell: Cell, speed: float) -> list[SessionTiming]:
    """Return sessions that all run at ``speed`` times the golden of the contract."""
    reference = thresholds.limits(cell).throughput
    turns = None
    query_ms = 1000.0 * cell.batch / (reference.golden * speed)
    if reference.is_of_host:
        query_ms = 10.0
        turns = Turns(
            processor_ms=(query_ms,) * QUERIES,
            unoptimised_processor_ms=(reference.golden * speed * query_ms,) * QUERIES,
        )
    times = [query_ms] * QUERIES
    return [session_timing(times, times, (), turns) for _ in range(SESSIONS)]


def lines_of(sessions: Sequence[SessionTiming]) -> bytes:
    """Return sessions as the raw file that a run keeps."""
    return "\n".join(session.model_dump_json() for session in sessions).encode()


def simulated_record(
    thresholds: Thresholds,
    cell: Cell,
    check: Check,
    measured: CheckMeasurement,
    night: SimulatedNight,
    raw: Mapping[str, str] | None = None,
) -> Record:
    """Return the record of a check, judged by the contract."""
    record = Record(
        run_id=night.run_id,
        tier=night.tier,
        model=cell.model,
        device=cell.device,
        batch=cell.batch,
        check=check,
        verdict=Verdict(status=Status.INVALID, reason="not judged yet"),
        measurement=measured,
        weights=night.weights,
        subjects={
            "weights": thresholds.limits(cell).weights or "",
            "inputs": thresholds.limits(cell).inputs or "",
            **night.subjects,
        },
        raw=dict(raw or {}),
        device_facts=dict(night.device_facts),
        is_device_present=True,
        is_emulated=night.is_emulated,
        inputs_min=1,
        sessions_min=1,
        started=night.started,
        # No two nights may measure the same time to the last digit.
        seconds=1.0 + night.number / 1024,
    )
    return rejudged(record, thresholds)
