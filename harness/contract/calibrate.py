"""A/A runs -> the throughput row of a cell: the golden, and the least tolerance without an alarm.

An A/A run times the same build again and is judged like any other; whatever is not a pass is a
false alarm. Nothing is written: a person reads the proposal and puts it into the contract.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import median, stdev
from typing import Any

from harness.contract.toml import literal
from harness.errors import InvalidMeasurement
from harness.judge.limits import ThroughputReference
from harness.judge.subjects import chip_problem
from harness.judge.throughput import judge_throughput
from harness.measure.statistics import CONFIDENCE
from harness.measure.throughput import SessionTiming, ThroughputMeasurement, throughput_measurement
from harness.spec import Status

Run = Sequence[SessionTiming]
RUNS_MIN = 2
STEPS = 100
# Of a host: half way between the same build and one that is 15 % slower.
HOST_TOLERANCE = 0.07
HOST_TOLERANCE_MAX = 0.12
# A few sessions may agree by chance.
SPREAD_MIN = 0.01
# What is left of the speed of every thread where a floor for it is set.
SPEEDUP_SHARE = 0.7


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What A/A runs say of a cell.

    Attributes:
        golden: median of the sessions' speeds, in the unit of the reference.
        tolerance: least hundredth at which every run passes, of a host at least 0.07; None where
            none below 1 does.
        run_count: A/A runs.
        session_count: sessions of all runs.
        spread: standard deviation of the sessions' speeds, relative.
        speedup: of every thread over one by the wall clock, in the quiet sessions; None where there
            is none.
        processor: of the host, as its sessions name it; None of another device.
        chip: of another device, as its driver names it.
    """

    golden: float
    tolerance: float | None
    run_count: int
    session_count: int
    spread: float
    speedup: float | None
    processor: str | None = None
    chip: str | None = None


def calibration_from_runs(
    runs: Sequence[Run], batch: int, reference: ThroughputReference, sessions_min: int
) -> Calibration:
    """Derive golden and tolerance from the sessions of A/A runs, in the order in which they were timed.

    The definition, the unit and the ceiling of ``reference``, the contract of today, stay.

    Raises:
        InvalidMeasurement: too few runs or sessions, or the timing of one does not count.
    """
    if len(runs) < RUNS_MIN or min(map(len, runs)) < max(2, sessions_min):
        raise InvalidMeasurement(
            f"{len(runs)} A/A runs of {min(map(len, runs), default=0)} sessions show no spread; "
            f"time at least {RUNS_MIN} runs of {max(2, sessions_min)} sessions"
        )
    speeds = [speed for run in runs for speed in _speeds(run, batch, reference)]
    golden, spread = _rounded(median(speeds)), _spread(speeds)
    known = {"spread": _rounded(max(spread, SPREAD_MIN))} if reference.is_of_host else {}
    elsewhere = dict.fromkeys(("processor", "tolerance_elsewhere", "speedup_min"))
    here: dict[str, object] = {"golden": golden, "golden_on": {}, **elsewhere, **known}
    trial = reference.model_copy(update=here)
    # What a run has measured after each of its sessions.
    prefixes = [
        [throughput_measurement(run[:count], batch) for count in range(1, len(run) + 1)]
        for run in runs
    ]
    looks = [look for run in prefixes if (look := run[-1].host) is not None]
    speedups = [look.speedup for look in looks if look.speedup is not None]
    return Calibration(
        golden=golden,
        tolerance=_least_tolerance(prefixes, trial, sessions_min),
        run_count=len(runs),
        session_count=len(speeds),
        spread=spread,
        speedup=median(speedups) if speedups else None,
        processor=looks[0].processor if looks else None,
    )


def calibration_source(made: str, run_count: int) -> str:
    """Return where the numbers of calibrated rows come from; ``made`` is the day and the machine."""
    # The upper 95 % bound of the rate of false alarms, after so many runs without one.
    alarms = 1.0 - math.pow(1.0 - CONFIDENCE, 1.0 / run_count)
    return (
        f"harness calibrate, {made}: median of the sessions of {run_count} A/A runs; tolerance: the "
        f"least without an A/A alarm (95 % sure of fewer than {100 * alarms:.0f} "
        "in 100)"
    )


def calibrated_row(
    row: Mapping[str, Any], found: Calibration, reference: ThroughputReference, source: str
) -> str:
    """Return the row of a cell, ready to paste; whatever else is written in it stays, the guide too.

    ``row`` is as the contract has it today, empty where the cell has no golden; ``source`` is a key of
    its ``[sources]``. On a host with another processor the row's own golden stays, too.

    Raises:
        InvalidMeasurement: no tolerance below 1 lets every A/A run pass.
    """
    if found.tolerance is None:
        raise InvalidMeasurement(
            f"no tolerance below 1 lets all {found.run_count} A/A runs pass (spread "
            f"{100 * found.spread:.1f} %); time longer sessions, or more, on a quiet machine"
        )
    if reference.is_of_host and found.tolerance > HOST_TOLERANCE_MAX:
        raise InvalidMeasurement(
            f"a tolerance of {found.tolerance} is above {HOST_TOLERANCE_MAX}, so a build 15 % slower "
            f"could pass (spread {100 * found.spread:.1f} %); time longer sessions, or more"
        )
    numbers = {
        "golden": found.golden,
        "tolerance": found.tolerance,
        **_of_a_host(reference, found),
        **_one_chip(reference),
        **_of_a_chip(reference, found),
        "source": source,
    }
    if row and not reference.is_of_processor(found.processor):
        keys = {**row, "golden_on": {**row.get("golden_on", {}), found.processor: numbers}}
    else:
        keys = {**(row or _terms(reference, found)), **numbers}
    spread = f"{found.session_count} sessions, spread {100 * found.spread:.2f} %"
    return f"{literal(keys)}  # {spread}"


def _terms(reference: ThroughputReference, found: Calibration) -> dict[str, object]:
    """Return the keys of a row that is not written yet."""
    terms = reference.model_dump(include={"unit", "definition", "scope"})
    is_here = reference.is_of_processor(found.processor)
    return terms if is_here else {**terms, "processor": found.processor}


def _of_a_host(reference: ThroughputReference, found: Calibration) -> dict[str, object]:
    """Return the keys that only a host has: its spread, and the least speed-up from all threads."""
    if not reference.is_of_host:
        return {}
    keys: dict[str, object] = {"spread": _rounded(max(found.spread, SPREAD_MIN))}
    if found.speedup is not None:
        keys["speedup_min"] = round(SPEEDUP_SHARE * found.speedup, 2)
    return keys


def _one_chip(reference: ThroughputReference) -> dict[str, object]:
    """Return what changes where the golden was of a card with several chips: a session has one."""
    if reference.chips == 1:
        return {}
    guide = {} if reference.guide is None else {"guide_scope": reference.scope}
    return {"scope": "chip", "chips": 1, **guide}


def _of_a_chip(reference: ThroughputReference, found: Calibration) -> dict[str, object]:
    """Return the chip that the golden is of, unless the contract names it already."""
    if found.chip is None or (reference.chip and not chip_problem(reference.chip, found.chip)):
        return {}
    return {"chip": found.chip}


def _speeds(run: Run, batch: int, reference: ThroughputReference) -> tuple[float, ...]:
    measurement = throughput_measurement(run, batch)
    speed = measurement.speed(reference.definition)
    if measurement.invalid_reasons or speed is None:
        reasons = "; ".join(measurement.invalid_reasons) or f"no {reference.definition} times"
        raise InvalidMeasurement(f"an A/A run does not count: {reasons}")
    series = speed.series(reference.against)
    if series is None:
        raise InvalidMeasurement(
            "an A/A run does not count: it was not timed beside what the contract's against names, "
            f"{reference.against}"
        )
    return series.per_session


def _least_tolerance(
    prefixes: Sequence[Sequence[ThroughputMeasurement]],
    trial: ThroughputReference,
    sessions_min: int,
) -> float | None:
    """Return the least hundredth at which every run ends in a pass, judged as the suite judges."""
    least = round(STEPS * HOST_TOLERANCE) if trial.is_of_host else 0
    for step in range(least, STEPS):
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
    return stdev(math.log(value) for value in values)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
