"""What a session times of a host: one thread beside the reference on one thread, and whose the host was."""

import os
from collections.abc import Callable
from pathlib import Path

from harness.build.source import source_of
from harness.device import Device, Session
from harness.host.clocks import ReadClocks, Reading, clock_problems, involuntary_switches
from harness.host.environment import cpu_note, cpu_state, is_host_quiet, processor_name
from harness.measure.host_turns import HostUse, Turns
from harness.measure.timing import in_turns
from harness.spec import DeviceModel, Feed, ModelSpec
from harness.timings import LoopSettings


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
        used = loop.processor_s / loop.thread_s if loop.thread_s > 0.0 else 0.0
        is_quiet = is_host_quiet(self._cpus, cpu_state(), self._passed(), switches)
        return HostUse(usable=self.usable, used=used, is_quiet=is_quiet, processor=processor_name())

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
    checkpoint: Path | None,
    feed: Feed,
    settings: LoopSettings,
    read: ReadClocks,
) -> tuple[Turns, KeepingEnds]:
    """Time the device and the reference in turns, each on one thread.

    Returns:
        The times, and the device's queries with the outputs of the first, untimed, and the last.

    Raises:
        RunError: the device failed.
        InvalidMeasurement: a clock is broken.
    """
    reference = _reference_query(model.onnx.spec, checkpoint, feed)
    session = device.open(model, threads=1)
    try:
        query = KeepingEnds(session, feed)
        ours, theirs = in_turns(query, reference, settings, read)
    finally:
        session.close()
    waits = [cost.waiting_s for cost in ours]
    known = [1000.0 * wait for wait in waits if wait is not None]
    turns = Turns(
        processor_ms=tuple(1000.0 * cost.processor_s for cost in ours),
        pytorch_processor_ms=tuple(1000.0 * cost.processor_s for cost in theirs),
        wall_ms=tuple(1000.0 * cost.wall_s for cost in ours),
        waiting_ms=tuple(known) if len(known) == len(waits) else (),
    )
    return turns, query


def _reference_query(spec: ModelSpec, checkpoint: Path | None, feed: Feed) -> Callable[[], object]:
    model = source_of(spec).open(spec, checkpoint, threads=1)
    return lambda: model.run(feed)
