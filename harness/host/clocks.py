"""The clocks of one process: wall, processor and scheduler, and whether they agree with each other.

Processor time is what code costs however busy the host is. What is left of a query's wall time,
without the time in which its thread could run and was not let, is time that it waited for something.
"""

import dataclasses
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Ticks of the kernel are 10 ms apart, and the clocks are read one after another.
SLACK_S = 0.1
AGREE_RELATIVE = 0.02

_SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclasses.dataclass(frozen=True)
class Reading:
    """Seconds by every clock; differences of two readings are what passed between them.

    Attributes:
        wall_s: the clock that queries are timed by.
        processor_s: of all threads of this process.
        thread_s: processor time of the calling thread.
        queued_s: how long the calling thread could run and had no processor; None where the kernel
            does not tell.
        raw_s: the hardware's counter, which no time service bends.
        ticks_s: the kernel's timer interrupts.
        ticked_processor_s: processor time as the kernel accounts it in ticks.
    """

    wall_s: float
    processor_s: float
    thread_s: float
    queued_s: float | None
    raw_s: float
    ticks_s: float
    ticked_processor_s: float

    def since(self, start: "Reading") -> "Reading":
        """Return what passed by each clock."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(start), strict=True)
        passed: list[Any] = [None if None in pair else pair[0] - pair[1] for pair in pairs]
        return Reading(*passed)

    @property
    def waiting_s(self) -> float | None:
        """How long the calling thread waited, of a difference: for a sleep, a lock, a disk."""
        if self.queued_s is None:
            return None
        return max(0.0, self.wall_s - self.thread_s - self.queued_s)


ReadClocks = Callable[[], Reading]


def read_clocks() -> Reading:
    """Read every clock of this process; the calling thread's are those of the caller."""
    times = os.times()
    return Reading(
        wall_s=time.perf_counter(),
        processor_s=time.process_time(),
        thread_s=time.thread_time(),
        queued_s=_queued_s(),
        raw_s=time.clock_gettime(time.CLOCK_MONOTONIC_RAW),
        ticks_s=times.elapsed,
        ticked_processor_s=times.user + times.system,
    )


def clock_problems(passed: Reading, cpus: int) -> tuple[str, ...]:
    """Say which clocks disagree over a session on ``cpus`` processors; none where they agree.

    A clock that runs slow or fast cancels in a ratio and spoils every absolute time.
    """
    wall = "the clock that queries are timed by"
    pairs = (
        (wall, passed.wall_s, "the kernel's ticks", passed.ticks_s),
        (wall, passed.wall_s, "the raw counter", passed.raw_s),
        ("processor time", passed.processor_s, "the kernel's account", passed.ticked_processor_s),
    )
    problems = [
        f"{one} says {a_s:.2f} s, and {other} {b_s:.2f} s"
        for one, a_s, other, b_s in pairs
        if not abs(a_s - b_s) <= SLACK_S + AGREE_RELATIVE * max(abs(a_s), abs(b_s))
    ]
    most_s = cpus * passed.wall_s * (1.0 + AGREE_RELATIVE) + SLACK_S
    if not passed.processor_s <= most_s:
        problems.append(
            f"{passed.processor_s:.2f} s of processor time passed in {passed.wall_s:.2f} s on "
            f"{cpus} processor(s)"
        )
    return tuple(problems)


def involuntary_switches() -> int:
    """Return how often this process lost a processor that it could have gone on using."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _queued_s() -> float | None:
    try:
        return int(_SCHEDSTAT.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None
