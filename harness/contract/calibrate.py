"""A/A runs -> the speed reference of a cell: the golden, and the least tolerance without an alarm.

An A/A run times the same build again and is judged like any other; whatever is not a pass is a
false alarm. Nothing is written: a person reads the proposal and puts it into the contract.
"""

import dataclasses
import json
import math
from collections.abc import Sequence

from harness.errors import InvalidMeasurement
from harness.judge import judge_throughput
from harness.judge.limits import ThroughputReference
from harness.measure.statistics import CONFIDENCE, median
from harness.measure.throughput import SessionTiming, ThroughputMeasurement, throughput_measurement
from harness.spec import Cell, Status

Run = Sequence[SessionTiming]
RUNS_MIN = 2
STEPS = 100


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What A/A runs say of a cell.

    Attributes:
        golden: median of the sessions' speeds, in the unit of the reference.
        tolerance: least hundredth at which every run passes; None where none below 1 does.
        run_count: A/A runs.
        session_count: sessions of all runs.
        spread: standard deviation of the sessions' speeds over their mean.
        alarm_rate_max: upper 95 % bound of the rate of false alarms, after so many runs without.
    """

    golden: float
    tolerance: float | None
    run_count: int
    session_count: int
    spread: float
    alarm_rate_max: float


def calibration_from_runs(
    runs: Sequence[Run], batch: int, reference: ThroughputReference, sessions_min: int
) -> Calibration:
    """Derive golden and tolerance from the sessions of A/A runs.

    Args:
        runs: sessions by run, in the order in which they were timed.
        batch: samples in a query.
        reference: what the contract says today; its definition, unit and ceiling stay.
        sessions_min: fewest sessions that may decide.

    Raises:
        InvalidMeasurement: too few runs or sessions, or the timing of one does not count.
    """
    if len(runs) < RUNS_MIN or min(map(len, runs)) < max(2, sessions_min):
        raise InvalidMeasurement(
            f"{len(runs)} A/A runs of {min(map(len, runs), default=0)} sessions show no spread; "
            f"time at least {RUNS_MIN} runs of {max(2, sessions_min)} sessions"
        )
    speeds = [speed for run in runs for speed in _speeds(run, batch, reference)]
    golden = _rounded(median(speeds))
    trial = reference.model_copy(update={"golden": golden})
    prefixes = [_prefixes(run, batch) for run in runs]
    return Calibration(
        golden=golden,
        tolerance=_least_tolerance(prefixes, trial, sessions_min),
        run_count=len(runs),
        session_count=len(speeds),
        spread=_spread(speeds),
        alarm_rate_max=1.0 - (1.0 - CONFIDENCE) ** (1.0 / len(runs)),
    )


def calibration_toml(
    cell: Cell, found: Calibration, reference: ThroughputReference, made: str
) -> str:
    """Return the table of the contract, ready to paste.

    Args:
        cell: whose table it is.
        found: what the A/A runs say.
        reference: what the contract says today.
        made: the day and the machine, for the source.

    Raises:
        InvalidMeasurement: no tolerance below 1 lets every A/A run pass.
    """
    if found.tolerance is None:
        raise InvalidMeasurement(
            f"no tolerance below 1 lets all {found.run_count} A/A runs pass (spread "
            f"{100 * found.spread:.1f} %); time longer sessions, or more, on a quiet machine"
        )
    source = (
        f"harness calibrate, {made}: median of {found.session_count} sessions in "
        f"{found.run_count} A/A runs, spread {100 * found.spread:.2f} %; tolerance: the least "
        f"without an A/A alarm (95 % sure of fewer than {100 * found.alarm_rate_max:.0f} in 100)"
    )
    fields = reference.model_copy(
        update={"golden": found.golden, "tolerance": found.tolerance, "source": source}
    )
    lines = [f"{key} = {_literal(value)}" for key, value in fields.model_dump().items()]
    table = f"models.{cell.model}.devices.{cell.device}.throughput.bs{cell.batch}"
    return "\n".join([f"[{table}]", *lines])


def _speeds(run: Run, batch: int, reference: ThroughputReference) -> tuple[float, ...]:
    measurement = throughput_measurement(run, batch)
    speed = measurement.speed(reference.definition)
    if measurement.invalid_reasons or speed is None:
        reasons = "; ".join(measurement.invalid_reasons) or f"no {reference.definition} times"
        raise InvalidMeasurement(f"an A/A run does not count: {reasons}")
    series = speed.x_pytorch if reference.against == "pytorch" else speed.per_s
    if series is None:
        raise InvalidMeasurement("an A/A run does not count: PyTorch was not timed beside it")
    return series.per_session


def _prefixes(run: Run, batch: int) -> list[ThroughputMeasurement]:
    """Return what a run has measured after each of its sessions."""
    return [throughput_measurement(run[: count + 1], batch) for count in range(len(run))]


def _least_tolerance(
    prefixes: Sequence[Sequence[ThroughputMeasurement]],
    trial: ThroughputReference,
    sessions_min: int,
) -> float | None:
    """Return the least hundredth at which every run ends in a pass, judged as the suite judges."""
    for step in range(STEPS):
        reference = trial.model_copy(update={"tolerance": step / STEPS})
        if all(_passes(run, reference, sessions_min) for run in prefixes):
            return step / STEPS
    return None


def _passes(
    run: Sequence[ThroughputMeasurement], reference: ThroughputReference, sessions_min: int
) -> bool:
    """Whether a run passes where sessions are added until they decide."""
    for measurement in run[sessions_min - 1 :]:
        status = judge_throughput(measurement, reference, sessions_min).status
        if status is not Status.INCONCLUSIVE:
            return status is Status.PASS
    return False


def _spread(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance) / mean


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
