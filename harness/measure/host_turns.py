"""What is timed of a host beside the wall clock: processor time beside the reference, waiting, threads at work."""

from collections.abc import Sequence
from statistics import median
from typing import Annotated

import pydantic

from harness.measure.measurement import Measurement

Times = tuple[float, ...]
Positive = Annotated[float, pydantic.Field(gt=0.0)]

# A time below a nanosecond is not real.
SHORTEST_MS = 1e-6


class Turns(Measurement):
    """Device and reference on one thread each, in turns or at once: the two are as long as each other.

    Attributes:
        processor_ms: processor time of each query of the device, of all threads of the process.
        unoptimised_processor_ms: the same of the exported graph, run without optimisation.
        pytorch_processor_ms: the same of PyTorch, the reference in records of earlier editions.
        wall_ms: wall time of each query of the device.
        waiting_ms: how much of it the calling thread neither ran nor stood in line for a processor;
            empty where the kernel does not tell.
        queued_ms: how much of it the calling thread stood in line for a processor; likewise.
    """

    processor_ms: Times = ()
    unoptimised_processor_ms: Times = ()
    pytorch_processor_ms: Times = ()
    wall_ms: Times = ()
    waiting_ms: Times = ()
    queued_ms: Times = ()

    @property
    def is_whole(self) -> bool:
        """Whether both sides were timed, query for query, in whole turns."""
        both = (self.processor_ms, self._reference_ms)
        return (
            len(both[0]) == len(both[1])
            and len(both[0]) % 2 == 0
            and all(is_usable(times) for times in both)
        )

    @property
    def ratio(self) -> float:
        """How many times as fast as the reference the device is, of whole turns.

        It is the median over the turns, so that what disturbs some of them disturbs nothing.
        """
        device, reference = self.processor_ms, self._reference_ms
        turns = range(0, len(device), 2)
        return median([sum(reference[at : at + 2]) / sum(device[at : at + 2]) for at in turns])

    @property
    def _reference_ms(self) -> Times:
        return self.unoptimised_processor_ms or self.pytorch_processor_ms


class HostUse(Measurement):
    """How a session with all threads used the host, and whether it had it for itself.

    Attributes:
        usable: processors that the process may use.
        used: processor time of all its threads over that of the calling thread; None where the loop
            was too short for the other threads to get their turn.
        is_quiet: whether nothing else took processors meanwhile; None where that is not known.
        processor: model and instruction sets; None in records of earlier editions.
        taken_share: of the processors' time, what other virtual machines and the quota took; None in
            records of earlier editions.
    """

    usable: Annotated[int, pydantic.Field(ge=1)]
    used: float | None
    is_quiet: bool | None = None
    processor: str | None = None
    taken_share: float | None = None


class HostLook(Measurement):
    """What a host's processors did while it was timed, as the middle one of the sessions.

    Attributes:
        waiting_ms: of a query on one thread; None where the kernel does not tell.
        query_ms: processor time of that query.
        usable: processors that there were.
        used: processor time of all threads over that of the calling one, with every thread at work;
            None where no session could tell.
        speedup: wall time on one thread over that with every thread, of the quiet sessions; None
            where there is none.
        quiet_sessions: how many sessions had the host for themselves.
        processor: model and instruction sets, where they are known.
        taken_share: the most that other virtual machines and the quota took in a session.
        queued_share: of a query's wall time on one thread, what it stood in line for a processor; None
            where the kernel does not tell, and in records of earlier editions.
    """

    waiting_ms: float | None
    query_ms: Positive
    usable: int
    used: float | None
    speedup: float | None
    quiet_sessions: int
    processor: str | None = None
    taken_share: float | None = None
    queued_share: float | None = None


def host_look(looks: Sequence[tuple[Turns, HostUse, Times]]) -> HostLook | None:
    """Reduce the sessions of a host: turns, use with all threads, and wall times of that.

    None where a session lacks a time.
    """
    times = [
        series
        for turns, _, wall_ms in looks
        for series in (turns.processor_ms, turns.wall_ms, wall_ms)
    ]
    if not all(map(is_usable, times)):
        return None
    waits = [median(turns.waiting_ms) for turns, _, _ in looks if turns.waiting_ms]
    used = [use.used for _, use, _ in looks if use.used is not None]
    queued = [sum(turns.queued_ms) / sum(turns.wall_ms) for turns, _, _ in looks if turns.queued_ms]
    taken = [use.taken_share for _, use, _ in looks if use.taken_share is not None]
    speedups = [
        median(turns.wall_ms) / median(wall_ms) for turns, use, wall_ms in looks if use.is_quiet
    ]
    return HostLook(
        waiting_ms=median(waits) if len(waits) == len(looks) else None,
        query_ms=median([median(turns.processor_ms) for turns, _, _ in looks]),
        usable=min(use.usable for _, use, _ in looks),
        used=median(used) if used else None,
        speedup=median(speedups) if speedups else None,
        quiet_sessions=len(speedups),
        processor=looks[0][1].processor,
        taken_share=max(taken) if taken else None,
        queued_share=median(queued) if len(queued) == len(looks) else None,
    )


def is_usable(times_ms: Times) -> bool:
    """Whether there are times, and all of them are times."""
    return len(times_ms) > 0 and min(times_ms) >= SHORTEST_MS
