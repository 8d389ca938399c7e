"""What a device and a session on it are: the seam between the suite and the runtimes."""

import dataclasses
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.spec import DeviceModel, Feed, OnnxModel


class Presence(enum.StrEnum):
    """What a probe found; the three are never mixed up."""

    PRESENT = "present"
    ABSENT = "absent"
    BROKEN = "broken"


@dataclasses.dataclass(frozen=True)
class DeviceState:
    """What a probe of one device found, with the facts that a record keeps.

    Attributes:
        presence: absent, broken or present.
        detail: for a person: what was looked for, what was found, what to do.
        facts: chip, driver, versions, health, as text by name.
        unit_ids: physical chips that may be locked and used, most idle first.
        emulated: whether an emulator answered; such a run can never be signed off.
    """

    presence: Presence
    detail: str
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unit_ids: tuple[str, ...] = ()
    emulated: bool = False


@dataclasses.dataclass(frozen=True)
class DeviceSpec:
    """What a device is, known without touching it.

    Attributes:
        name: name of the file that defines it, and its pytest marker.
        runtime: ``ort`` or ``cann``.
        description: for the help text.
        precision: of the arithmetic, which chooses the parity limits.
        allowed_ops: ONNX operators of the default domain that its compiler takes.
        soc_names: chip names that count as this device (Ascend only).
    """

    name: str
    runtime: Literal["ort", "cann"]
    description: str
    precision: Literal["fp32", "fp16"]
    allowed_ops: frozenset[str]
    soc_names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class LoopTimes:
    """Times of one session that runs the same feed again and again, in milliseconds a query.

    ``device_ms`` is the compute alone, ``device_io_ms`` adds the copies to and from the device.
    Warm-up queries are not in it. ``output`` is what the last timed query computed, ``problems``
    are why the times do not count, and ``notes`` how the device was before and after.
    """

    device_ms: tuple[float, ...]
    device_io_ms: tuple[float, ...]
    output: Feed | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """How long a session is timed: at least ``min_queries`` and ``min_seconds``, after warm-up."""

    warmup_queries: int = 5
    min_queries: int = 20
    min_seconds: float = 2.0


class Session(Protocol):
    """A loaded model on a device."""

    def run(self, feed: Feed) -> Feed:
        """Run one batch: arrays by input name in, arrays by output name out.

        Raises:
            RunError: the device failed; the message says what it printed.
        """
        ...

    def loop(self, feed: Feed, settings: LoopSettings) -> LoopTimes:
        """Run the same batch again and again and return the time of each query.

        Raises:
            RunError: the device failed.
        """
        ...

    def close(self) -> None:
        """Free the device; safe to call twice."""
        ...


class Device(Protocol):
    """A place to build for and run on."""

    @property
    def spec(self) -> DeviceSpec:
        """What it is, known without touching it."""
        ...

    def probe(self) -> DeviceState:
        """Look for the device; never raises for a device that is absent or broken."""
        ...

    def build(self, onnx: OnnxModel, target: Path) -> Mapping[str, Any]:
        """Compile ``onnx`` into the file ``target`` and return facts for its provenance.

        Raises:
            BuildError: the compiler refused the model or wrote nothing usable.
        """
        ...

    def open(self, model: DeviceModel) -> Session:
        """Load a built model.

        Raises:
            RunError: the model cannot be loaded.
        """
        ...
