"""Raw lines of a soak -> speed by minute, its trend and retention, heat, memory and energy; no judgement.

A soak runs one model on one device without a break, stretch after stretch, while the device's own tools
are asked how it is. What they did not tell is None, never 0.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Annotated, Literal

import pydantic

from harness.errors import RecordError
from harness.measure.host_turns import Positive
from harness.measure.measurement import Measurement
from harness.measure.soak_lines import SoakLine, SoakPlan, SoakSample, Stretch
from harness.measure.statistics import CONFIDENCE, Interval, student_quantile

# Retention compares the last ten minutes with the first; thirds of a run shorter than half an hour.
WINDOW_S = 600.0
WINDOWS = 3.0
# A soak that was stopped before this share of its time is not whole: the last stretch may be left out.
WHOLE = 0.9
# Samples further apart than so many intervals have a gap between them.
GAP = 2.5
# Of the time that power must be known of, for the energy of a clip.
COVERED = 0.5


class Range(Measurement):
    """The least and the greatest of some samples, the first and the last, and how many there are."""

    low: float
    high: float
    first: float
    last: float
    count: int


class Power(Measurement):
    """Power over time.

    Attributes:
        mean_w: while it was known.
        of: what it is of: a chip, a card or the host's processors.
        covered_s: how long it was known.
        gaps: intervals between samples in which it was not.
        clip_j: energy of one clip; None where power was known for less than half the time.
    """

    mean_w: float
    of: str
    covered_s: float
    gaps: int
    clip_j: float | None


class SoakMeasurement(Measurement):
    """What a soak showed.

    Attributes:
        definition: of the speed: ``processor`` of a host, ``device`` of any other device.
        planned_s, lasted_s: how long it was to work, and did.
        per_s: clips a second of each stretch.
        busy_share: of the time that the device computed.
        trend: change of the speed in percent an hour, with its 95 % interval; None below three
            stretches.
        window_s: what retention and growth compare: the end with the beginning.
        retention: speed at the end over that at the beginning; None of a soak with one stretch.
        host_growth_mb, device_growth_mb: memory at the end less that at the beginning.
        unhealthy: samples whose health is not OK, and what it is; None where nobody tells health.
        silent: samples that the tools did not answer; ``silence`` is what they said at first.
    """

    kind: Literal["soak"] = "soak"
    batch: Annotated[int, pydantic.Field(ge=1)]
    definition: Literal["processor", "device"]
    planned_s: float
    lasted_s: float
    per_s: tuple[Positive, ...]
    busy_share: float
    trend: Interval | None
    window_s: float
    retention: Positive | None
    temperature_c: Range | None
    frequency_mhz: Range | None
    host_growth_mb: float | None
    device_growth_mb: float | None
    power: Power | None
    unhealthy: tuple[str, ...] | None
    sample_count: int
    silent: int
    silence: str = ""
    invalid_reasons: tuple[str, ...] = ()

    @property
    def is_stopped(self) -> bool:
        """Whether it ended before its time."""
        return self.lasted_s < WHOLE * self.planned_s


def soak_measurement(lines: Iterable[SoakLine], batch: int) -> SoakMeasurement:
    """Reduce the raw lines of a soak.

    Raises:
        RecordError: its plan is not among them.
    """
    found = list(lines)
    plan = next((one for one in found if isinstance(one, SoakPlan)), None)
    if plan is None:
        raise RecordError("what a soak left has no plan")
    stretches = [one for one in found if isinstance(one, Stretch)]
    lasted_s = stretches[-1].end_s if stretches else 0.0
    # What was sampled after the last whole stretch is of work that nobody knows.
    samples = [one for one in found if isinstance(one, SoakSample) and one.at_s <= lasted_s]
    window_s = min(WINDOW_S, lasted_s / WINDOWS)
    told = [one for one in samples if not one.missing]
    silent = [one.missing for one in samples if one.missing]
    healths = [one.health for one in told if one.health]
    is_host = bool(stretches) and all(one.processor_s is not None for one in stretches)
    return SoakMeasurement(
        batch=batch,
        definition="processor" if is_host else "device",
        planned_s=plan.seconds,
        lasted_s=lasted_s,
        per_s=tuple(batch * one.queries / one.cost_s for one in stretches),
        busy_share=sum(one.busy_s for one in stretches) / lasted_s if stretches else 0.0,
        trend=_trend(stretches),
        window_s=window_s,
        retention=_retention(stretches, window_s, lasted_s),
        temperature_c=_range([one.temperature_c for one in told]),
        frequency_mhz=_range([one.frequency_mhz for one in told]),
        host_growth_mb=_growth([(one.at_s, one.host_mb) for one in samples], window_s, lasted_s),
        device_growth_mb=_growth(
            [(one.at_s, one.memory_mb) for one in samples], window_s, lasted_s
        ),
        power=_power(samples, plan, lasted_s, batch * sum(one.queries for one in stretches)),
        unhealthy=tuple(one for one in healths if one != "OK") if healths else None,
        sample_count=len(samples),
        silent=len(silent),
        silence=silent[0] if silent else "",
        invalid_reasons=tuple(_problems(stretches)),
    )


def _retention(stretches: Sequence[Stretch], window_s: float, lasted_s: float) -> float | None:
    """Return the speed at the end over that at the beginning."""
    first = [one for one in stretches if one.middle_s <= window_s]
    last = [one for one in stretches if one.middle_s >= lasted_s - window_s]
    return _speed(last) / _speed(first) if first and last else None


def _speed(stretches: Sequence[Stretch]) -> float:
    return sum(one.queries for one in stretches) / sum(one.cost_s for one in stretches)


def _growth(
    values: Sequence[tuple[float, float | None]], window_s: float, lasted_s: float
) -> float | None:
    """Return the middle value at the end less that at the beginning, of values by their time."""
    known = [(at_s, value) for at_s, value in values if value is not None]
    first = [value for at_s, value in known if at_s <= window_s]
    last = [value for at_s, value in known if at_s >= lasted_s - window_s]
    return median(last) - median(first) if first and last else None


def _problems(stretches: Sequence[Stretch]) -> list[str]:
    if not stretches:
        return ["no stretch finished"]
    found = [f"stretch {n}: {text}" for n, one in enumerate(stretches, 1) for text in one.problems]
    differing = [n for n, one in enumerate(stretches, 1) if one.is_output_same is False]
    if differing:
        found.append(f"stretch {differing[0]} did not compute what the first one computed")
    return found


def _range(values: Sequence[float | None]) -> Range | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Range(low=min(known), high=max(known), first=known[0], last=known[-1], count=len(known))


def _trend(stretches: Sequence[Stretch]) -> Interval | None:
    """Return the interval of the slope of the least-squares line, in percent of the mean an hour."""
    count = len(stretches)
    if count < 3:
        return None
    hours = [one.middle_s / 3600.0 for one in stretches]
    speeds = [one.queries / one.cost_s for one in stretches]
    x, y = math.fsum(hours) / count, math.fsum(speeds) / count
    width = math.fsum((hour - x) ** 2 for hour in hours)
    if width == 0.0:
        return None
    slope = math.fsum((a - x) * (b - y) for a, b in zip(hours, speeds, strict=True)) / width
    errors = [b - y - slope * (a - x) for a, b in zip(hours, speeds, strict=True)]
    variance = math.fsum(error**2 for error in errors) / (count - 2)
    half = student_quantile(count - 2, (1.0 + CONFIDENCE) / 2.0) * math.sqrt(variance / width)
    scale = 100.0 / y
    return Interval(low=scale * (slope - half), high=scale * (slope + half), confidence=CONFIDENCE)


def _power(
    samples: Sequence[SoakSample], plan: SoakPlan, lasted_s: float, clips: int
) -> Power | None:
    pairs = list(itertools.pairwise(samples))
    known = [
        (joules, b.at_s - a.at_s) for a, b in pairs if (joules := _joules(a, b, plan)) is not None
    ]
    if not known:
        return None
    joules, covered_s = (math.fsum(values) for values in zip(*known, strict=True))
    mean_w = joules / covered_s
    return Power(
        mean_w=mean_w,
        of=next((one.power_of for one in samples if one.power_of), ""),
        covered_s=covered_s,
        gaps=len(pairs) - len(known),
        clip_j=mean_w * lasted_s / clips if covered_s >= COVERED * lasted_s else None,
    )


def _joules(a: SoakSample, b: SoakSample, plan: SoakPlan) -> float | None:
    """Return the energy between two samples; None across a gap, or where nobody knows it."""
    seconds = b.at_s - a.at_s
    if not 0.0 < seconds <= GAP * plan.interval_s:
        return None
    if a.energy_j is not None and b.energy_j is not None:
        # A counter that has run over tells nothing.
        return b.energy_j - a.energy_j if b.energy_j >= a.energy_j else None
    if a.power_w is None or b.power_w is None:
        return None
    return seconds * (a.power_w + b.power_w) / 2.0
