"""A speed over its sessions: by what it is timed, beside what, in which unit."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal, get_args

from harness.measure.host_turns import Positive
from harness.measure.measurement import Measurement
from harness.measure.statistics import CONFIDENCE, Interval, session_bounds

Definition = Literal["device", "device_io", "e2e", "processor"]
DEFINITIONS: tuple[Definition, ...] = get_args(Definition)
Against = Literal["absolute", "unoptimised", "pytorch"]
# The name of the series of each, and its unit.
SERIES: Mapping[Against, tuple[str, str]] = {
    "absolute": ("per_s", "clips/s"),
    "unoptimised": ("x_unoptimised", "x unoptimised"),
    "pytorch": ("x_pytorch", "x PyTorch"),
}


class SpeedSeries(Measurement):
    """One value a session, their mean, and its two one-sided 95 % bounds (None: one session)."""

    per_session: tuple[Positive, ...]
    mean: Positive
    bounds: Interval | None


class Speed(Measurement):
    """Speed by one definition.

    Attributes:
        per_s: samples each second.
        x_unoptimised: speed over that of the exported graph without optimisation in the same
            session; None if that was not measured.
        x_pytorch: the same over PyTorch's, in records of earlier editions.
        query_count: timed queries of all sessions.
        latency_p50_ms: median of all queries.
        latency_p90_ms: a time that the 90th percentile of a session is on average not above, with
            confidence 0.95; None below two sessions of 20 queries.
        latency_p99_ms: the same of the 99th percentile (200 queries).
    """

    per_s: SpeedSeries
    x_unoptimised: SpeedSeries | None = None
    x_pytorch: SpeedSeries | None = None
    query_count: int
    latency_p50_ms: float
    latency_p90_ms: float | None
    latency_p99_ms: float | None

    def series(self, against: Against) -> SpeedSeries | None:
        """Return the speed by itself, or beside the reference."""
        found: SpeedSeries | None = getattr(self, SERIES[against][0])
        return found


def series_of(values: Sequence[float]) -> SpeedSeries:
    """Return the values of sessions with their mean and its bounds; there is at least one."""
    return SpeedSeries(
        per_session=tuple(values), mean=fmean(values), bounds=session_bounds(values, CONFIDENCE)
    )
