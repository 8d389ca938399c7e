"""What a session times of a host: one thread beside the reference on one thread, and whose the host was."""

import os
from collections.abc import Sequence
from pathlib import Path

from harness.device import Device, Session
from harness.host.clocks import ReadClocks, Reading, clock_problems, involuntary_switches
from harness.host.environment import cpu_note, cpu_state, is_host_quiet, processor_name, taken_share
from harness.measure.host_turns import HostUse, Times, Turns
from harness.measure.timing import in_turns
from harness.runtimes.ort.session import OrtSession, unoptimised_session
from harness.spec import DeviceModel, Feed
from harness.timings import LoopSettings

# In a loop of a few milliseconds a thread may not get a turn at all.
THREADS_LOOP_S = 0.2


class HostWatch:
    """The clocks and the processors from its making on."""

    def __init__(self, read: ReadClocks) -> None:
        self._read = read
        self._start, self._cpus, self._switches = read(), cpu_state(), involuntary_switches()

    @property
    def usable(self) -> int:
        """How many processors this process may use."""
        return len(os.sched_getaffinity(0))

    def problems(self) -> tuple[str, ...]:
        """Say which clocks disagree so far."""
        return clock_problems(self._passed(), os.cpu_count() or self.usable)

    def note(self) -> str:
        """Say how the processors were; empty where nothing is known."""
        return cpu_note(self._cpus, cpu_state())

    def host_use(self, loop: Reading) -> HostUse:
        """Return how a loop with every thread used the host."""
        switches = involuntary_switches() - self._switches
        used = loop.processor_s / loop.thread_s if loop.thread_s >= THREADS_LOOP_S else None
        now, passed = cpu_state(), self._passed()
        return HostUse(
            usable=self.usable,
            used=used,
            is_quiet=is_host_quiet(self._cpus, now, passed, switches),
            processor=processor_name(),
            taken_share=taken_share(self._cpus, now, passed.wall_s),
        )

    def _passed(self) -> Reading:
        return self._read().since(self._start)


class KeepingEnds:
    """A query of one feed that keeps what the first one and the last one computed."""

    def __init__(self, session: Session, feed: Feed) -> None:
        self._session = session
        self._feed = feed
        self.first: Feed = {}
        self.last: Feed = {}

    def __call__(self) -> None:
        """Run the feed once."""
        self.last = self._session.run(self._feed)
        self.first = self.first or self.last


def time_turns(
    device: Device,
    model: DeviceModel,
    exported: Path,
    feed: Feed,
    settings: LoopSettings,
    read: ReadClocks,
) -> tuple[Turns, KeepingEnds]:
    """Time the device and the exported graph without optimisation, each on one thread.

    Both run in one runtime: beside PyTorch, whose kernels are others, the ratio of one build has
    wandered by 15 % from day to day on one host.

    Returns:
        The times, and the device's queries with the outputs of the first, untimed, and the last.

    Raises:
        RunError: the device failed, or the exported graph does not run.
        InvalidMeasurement: a clock is broken.
    """
    reference = OrtSession(unoptimised_session(exported, threads=1), exported)
    session = device.open(model, threads=1)
    try:
        query = KeepingEnds(session, feed)
        ours, theirs = in_turns(query, lambda: reference.run(feed), settings, read)
    finally:
        session.close()
    turns = Turns(
        processor_ms=tuple(1000.0 * cost.processor_s for cost in ours),
        unoptimised_processor_ms=tuple(1000.0 * cost.processor_s for cost in theirs),
        wall_ms=tuple(1000.0 * cost.wall_s for cost in ours),
        waiting_ms=_known_ms([cost.waiting_s for cost in ours]),
        queued_ms=_known_ms([cost.queued_s for cost in ours]),
    )
    return turns, query


def _known_ms(seconds: Sequence[float | None]) -> Times:
    """Return times in milliseconds; none unless all are known."""
    known = tuple(1000.0 * value for value in seconds if value is not None)
    return known if len(known) == len(seconds) else ()
