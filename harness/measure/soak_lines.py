"""What a soak leaves on disk while it goes on: its plan, stretches of work, and samples of the device."""

from typing import Annotated, Literal

import pydantic

from harness.measure.host_turns import Positive
from harness.measure.measurement import Measurement
from harness.timings import Vitals


class SoakPlan(Measurement):
    """How long a soak is to last, and how often the device is asked how it is."""

    kind: Literal["plan"] = "plan"
    seconds: Positive
    interval_s: Positive


class Stretch(Measurement):
    """Some of the work, in seconds since the soak began.

    Attributes:
        queries: that were run.
        busy_s: that the device computed.
        processor_s: of all threads; None of a device that is not the host.
        is_output_same: whether it computed what the first stretch did; None where nobody looked.
        problems: why it does not count.
    """

    kind: Literal["stretch"] = "stretch"
    start_s: float
    end_s: float
    queries: Annotated[int, pydantic.Field(ge=1)]
    busy_s: Positive
    processor_s: Positive | None = None
    is_output_same: bool | None = None
    problems: tuple[str, ...] = ()

    @property
    def cost_s(self) -> float:
        """What the speed is about: processor time of a host, compute time of a device."""
        return self.busy_s if self.processor_s is None else self.processor_s

    @property
    def middle_s(self) -> float:
        """Its middle."""
        return (self.start_s + self.end_s) / 2.0


class SoakSample(Measurement):
    """How the device was at one time; ``missing`` says why its tools did not answer, or is empty."""

    kind: Literal["sample"] = "sample"
    at_s: float
    missing: str = ""
    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    power_of: str = ""
    frequency_mhz: float | None = None
    memory_mb: float | None = None
    host_mb: float | None = None
    health: str = ""


SoakLine = SoakPlan | Stretch | SoakSample
_LINE: pydantic.TypeAdapter[SoakLine] = pydantic.TypeAdapter(
    Annotated[SoakLine, pydantic.Field(discriminator="kind")]
)


def soak_lines(content: bytes) -> list[SoakLine]:
    """Read the raw lines of a soak.

    Raises:
        ValueError: a line is damaged.
    """
    return [_LINE.validate_json(line) for line in content.splitlines()]


def sample_from_vitals(vitals: Vitals, at_s: float) -> SoakSample:
    """Return what a device's tools told at one time."""
    return SoakSample(at_s=at_s, **vars(vitals))
