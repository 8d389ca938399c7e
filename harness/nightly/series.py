"""What a record adds to the nightly series: one value a metric, with the facts behind it."""

import dataclasses
import re
from collections.abc import Iterator, Mapping

from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.measurement import Measurement
from harness.measure.parity import ParityMeasurement
from harness.measure.speed import DEFINITIONS, SERIES, SpeedSeries
from harness.measure.throughput import ThroughputMeasurement
from harness.record.record import Record
from harness.spec import Cell, Check, Status

# A verdict that rests on a measurement that counts.
MEASURED = frozenset({Status.PASS, Status.FAIL, Status.INCONCLUSIVE})
# The edge that a device's own error shows in; the others are the host's.
WHOLE_CHAIN = ("torch_to_device", "file_to_device")
# The smallest relative change that anybody should be woken for.
MIN_CHANGE: dict[Check, float] = {"throughput": 0.02, "accuracy": 0.002, "parity": 0.5}
CHIP_FACTS = ("chip", "gpu", "name")


@dataclasses.dataclass(frozen=True, order=True)
class SeriesKey:
    """What makes two values comparable.

    ``device`` names the precision, too, where a cell has one: ``ascend310p:origin``. ``metric`` carries
    the definition, such as ``device_io.per_s``. ``host_class`` is the processor,
    its usable cores and the chip: hosts of one class share a series.
    """

    model: str
    device: str
    batch: int
    check: Check
    metric: str
    host_class: str

    @property
    def cell(self) -> Cell:
        """The cell that the series is about."""
        device, _, precision = self.device.partition(":")
        return Cell(self.model, device, self.batch, precision)

    @property
    def id(self) -> str:
        """Name for people and patterns, such as ``m-cpu-bs1:throughput:device.per_s@epyc-2cpu``."""
        return f"{self.cell.id}:{self.check}:{self.metric}@{self.host_class}"

    @property
    def is_higher_better(self) -> bool:
        """Whether a larger value is a better one: all but errors."""
        return self.check != "parity"


@dataclasses.dataclass(frozen=True)
class Point:
    """One run's value of a series.

    Attributes:
        run_id: of the run.
        started: of the run, UTC, ISO 8601.
        value: measured, in the metric's unit.
        status: of the check it comes from.
        facts: what was installed and what was judged: versions, digests, commit, tier.
    """

    run_id: str
    started: str
    value: float
    status: Status
    facts: Mapping[str, str]

    @property
    def day(self) -> str:
        """The day on which the run started."""
        return self.started[:10]


@dataclasses.dataclass(frozen=True)
class Series:
    """The values of one key, oldest first by the start of their runs."""

    key: SeriesKey
    points: tuple[Point, ...]

    @property
    def values(self) -> list[float]:
        """The values alone."""
        return [point.value for point in self.points]


@dataclasses.dataclass(frozen=True)
class Value:
    """One number of a record, with its one-sided 95 % bounds where it has some."""

    metric: str
    value: float
    low: float | None = None
    high: float | None = None


def values_from_record(record: Record) -> list[Value]:
    """Return the numbers of a record that its series keep; none unless the measurement counts.

    Raises:
        RecordError: the measurement does not fit the schema of its check.
    """
    if record.verdict.status not in MEASURED:
        return []
    return values_from_measurement(record.measurement)


def values_from_measurement(measurement: Measurement | None) -> list[Value]:
    """Return the numbers of a measurement that series keep."""
    match measurement:
        case ThroughputMeasurement() as measured:
            return list(_speeds(measured))
        case AccuracyMeasurement() as measured:
            return [
                Value(
                    f"{name}.{measured.clip_set}-{count.n}",
                    count.k / count.n,
                    count.interval.low,
                    count.interval.high,
                )
                for name, count in (("top1", measured.top1), ("top5", measured.top5))
                if count.n > 0
            ]
        case ParityMeasurement() as measured:
            return [
                Value(f"{edge.name}.{name}", error)
                for edge in measured.edges
                if edge.name in WHOLE_CHAIN
                for name, error in (
                    ("max_abs_error", edge.max_abs_error),
                    ("relative_l2", edge.relative_l2),
                )
                if error is not None
            ]
        case _:
            return []


def _speeds(measured: ThroughputMeasurement) -> Iterator[Value]:
    for definition in DEFINITIONS:
        speed = measured.speed(definition)
        if speed is None:
            continue
        for against, (name, _) in SERIES.items():
            series = speed.series(against)
            if series is not None:
                yield _value(f"{definition}.{name}", series)


def _value(metric: str, series: SpeedSeries) -> Value:
    bounds = series.bounds
    if bounds is None:
        return Value(metric, series.mean)
    return Value(metric, series.mean, bounds.low, bounds.high)


def series_device(record: Record) -> str:
    """Return the device of a record's series."""
    return f"{record.device}:{record.precision}" if record.precision else record.device


def host_class(record: Record, environment: Mapping[str, str]) -> str:
    """Name the class of hosts whose values may share a series.

    What an emulator computed never meets what a device did.
    """
    environment = {**environment, **record.host_facts}
    parts = [environment.get("cpu.model", "unknown"), f"{environment.get('cpu.usable', '?')}cpu"]
    parts += [record.device_facts[name] for name in CHIP_FACTS if name in record.device_facts][:1]
    text = "-".join(re.sub(r"[^A-Za-z0-9.?]+", "-", part).strip("-") for part in parts)
    return f"emulated-{text}" if record.is_emulated else text


def facts_of(record: Record, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what may explain a value: machine and versions, device, digests, tier and weights."""
    return {
        **environment,
        **record.host_facts,
        **{f"device.{name}": value for name, value in record.device_facts.items()},
        **{f"digest.{name}": value for name, value in record.subjects.items()},
        "tier": record.tier,
        "weights": record.weights or "unknown",
        "emulated": "yes" if record.is_emulated else "no",
    }


def changed_facts(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """Say which facts differ, such as ``device.cann: 7.0 -> 8.0``, what shapes a result first."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    ordered = sorted(names, key=lambda name: (not name.startswith(("device.", "digest.")), name))
    return tuple(
        f"{name}: {_short(before.get(name))} -> {_short(after.get(name))}" for name in ordered
    )


def _short(value: str | None) -> str:
    if value is None:
        return "absent"
    return value[:12] if re.fullmatch(r"[0-9a-f]{40,64}", value) else value
