"""Raw times of sessions -> speed, without a judgement.

The unit of replication is the session, a process of its own: queries of one process agree far
better with each other than with the next process. Four definitions are kept apart: ``device`` is
the compute alone, ``device_io`` adds the copies to and from the device, ``e2e`` everything from the
clip file to the class, all by the wall clock with every thread; ``processor`` is the processor time
of a host that computes on one thread, beside the exported graph without optimisation.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Annotated, Literal

import pydantic

from harness.measure.host_turns import (
    SHORTEST_MS,
    HostLook,
    HostUse,
    Times,
    Turns,
    host_look,
    is_usable,
)
from harness.measure.measurement import Measurement
from harness.measure.speed import (
    DEFINITIONS,
    Definition,
    Speed,
    SpeedSeries,
    series_of,
)
from harness.measure.statistics import percentile_bound

STEADY_RELATIVE = 0.10


class SessionTiming(Measurement):
    """The raw times of one session in milliseconds a query; warm-up is not in it.

    Attributes:
        device_ms: compute alone.
        device_io_ms: with the copies to and from the device.
        e2e_ms: from the clip file to the class.
        pytorch_ms: of PyTorch by the wall clock; in records from before processor time only.
        turns: processor times beside the reference; None of a device that is not the host.
        host_use: of the loop with all threads; None of a device that is not the host.
        nonfinite_count: times that are not finite, left out of the rest; any makes the run invalid.
        is_output_same: whether the timed queries computed what the accuracy run computed; None if
            nobody looked.
        problems: why the times do not count: the device was hot, unhealthy or shared, or the clocks
            disagree.
        notes: the device's state before and after, and notes of its tools.
        clips_compared: whose timed answer was compared with the one of the accuracy run.
        differing_clips: those of them whose timed answer is another.
    """

    device_ms: Times = ()
    device_io_ms: Times = ()
    e2e_ms: Times = ()
    pytorch_ms: Times = ()
    turns: Turns | None = None
    host_use: HostUse | None = None
    nonfinite_count: int = 0
    is_output_same: bool | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    clips_compared: int = 0
    differing_clips: tuple[str, ...] = ()

    def times_ms(self, definition: Definition) -> Times:
        """Return the times of one definition."""
        return self.raw_series()[f"{definition}_ms"]

    def raw_series(self) -> Mapping[str, Times]:
        """Return everything that is timed, by its name in messages."""
        turns = self.turns or Turns()
        return {
            "device_ms": self.device_ms,
            "device_io_ms": self.device_io_ms,
            "e2e_ms": self.e2e_ms,
            "processor_ms": turns.processor_ms,
            "unoptimised_processor_ms": turns.unoptimised_processor_ms,
            "pytorch_processor_ms": turns.pytorch_processor_ms,
        }


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
    processor: Speed | None = None
    host: HostLook | None = None
    unsteady_sessions: int = 0
    is_output_same: bool | None = None
    clips_compared: int = 0
    invalid_reasons: tuple[str, ...] = ()
    percentiles_by_session: bool = False

    def with_percentiles_of(self, other: "ThroughputMeasurement") -> "ThroughputMeasurement":
        """Return the measurement with the percentiles of another one of the same sessions."""
        changes: dict[str, object] = {"percentiles_by_session": other.percentiles_by_session}
        for definition in DEFINITIONS:
            ours, theirs = self.speed(definition), other.speed(definition)
            if ours is not None and theirs is not None:
                names = ("latency_p90_ms", "latency_p99_ms")
                changes[definition] = ours.model_copy(
                    update={name: getattr(theirs, name) for name in names}
                )
        return self.model_copy(update=changes)

    def speed(self, definition: Definition) -> Speed | None:
        """Return the speed by one definition."""
        found: Speed | None = getattr(self, definition)
        return found


def session_timing(
    device_ms: Sequence[float],
    device_io_ms: Sequence[float] = (),
    e2e_ms: Sequence[float] = (),
    turns: Turns | None = None,
    is_output_same: bool | None = None,
) -> SessionTiming:
    """Keep the raw times of a session; any that are not finite make the run invalid."""
    series = (device_ms, device_io_ms, e2e_ms)
    finite = [tuple(float(time) for time in times if math.isfinite(time)) for times in series]
    return SessionTiming(
        device_ms=finite[0],
        device_io_ms=finite[1],
        e2e_ms=finite[2],
        turns=turns,
        nonfinite_count=sum(map(len, series)) - sum(map(len, finite)),
        is_output_same=is_output_same,
    )


def throughput_measurement(sessions: Sequence[SessionTiming], batch: int) -> ThroughputMeasurement:
    """Reduce the raw times of the sessions of one cell, each query ``batch`` samples."""
    looks = [session.is_output_same for session in sessions if session.is_output_same is not None]
    return ThroughputMeasurement(
        batch=batch,
        session_count=len(sessions),
        device=_speed(sessions, batch, "device"),
        device_io=_speed(sessions, batch, "device_io"),
        e2e=_speed(sessions, batch, "e2e"),
        processor=_speed(sessions, batch, "processor"),
        host=_host_look(sessions),
        unsteady_sessions=sum(not _is_steady(session) for session in sessions),
        is_output_same=all(looks) if looks else None,
        clips_compared=min((session.clips_compared for session in sessions), default=0),
        invalid_reasons=tuple(_invalid_reasons(sessions)),
        percentiles_by_session=True,
    )


def _speed(sessions: Sequence[SessionTiming], batch: int, definition: Definition) -> Speed | None:
    """Return the speed by one definition; None unless every session measured it properly."""
    times = [session.times_ms(definition) for session in sessions]
    if not times or not all(map(is_usable, times)):
        return None
    queries = [time for one in times for time in one]
    return Speed(
        per_s=series_of([1000.0 * batch / fmean(one) for one in times]),
        **_ratios(sessions, definition, times),
        query_count=len(queries),
        latency_p50_ms=median(queries),
        latency_p90_ms=percentile_bound(times, 0.90),
        latency_p99_ms=percentile_bound(times, 0.99),
    )


def _ratios(
    sessions: Sequence[SessionTiming], definition: Definition, times: Sequence[Times]
) -> dict[str, SpeedSeries | None]:
    """Return how many times as fast as its reference each session was; None unless all tell."""
    if definition != "processor":
        return {"x_pytorch": _wall_ratios(sessions, times)}
    turns = [session.turns for session in sessions if session.turns is not None]
    is_whole = len(turns) == len(sessions) and all(one.is_whole for one in turns)
    series = series_of([one.ratio for one in turns]) if is_whole else None
    is_of_pytorch = any(one.pytorch_processor_ms for one in turns)
    return {"x_pytorch" if is_of_pytorch else "x_unoptimised": series}


def _wall_ratios(sessions: Sequence[SessionTiming], times: Sequence[Times]) -> SpeedSeries | None:
    """Return the ratio of wall times, of sessions from before processor time."""
    pytorch = [session.pytorch_ms for session in sessions]
    if not all(map(is_usable, pytorch)):
        return None
    return series_of([fmean(a) / fmean(b) for a, b in zip(pytorch, times, strict=True)])


def _host_look(sessions: Sequence[SessionTiming]) -> HostLook | None:
    looks = [
        (one.turns, one.host_use, one.device_io_ms)
        for one in sessions
        if one.turns is not None and one.host_use is not None
    ]
    return host_look(looks) if looks and len(looks) == len(sessions) else None


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
        problems.append(f"{session.nonfinite_count} times are not finite")
    if session.differing_clips:
        count, names = len(session.differing_clips), ", ".join(session.differing_clips[:3])
        problems.append(
            "the timed queries did not compute what the accuracy run computed, "
            f"of {count} of {session.clips_compared} clips: {names}"
        )
    elif session.is_output_same is False:
        problems.append("the timed queries did not compute what untimed ones compute")
    for name, times_ms in session.raw_series().items():
        bad = sum(time < SHORTEST_MS for time in times_ms)
        if bad:
            problems.append(f"{bad} of {len(times_ms)} times in {name} are zero or negative")
        wanted = first.raw_series()[name]
        if bool(times_ms) != bool(wanted):
            problems.append(f"{name} has {len(times_ms)} times, session 1 has {len(wanted)}")
    if not any(session.times_ms(definition) for definition in DEFINITIONS):
        problems.append("no query was timed")
    return problems
