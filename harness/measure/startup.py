"""Raw figures of starts -> load time, first inference and peak memory, without a judgement.

Each start is a process of its own. The operating system keeps files that were read in its page cache,
so starts with the model's file out of it, ``cold``, and in it, ``warm``, are kept apart. A figure that
some start did not take is None, never 0.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import pydantic

from harness.measure.host_turns import Positive
from harness.measure.measurement import Measurement
from harness.measure.speed import SpeedSeries, series_of

Cache = Literal["cold", "warm"]
CACHES: tuple[Cache, ...] = ("cold", "warm")


class StartTiming(Measurement):
    """One start: a process that loads a model and runs it once.

    Attributes:
        cache: whether the model's file was in the page cache; None where the host could not take it
            out, or nobody did.
        load_ms: from the model's file to a session that is ready.
        first_ms: of the first inference, with the copies to and from the device.
        host_peak_mb: peak resident memory of the process.
        device_peak_mb: memory of the device that the start took.
        problems: why it does not count.
        notes: the device's state, and notes of its tools.
    """

    cache: Cache | None
    load_ms: Positive | None = None
    first_ms: Positive | None = None
    host_peak_mb: Positive | None = None
    device_peak_mb: Positive | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class StartupMeasurement(Measurement):
    """The starts of one cell: the times of each, and the largest peaks.

    ``uncooled`` counts starts that were neither cold nor warm.
    """

    kind: Literal["startup"] = "startup"
    batch: Annotated[int, pydantic.Field(ge=1)]
    session_count: int
    cold_load_ms: SpeedSeries | None
    cold_first_ms: SpeedSeries | None
    warm_load_ms: SpeedSeries | None
    warm_first_ms: SpeedSeries | None
    host_peak_mb: float | None
    device_peak_mb: float | None
    uncooled: int = 0
    invalid_reasons: tuple[str, ...] = ()


def startup_measurement(starts: Sequence[StartTiming], batch: int) -> StartupMeasurement:
    """Reduce the starts of one cell."""
    cold, warm = ([one for one in starts if one.cache == name] for name in CACHES)
    problems = [
        f"start {number}: {problem}"
        for number, one in enumerate(starts, start=1)
        for problem in one.problems
    ]
    return StartupMeasurement(
        batch=batch,
        session_count=len(starts),
        cold_load_ms=_series([one.load_ms for one in cold]),
        cold_first_ms=_series([one.first_ms for one in cold]),
        warm_load_ms=_series([one.load_ms for one in warm]),
        warm_first_ms=_series([one.first_ms for one in warm]),
        host_peak_mb=max(_all_known([one.host_peak_mb for one in starts]), default=None),
        device_peak_mb=max(_all_known([one.device_peak_mb for one in starts]), default=None),
        uncooled=sum(one.cache is None for one in starts),
        invalid_reasons=tuple(problems) if starts else ("nothing was started",),
    )


def _series(values: Sequence[float | None]) -> SpeedSeries | None:
    known = _all_known(values)
    return series_of(known) if known else None


def _all_known(values: Sequence[float | None]) -> list[float]:
    """Return the values; none of them where some start did not take its own."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []
