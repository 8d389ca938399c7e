"""What a soak leaves on disk while it goes on: its plan, stretches of work, and samples of the device."""

from typing import Annotated, Literal

import pydantic

from harness.errors import RecordError, first_line
from harness.measure.measurement import Measurement
from harness.timings import Vitals

# What a soak may come to: sums of it stay numbers.
Seconds = Annotated[float, pydantic.Field(gt=0.0, le=1e9)]
Since = Annotated[float, pydantic.Field(ge=0.0, le=1e9)]
Told = Annotated[float, pydantic.Field(ge=-1e12, le=1e12)]


class SoakPlan(Measurement):
    """How long a soak is to last, and how often the device is asked how it is."""

    kind: Literal["plan"] = "plan"
    seconds: Seconds
    interval_s: Seconds


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
    start_s: Since
    end_s: Seconds
    queries: Annotated[int, pydantic.Field(ge=1, le=10**9)]
    busy_s: Seconds
    processor_s: Seconds | None = None
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
    at_s: Since
    missing: str = ""
    temperature_c: Told | None = None
    power_w: Told | None = None
    energy_j: Told | None = None
    power_of: str = ""
    frequency_mhz: Told | None = None
    memory_mb: Told | None = None
    host_mb: Told | None = None
    health: str = ""


SoakLine = SoakPlan | Stretch | SoakSample
_LINE: pydantic.TypeAdapter[SoakLine] = pydantic.TypeAdapter(
    Annotated[SoakLine, pydantic.Field(discriminator="kind")]
)


def soak_lines(content: bytes) -> list[SoakLine]:
    """Read the raw lines of a soak.

    Raises:
        RecordError: a line is damaged.
    """
    try:
        return [_LINE.validate_json(line) for line in content.splitlines()]
    except pydantic.ValidationError as error:
        raise RecordError(f"the lines of a soak are damaged: {first_line(error)}") from error


def sample_from_vitals(vitals: Vitals, at_s: float) -> SoakSample:
    """Return what a device's tools told at one time."""
    return SoakSample(at_s=at_s, **vars(vitals))
