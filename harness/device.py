"""What a device and a session on it are: the seam between the suite and the runtimes."""

import contextlib
import dataclasses
import enum
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.errors import BuildError
from harness.host.patience import patiently
from harness.inside import Inside, Operator
from harness.precision import Precision
from harness.spec import DeviceModel, Feed, OnnxModel
from harness.timings import LoopSettings, LoopTimes, Start, Vitals, gained_mb

Arithmetic = Literal["fp32", "fp16"]

# Name of the lock on the host's processor, and of the unit of a device that is that processor.
HOST = "cpu"


class Presence(enum.StrEnum):
    """What a probe found."""

    PRESENT = "present"
    ABSENT = "absent"
    BROKEN = "broken"


@dataclasses.dataclass(frozen=True)
class DeviceState:
    """What a probe of one device found, with the facts that a record keeps.

    Attributes:
        presence: absent, broken or present.
        detail: for people: what was looked for, what was found, what to do.
        facts: chip, driver, versions, health, as text by name.
        unit_ids: physical chips that may be locked and used, most idle first.
        emulated: whether an emulator answered; such a run can never be signed off.
    """

    presence: Presence
    detail: str
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unit_ids: tuple[str, ...] = ()
    emulated: bool = False

    @property
    def lasting_facts(self) -> dict[str, str]:
        """The facts without those of single chips: temperature and load affect no device model."""
        return {name: text for name, text in self.facts.items() if name not in self.unit_ids}


@dataclasses.dataclass(frozen=True)
class DeviceSpec:
    """What a device is, known without touching it or importing its software.

    Attributes:
        name: name of the file that declares it, and its pytest marker.
        description: for the help text.
        runtime: the software that drives it, for people.
        version_fact: name of the fact that holds the version of that software.
        precision: of the arithmetic, which chooses the parity limits.
        label: what the guides call it; by default its name.
        column: its place in tables and reports; devices without one come last, by name.
        compared_with: devices whose speed the guides divide its own by.
        scope: what one session measures: a chip, a card or a host; None: what the contract says.
        facts: what its probe reports where it can; a fact of others does not apply to it.
        chip_names: names of the chips that count as this device, for a runtime that has many.
        is_host: whether it is the host's processor: everybody shares it, except during a timing.
    """

    name: str
    description: str
    runtime: str
    version_fact: str
    precision: Arithmetic
    label: str = ""
    column: int = 99
    compared_with: tuple[str, ...] = ()
    scope: Literal["chip", "card", "host"] | None = None
    facts: tuple[str, ...] = ()
    chip_names: tuple[str, ...] = ()
    is_host: bool = False

    @property
    def noun(self) -> str:
        """What a sentence calls it: the description up to its first comma."""
        return self.description.partition(",")[0]


@dataclasses.dataclass(frozen=True)
class ToolState:
    """One tool that a device needs: what the guides used, what is here, what to do.

    ``advice`` is empty where nothing is missing.
    """

    name: str
    of_guides: str
    found: str
    advice: str = ""


class Session(Protocol):
    """A loaded model on a device. What has a body is a default, for sessions that inherit it."""

    @property
    def notes(self) -> Sequence[str]:
        """What a record should mention, such as warnings of the device's tools."""
        return ()

    def run(self, feed: Feed) -> Feed:
        """Run one batch: arrays by input name in, arrays by output name out.

        Raises:
            RunError: the device failed; the message says what it printed.
        """
        ...

    def run_many(self, feeds: Iterable[Feed]) -> Iterable[Feed]:
        """Run batches in order; sessions that are faster with many at a time override it.

        Raises:
            RunError: the device failed, or a batch hangs.
        """
        with patiently() as call:
            for feed in feeds:
                yield call(self.run, feed)

    def loop(self, feed: Feed, settings: LoopSettings) -> LoopTimes:
        """Run the same batch again and again and return the time of each query.

        Raises:
            RunError: the device failed.
        """
        ...

    def steady(self, feed: Feed, queries: int) -> LoopTimes:
        """Go on as ``loop`` does for so many queries, while somebody else watches the device.

        Raises:
            RunError: the device failed.
        """
        return self.loop(feed, LoopSettings(0, queries, 0.0))

    def close(self) -> None:
        """Free the device; safe to call twice."""
        ...


class Device(Protocol):
    """A place to build for and run on.

    A device inherits this class and defines ``spec``, ``probe``, ``build`` and ``open``. The rest
    has defaults, and a device overrides what it can do beyond them.
    """

    spec: DeviceSpec

    def probe(self) -> DeviceState:
        """Look for the device; never raises for a device that is absent or broken."""
        ...

    def build(self, onnx: OnnxModel, target: Path) -> Mapping[str, Any]:
        """Compile ``onnx`` into the file ``target`` and return facts for its provenance.

        Raises:
            BuildError: the compiler refused the model or wrote nothing usable.
        """
        ...

    def open(self, model: DeviceModel, threads: int | None = None) -> Session:
        """Load a built model.

        ``threads`` is how many of the host's compute, all by default; a device with processors of
        its own takes no notice.

        Raises:
            RunError: the model cannot be loaded.
        """
        ...

    def start(self, model: DeviceModel, feed: Feed, prepare: Callable[[Path], object]) -> Start:
        """Load a built model and run it once, in a process that has done neither before.

        ``prepare`` is called with the file that is loaded, just before that.

        Raises:
            RunError: the device failed.
        """
        before_mb = self.vitals().memory_mb
        prepare(model.artifact.path)
        start_s = time.perf_counter()
        session = self.open(model)
        try:
            ready_s = time.perf_counter()
            session.run(feed)
            ended_s = time.perf_counter()
            after_mb = self.vitals().memory_mb
        finally:
            session.close()
        load_ms, first_ms = 1000.0 * (ready_s - start_s), 1000.0 * (ended_s - ready_s)
        return Start(load_ms, first_ms, device_peak_mb=gained_mb(before_mb, after_mb))

    @property
    def model_suffix(self) -> str:
        """Ending of the file that ``build`` writes."""
        return ".onnx"

    def takes(self, op_type: str) -> bool:
        """Whether its compiler takes an ONNX operator of the default domain."""
        return True

    def shaped_by(self, onnx: OnnxModel) -> Mapping[str, object]:
        """Return what else shapes a build: options and the digest of the code that builds.

        The ONNX file, the device and the facts of its probe are part of the key already.
        """
        return {}

    def at(self, site: Any) -> "Device":
        """Return the same device, reached by the tools that site.toml names."""
        return self

    def on(self, unit_id: str) -> "Device":
        """Return the same device, bound to one of the units that its probe found."""
        return self

    def operators(self, model: DeviceModel) -> Sequence[Operator]:
        """Return the operators of a built model without running it; empty: not known.

        Raises:
            RunError: its file cannot be read.
        """
        return ()

    def in_precision(self, precision: Precision, name: str = "") -> "Device":
        """Return the same device, building in a precision, of that name in the rows of the contract.

        Raises:
            BuildError: its compiler has only one, or does not take this one.
        """
        raise BuildError(
            f"{self.spec.name} computes in {self.spec.precision} and takes no other precision: name"
            " the precision in the rows of another device"
        )

    def look(self) -> str:
        """Return the state of the unit it is bound to, for a record; empty: nothing to report.

        Raises:
            DeviceError: the unit cannot be used.
        """
        return ""

    def vitals(self) -> Vitals:
        """Return how the unit it is bound to is now, as far as its tools tell.

        Raises:
            DeviceError: they do not answer.
        """
        return Vitals()

    def inside(
        self, model: DeviceModel, feed: Feed
    ) -> contextlib.AbstractContextManager[Inside | None]:
        """Run a built model once and show the values of its operators, where the device can.

        The search for the first divergent operator then goes on inside the built model.

        Raises:
            RunError: the device failed, or keeps no values; the message says why.
        """
        return contextlib.nullcontext()

    def passport(self, model: DeviceModel) -> Mapping[str, Any] | None:
        """Return what a built model says of itself, as a ``Passport`` has it, where tools tell."""
        return None

    def toolchain(self) -> tuple[ToolState, ...]:
        """Return the tools that the device needs, for ``harness doctor``; never raises."""
        return ()

    def host_checks(self) -> tuple[ToolState, ...]:
        """Return what else the device needs of its host, such as rights; never raises."""
        return ()
