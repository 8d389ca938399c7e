"""Test doubles that ship with the suite: each implements one seam."""

import contextlib
import dataclasses
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.device import Device, DeviceSpec, DeviceState, Presence, Session
from harness.errors import HarnessError, RunError, StageError
from harness.host.child_process import StageCost
from harness.host.progress import Heartbeat
from harness.inside import Inside
from harness.spec import DeviceModel, Feed, OnnxModel
from harness.timings import LoopSettings, LoopTimes, Vitals


def run_here(
    function: Callable[..., Any],
    *args: Any,
    heartbeat: Heartbeat | None = None,
    timeout_s: float | None = None,
    log: Path | None = None,
    failure: type[StageError] = StageError,
) -> tuple[Any, StageCost]:
    """Stand in for ``run_in_child`` where the child is not the point."""
    if heartbeat is not None:
        heartbeat(0.0)
    try:
        return function(*args), StageCost(0.25, 4096)
    except HarnessError:
        raise
    except Exception as error:
        raise failure(f"it raised {error!r}") from error


class FakeClock:
    """A clock that starts at 0 and moves by ``step_s`` on every read, and by ``advance``."""

    def __init__(self, step_s: float = 0.0) -> None:
        self._now_s = 0.0
        self._step_s = step_s

    def __call__(self) -> float:
        """Return the time in seconds, then move on by one step."""
        now_s = self._now_s
        self._now_s += self._step_s
        return now_s

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self._now_s += seconds


class FakeSession(Session):
    """A session whose model is a function of its feed; a query takes ``latency_s`` of its clock.

    With a FakeClock no time passes; without one it really sleeps.
    """

    def __init__(
        self,
        function: Callable[[Feed], Feed],
        latency_s: float = 0.0,
        clock: FakeClock | None = None,
    ) -> None:
        self._function = function
        self._latency_s = latency_s
        self._clock = clock
        self.is_closed = False

    def run(self, feed: Feed) -> Feed:
        """Apply the function."""
        if self.is_closed:
            raise RunError("the session is closed: open the device model again")
        if self._clock is not None:
            self._clock.advance(self._latency_s)
        elif self._latency_s > 0.0:
            time.sleep(self._latency_s)
        return self._function(feed)

    def loop(self, feed: Feed, settings: LoopSettings) -> LoopTimes:
        """Simulate ``min_queries`` queries of exactly ``latency_s``."""
        times_ms = (1000.0 * self._latency_s,) * settings.min_queries
        return LoopTimes(times_ms, times_ms, self.run(feed))

    def close(self) -> None:
        """Refuse further queries."""
        self.is_closed = True


@dataclasses.dataclass
class FakeDevice(Device):
    """A device that copies the ONNX file as its model and opens sessions of a function.

    ``state`` is the result of a probe. ``fault`` is an error that ``open`` raises, and ``build``
    halfway through, or the signal that kills their process.
    """

    spec: DeviceSpec
    function: Callable[[Feed], Feed]
    latency_s: float = 0.01
    state: DeviceState = dataclasses.field(
        default_factory=lambda: DeviceState(Presence.PRESENT, "a double", {}, ("cpu",))
    )
    fault: BaseException | signal.Signals | None = None

    def probe(self) -> DeviceState:
        """Return ``state``."""
        return self.state

    def build(self, onnx: OnnxModel, target: Path) -> Mapping[str, Any]:
        """Copy the file."""
        if self.fault is not None:
            target.write_bytes(b"half")
            self._show_fault()
        shutil.copyfile(onnx.artifact.path, target)
        return {"double": True}

    def open(self, model: DeviceModel, threads: int | None = None) -> FakeSession:
        """Return a session of ``function``."""
        self._show_fault()
        return FakeSession(self.function, self.latency_s)

    def _show_fault(self) -> None:
        if isinstance(self.fault, signal.Signals):
            os.kill(os.getpid(), self.fault)
        elif self.fault is not None:
            raise self.fault


Change = Callable[[Feed], Feed]


def unchanged() -> Change:
    """Return the fault that changes nothing."""
    return dict


class FaultySession(Session):
    """A session that applies ``fault`` to its outputs, and ``feed_fault`` to what it is fed."""

    def __init__(self, session: Session, fault: Change, feed_fault: Change = dict) -> None:
        self._session = session
        self._fault = fault
        self._feed_fault = feed_fault

    @property
    def notes(self) -> Sequence[str]:
        """The session's notes."""
        return self._session.notes

    def run(self, feed: Feed) -> Feed:
        """Run the session, and corrupt what goes in and what comes out."""
        return self._fault(self._session.run(self._feed_fault(feed)))

    def loop(self, feed: Feed, settings: LoopSettings) -> LoopTimes:
        """Time the session, and corrupt its input and its last output."""
        times = self._session.loop(self._feed_fault(feed), settings)
        output = None if times.output is None else self._fault(times.output)
        return dataclasses.replace(times, output=output)

    def close(self) -> None:
        """Close the session."""
        self._session.close()


@dataclasses.dataclass
class FaultyDevice(Device):
    """A device that works except for its outputs: ``make_fault`` makes a fault for each session.

    ``make_feed_fault`` makes what each session does to its inputs.
    """

    device: Device
    make_fault: Callable[[], Change] = unchanged
    make_feed_fault: Callable[[], Change] = unchanged
    spec: DeviceSpec = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.spec = self.device.spec

    def probe(self) -> DeviceState:
        """Probe the device."""
        return self.device.probe()

    def build(self, onnx: OnnxModel, target: Path) -> Mapping[str, Any]:
        """Build for the device."""
        return self.device.build(onnx, target)

    @property
    def model_suffix(self) -> str:
        """Suffix of the files that the device builds."""
        return self.device.model_suffix

    def takes(self, op_type: str) -> bool:
        """Whether the device supports an operator."""
        return self.device.takes(op_type)

    def shaped_by(self, onnx: OnnxModel) -> Mapping[str, object]:
        """Return what affects the device's builds."""
        return self.device.shaped_by(onnx)

    def at(self, site: Any) -> "FaultyDevice":
        """Return the device with a site's tools, keeping its fault."""
        return dataclasses.replace(self, device=self.device.at(site))

    def on(self, unit_id: str) -> "FaultyDevice":
        """Return the device bound to a unit, keeping its fault."""
        return dataclasses.replace(self, device=self.device.on(unit_id))

    def look(self) -> str:
        """Return the state of the unit."""
        return self.device.look()

    def vitals(self) -> Vitals:
        """Return how the unit is."""
        return self.device.vitals()

    def inside(
        self, model: DeviceModel, feed: Feed
    ) -> contextlib.AbstractContextManager[Inside | None]:
        """Show the values inside the device's own model, which has no fault."""
        return self.device.inside(model, feed)

    def open(self, model: DeviceModel, threads: int | None = None) -> FaultySession:
        """Open a session with its fault."""
        session = self.device.open(model, threads)
        return FaultySession(session, self.make_fault(), self.make_feed_fault())
