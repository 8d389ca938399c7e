"""How a device is timed and what it answers: loops, starts, and how it is meanwhile."""

import dataclasses

from harness.spec import Feed


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """How long a session is timed: at least ``min_queries`` and ``min_seconds``, after warm-up."""

    warmup_queries: int = 5
    min_queries: int = 20
    min_seconds: float = 2.0


@dataclasses.dataclass(frozen=True)
class LoopTimes:
    """Times of one session that runs the same feed again and again, in milliseconds a query.

    ``device_ms`` is the compute alone, ``device_io_ms`` adds the copies to and from the device.
    Warm-up queries are left out. ``output`` is from the last timed query, ``problems`` say why the
    times do not count, and ``notes`` say how the device was before and after.
    """

    device_ms: tuple[float, ...]
    device_io_ms: tuple[float, ...]
    output: Feed | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Start:
    """What one start took; None for what nobody measured.

    Attributes:
        load_ms: from the model's file to a session that is ready.
        first_ms: of the first inference, with the copies to and from the device.
        host_peak_mb: peak resident memory, where another process than this one loaded the model.
        device_peak_mb: memory of the device that the start took.
        problems, notes: as those of ``LoopTimes``.
    """

    load_ms: float | None
    first_ms: float | None
    host_peak_mb: float | None = None
    device_peak_mb: float | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Vitals:
    """How a unit is while it works, as its tools tell; None, or empty, for what they do not.

    Attributes:
        temperature_c, frequency_mhz: of its cores.
        power_w: now.
        energy_j: used since some time in the past, by a counter.
        power_of: what power and energy are of: a chip, a card or the host's processors.
        memory_mb: of the unit that is taken.
        host_mb: resident memory of this process, where the model is in it.
        health: ``OK`` where it is well.
    """

    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    power_of: str = ""
    frequency_mhz: float | None = None
    memory_mb: float | None = None
    host_mb: float | None = None
    health: str = ""


def gained_mb(before_mb: float | None, after_mb: float | None) -> float | None:
    """Return the memory that a device gained; None where that cannot be told."""
    if before_mb is None or after_mb is None or after_mb <= before_mb:
        return None
    return float(after_mb - before_mb)
