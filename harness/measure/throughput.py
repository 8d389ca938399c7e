"""Raw times of sessions -> speed, without a judgement.

The unit of replication is the session, a process of its own: iterations of one process agree far
better with each other than with the next process. Three definitions are kept apart: ``device`` is
the compute alone, ``device_io`` adds the copies to and from the device, ``e2e`` everything from the
clip file to the class.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import pydantic

from harness.measure.measurement import Measurement
from harness.measure.statistics import (
    CONFIDENCE,
    Interval,
    early_stopping_percentile,
    median,
    session_bounds,
)
from harness.measure.timing import interleaved, measure_session

__all__ = [
    "DEFINITIONS",
    "Definition",
    "SessionTiming",
    "Speed",
    "SpeedSeries",
    "ThroughputMeasurement",
    "interleaved",
    "measure_session",
    "session_timing",
    "throughput_measurement",
]

Definition = Literal["device", "device_io", "e2e"]
DEFINITIONS: tuple[Definition, ...] = get_args(Definition)
Times = tuple[float, ...]
Positive = Annotated[float, pydantic.Field(gt=0.0)]

STEADY_RELATIVE = 0.10
# Below a nanosecond is no time at all.
SHORTEST_MS = 1e-6


class SessionTiming(Measurement):
    """The raw times of one session in milliseconds a query; warm-up is not in it.

    Attributes:
        device_ms: compute alone.
        device_io_ms: with the copies to and from the device.
        e2e_ms: from the clip file to the class.
        pytorch_ms: of PyTorch in the same run, interleaved; empty if that was not measured.
        nonfinite_count: times that were no numbers and are left out; any makes the run invalid.
        is_output_same: whether the timed queries computed what the accuracy run computed; None if
            nobody looked.
        problems: why the times do not count: the device was hot, unhealthy or shared.
        notes: how the device was before and after, and what its tools said.
        clips_compared: whose timed answer was held against the one of the accuracy run.
        differing_clips: those of them whose timed answer is another.
    """

    device_ms: Times = ()
    device_io_ms: Times = ()
    e2e_ms: Times = ()
    pytorch_ms: Times = ()
    nonfinite_count: int = 0
    is_output_same: bool | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    clips_compared: int = 0
    differing_clips: tuple[str, ...] = ()

    def times_ms(self, definition: Definition) -> Times:
        """Return the times of one definition."""
        return {"device": self.device_ms, "device_io": self.device_io_ms, "e2e": self.e2e_ms}[
            definition
        ]


class SpeedSeries(Measurement):
    """One value a session, their mean, and its two one-sided 95 % bounds (None: one session)."""

    per_session: tuple[Positive, ...]
    mean: Positive
    bounds: Interval | None


class Speed(Measurement):
    """Speed by one definition.

    Attributes:
        per_s: samples each second.
        x_pytorch: speed over that of PyTorch in the same session; None if that was not measured.
        query_count: timed queries of all sessions.
        latency_p50_ms: median of all queries.
        latency_p90_ms: a time that the 90th percentile is not above, with confidence 0.99; None
            below the least number of queries that early stopping asks for (64).
        latency_p99_ms: the same of the 99th percentile (662).
    """

    per_s: SpeedSeries
    x_pytorch: SpeedSeries | None
    query_count: int
    latency_p50_ms: float
    latency_p90_ms: float | None
    latency_p99_ms: float | None


class ThroughputMeasurement(Measurement):
    """The speed of one cell over its sessions; a definition that was not measured is None.

    ``unsteady_sessions`` counts sessions whose second half is over 10 % off the first: a note, not
    a verdict. ``is_output_same`` is None where no session looked. ``clips_compared`` are the clips
    whose answer every session held against the one of the accuracy run.
    """

    kind: Literal["throughput"] = "throughput"
    batch: Annotated[int, pydantic.Field(ge=1)]
    session_count: int
    device: Speed | None
    device_io: Speed | None
    e2e: Speed | None
    unsteady_sessions: int = 0
    is_output_same: bool | None = None
    clips_compared: int = 0
    invalid_reasons: tuple[str, ...] = ()

    def speed(self, definition: Definition) -> Speed | None:
        """Return the speed by one definition."""
        return {"device": self.device, "device_io": self.device_io, "e2e": self.e2e}[definition]


def session_timing(
    device_ms: Sequence[float],
    device_io_ms: Sequence[float] = (),
    e2e_ms: Sequence[float] = (),
    pytorch_ms: Sequence[float] = (),
    is_output_same: bool | None = None,
) -> SessionTiming:
    """Keep the raw times of a session; what is no number is counted and makes the run invalid."""
    series = (device_ms, device_io_ms, e2e_ms, pytorch_ms)
    finite = [tuple(float(time) for time in times if math.isfinite(time)) for times in series]
    return SessionTiming(
        device_ms=finite[0],
        device_io_ms=finite[1],
        e2e_ms=finite[2],
        pytorch_ms=finite[3],
        nonfinite_count=sum(map(len, series)) - sum(map(len, finite)),
        is_output_same=is_output_same,
    )


def throughput_measurement(sessions: Sequence[SessionTiming], batch: int) -> ThroughputMeasurement:
    """Reduce the raw times of the sessions of one cell, each query ``batch`` samples."""
    looks = [session.is_output_same for session in sessions if session.is_output_same is not None]
    speeds = {definition: _speed(sessions, batch, definition) for definition in DEFINITIONS}
    return ThroughputMeasurement(
        batch=batch,
        session_count=len(sessions),
        device=speeds["device"],
        device_io=speeds["device_io"],
        e2e=speeds["e2e"],
        unsteady_sessions=sum(not _is_steady(session) for session in sessions),
        is_output_same=all(looks) if looks else None,
        clips_compared=min((session.clips_compared for session in sessions), default=0),
        invalid_reasons=tuple(_invalid_reasons(sessions)),
    )


def _speed(sessions: Sequence[SessionTiming], batch: int, definition: Definition) -> Speed | None:
    """Return the speed by one definition; None unless every session measured it properly."""
    times = [session.times_ms(definition) for session in sessions]
    if not times or not all(map(_is_usable, times)):
        return None
    pytorch = [session.pytorch_ms for session in sessions]
    queries = [time for one in times for time in one]
    ratios = None
    if all(map(_is_usable, pytorch)):
        ratios = _series([_mean(a) / _mean(b) for a, b in zip(pytorch, times, strict=True)])
    return Speed(
        per_s=_series([1000.0 * batch / _mean(one) for one in times]),
        x_pytorch=ratios,
        query_count=len(queries),
        latency_p50_ms=median(queries),
        latency_p90_ms=early_stopping_percentile(queries, 0.90),
        latency_p99_ms=early_stopping_percentile(queries, 0.99),
    )


def _series(values: Sequence[float]) -> SpeedSeries:
    return SpeedSeries(
        per_session=tuple(values), mean=_mean(values), bounds=session_bounds(values, CONFIDENCE)
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _is_usable(times_ms: Times) -> bool:
    return len(times_ms) > 0 and min(times_ms) >= SHORTEST_MS


def _is_steady(session: SessionTiming) -> bool:
    times_ms = session.device_ms or session.device_io_ms or session.e2e_ms
    half = len(times_ms) // 2
    if half == 0:
        return True
    first, second = median(times_ms[:half]), median(times_ms[half:])
    return abs(second - first) <= STEADY_RELATIVE * max(first, second)


def _invalid_reasons(sessions: Sequence[SessionTiming]) -> list[str]:
    if not sessions:
        return ["no session was timed"]
    return [
        f"session {number}: {reason}"
        for number, session in enumerate(sessions, start=1)
        for reason in _session_problems(session, sessions[0])
    ]


def _session_problems(session: SessionTiming, first: SessionTiming) -> list[str]:
    """Name what is wrong with one session; ``first`` says which times there should be."""
    problems = [*session.problems]
    if session.nonfinite_count:
        problems.append(f"{session.nonfinite_count} times are no numbers")
    if session.differing_clips:
        count, names = len(session.differing_clips), ", ".join(session.differing_clips[:3])
        problems.append(
            "the timed queries did not compute what the accuracy run computed, "
            f"of {count} of {session.clips_compared} clips: {names}"
        )
    elif session.is_output_same is False:
        problems.append("the timed queries did not compute what untimed ones compute")
    for name in ("device_ms", "device_io_ms", "e2e_ms", "pytorch_ms"):
        times_ms: Times = getattr(session, name)
        bad = sum(time < SHORTEST_MS for time in times_ms)
        if bad:
            problems.append(f"{bad} of {len(times_ms)} times in {name} are zero or negative")
        if bool(times_ms) != bool(getattr(first, name)):
            problems.append(
                f"{name} has {len(times_ms)} times, session 1 has {len(getattr(first, name))}"
            )
    if not any(session.times_ms(definition) for definition in DEFINITIONS):
        problems.append("no query was timed")
    return problems
