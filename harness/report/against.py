"""This release beside another one: what changed, by how much, and whether that is more than noise.

Of two releases the sessions of each speed are compared (Welch, on logarithms), of a frozen baseline
its runs with this one, and of accuracy the counts of right clips (Newcombe). Sessions of one run
resemble each other more than runs do, so a speed that is told apart may still be the machine's.
"""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from harness import registry
from harness.measure.measurement import Measurement
from harness.measure.statistics import CONFIDENCE, wilson_interval
from harness.measure.throughput import ThroughputMeasurement
from harness.nightly.baseline import Baseline
from harness.nightly.series import MEASURED, values_from_record
from harness.record.record import Record
from harness.report.comparison_values import Change, Comparison, VersionChange
from harness.report.evidence import Evidence
from harness.report.merge import Merged
from harness.report.values import Release
from harness.spec import Check

if TYPE_CHECKING:
    from harness.measure.speed import Definition, SpeedSeries

# Two-sided, as a change may go either way.
_QUANTILE = 1.0 - (1.0 - CONFIDENCE) / 2.0
_PACKAGES = ("package.", "python", "os")


@dataclasses.dataclass(frozen=True)
class Sample:
    """The values of one number, one a session or a run; of accuracy ``clips`` is how many there are."""

    check: Check
    values: tuple[float, ...]
    clips: int = 0
    is_higher_better: bool = True

    @property
    def mean(self) -> float:
        """The value that is shown."""
        return math.fsum(self.values) / len(self.values)


Samples = Mapping[tuple[str, str], Sample]
# The runs of a release with the evidence by cell.
Seen = tuple[Merged, Mapping[str, Evidence]]


def samples_of(
    records: Iterable[Record], evidence: Mapping[str, Evidence]
) -> dict[tuple[str, str], Sample]:
    """Return the samples of a release by cell and metric; only measurements that count have any."""
    found: dict[tuple[str, str], Sample] = {}
    for record in records:
        if record.verdict.status not in MEASURED:
            continue
        cell = record.cell.id
        for value in values_from_record(record):
            values = _sessions(record.measurement, value.metric) or (value.value,)
            found[cell, value.metric] = _sample(record.check, value.metric, values)
        sessions = evidence[cell].sessions if record.check == "throughput" else ()
        times = [one.device_io_ms or one.device_ms or one.e2e_ms for one in sessions]
        if times and all(times):
            medians = tuple(median(one) for one in times)
            found[cell, "latency_p50_ms"] = Sample("throughput", medians, is_higher_better=False)
    return found


def samples_of_baseline(baseline: Baseline) -> dict[tuple[str, str], Sample]:
    """Return the samples of a frozen baseline; of hosts of several classes the first counts."""
    found: dict[tuple[str, str], Sample] = {}
    for one in baseline.series:
        sample = _sample(one.check, one.metric, one.values)
        found.setdefault((one.key.cell.id, one.metric), sample)
    return found


def _sample(check: Check, metric: str, values: tuple[float, ...]) -> Sample:
    clips = metric.rpartition("-")[2] if check == "accuracy" else "0"
    return Sample(check, values, int(clips), is_higher_better=check != "parity")


def _sessions(measured: Measurement | None, metric: str) -> tuple[float, ...]:
    if not isinstance(measured, ThroughputMeasurement):
        return ()
    definition, _, name = metric.partition(".")
    kind: Definition = definition  # type: ignore[assignment]
    speed = measured.speed(kind)
    series: SpeedSeries | None = getattr(speed, name, None)
    return () if series is None else tuple(series.per_session)


def changes(before: Samples, after: Samples) -> tuple[Change, ...]:
    """Return every number that both have, those told apart from noise first, the largest first."""
    both = before.keys() & after.keys()
    # Of a host that is judged by a ratio, the clips a second say little.
    beside = {cell for cell, metric in both if metric.startswith("processor.x_")}
    found = [
        _change(cell, metric, before[cell, metric], after[cell, metric])
        for cell, metric in both
        if cell not in beside or not metric.endswith(".per_s")
    ]
    return tuple(sorted(found, key=_prominence))


def _prominence(change: Change) -> tuple[bool, bool, float, str]:
    return (
        not change.is_told_apart,
        not change.is_worse,
        -abs(change.change),
        f"{change.id} {change.name}",
    )


def _change(cell: str, metric: str, before: Sample, after: Sample) -> Change:
    is_share = after.check == "accuracy"
    interval = _points(before, after) if is_share else _ratio(before.values, after.values)
    size = (
        after.mean - before.mean
        if is_share
        else after.mean / before.mean - 1.0
        if before.mean
        else 0.0
    )
    return Change(
        id=f"{cell}:{after.check}",
        check=after.check,
        name=metric,
        before=before.mean,
        after=after.mean,
        change=100.0 * size,
        low=None if interval is None else 100.0 * interval[0],
        high=None if interval is None else 100.0 * interval[1],
        unit="points" if is_share else "%",
        is_worse=(size < 0.0) is after.is_higher_better and size != 0.0,
    )


def _points(before: Sample, after: Sample) -> tuple[float, float]:
    """Return Newcombe's interval of a difference of two shares."""
    one, two = (
        wilson_interval(round(sample.mean * sample.clips), sample.clips)
        for sample in (before, after)
    )
    low = math.hypot(after.mean - two.low, one.high - before.mean)
    high = math.hypot(two.high - after.mean, before.mean - one.low)
    return after.mean - before.mean - low, after.mean - before.mean + high


def _ratio(before: Sequence[float], after: Sequence[float]) -> tuple[float, float] | None:
    """Return the interval of a relative change; None where too little is known of the noise."""
    from scipy.special import stdtrit

    if min(*before, *after) <= 0.0 or len(before) < 2:
        return None
    logs, now = [math.log(one) for one in before], [math.log(one) for one in after]
    old = _variance(logs)
    # One run against several: its own noise is that of the others.
    new = _variance(now) if len(now) > 1 else old * len(logs)
    parts = ((old, len(logs) - 1), (new, max(len(now), 2) - 1 if len(now) > 1 else len(logs) - 1))
    total = old + new
    freedom = total**2 / sum(part**2 / free for part, free in parts) if total else 1.0
    half = float(stdtrit(freedom, _QUANTILE)) * math.sqrt(total)
    middle = math.fsum(now) / len(now) - math.fsum(logs) / len(logs)
    return math.expm1(middle - half), math.expm1(middle + half)


def _variance(values: Sequence[float]) -> float:
    """Return the variance of the mean of some values."""
    mean = math.fsum(values) / len(values)
    return math.fsum((one - mean) ** 2 for one in values) / (len(values) - 1) / len(values)


def against_release(name: str, content: bytes, before: Seen, after: Seen) -> Comparison:
    """Compare with another release: ``content`` is its ``signoff.json``."""
    release = Release.from_json(content, name)
    samples = [samples_of(merged.records.values(), found) for merged, found in (before, after)]
    cells = [
        {one.cell.id for one in merged.records.values() if one.is_device_present}
        for merged, _ in (before, after)
    ]
    return Comparison(
        name=name,
        kind="release",
        digest=hashlib.sha256(content).hexdigest(),
        decision=release.decision,
        changes=changes(*samples),
        versions=tuple(_versions(before[0], after[0])),
        added=tuple(sorted(cells[1] - cells[0])),
        gone=tuple(sorted(cells[0] - cells[1])),
    )


def against_baseline(
    path: Path, baseline: Baseline, after: Merged, new: Mapping[str, Evidence]
) -> Comparison:
    """Compare with a frozen baseline."""
    before, now = samples_of_baseline(baseline), samples_of(after.records.values(), new)
    cells = [{cell for cell, _ in samples} for samples in (before, now)]
    contract = [baseline.thresholds_digest, after.runs[0].thresholds]
    return Comparison(
        name=path.name,
        kind="baseline",
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        changes=changes(before, now),
        versions=tuple(_differing("thresholds", [contract[0]], [contract[1]])),
        added=tuple(sorted(cells[1] - cells[0])),
        gone=tuple(sorted(cells[0] - cells[1])),
    )


def _versions(before: Merged, after: Merged) -> Iterator[VersionChange]:
    facts = [_facts(merged) for merged in (before, after)]
    for name in sorted({*facts[0], *facts[1]}):
        yield from _differing(name, facts[0].get(name, ()), facts[1].get(name, ()))


def _facts(merged: Merged) -> dict[str, dict[str, None]]:
    found: dict[str, dict[str, None]] = {}
    for run in merged.runs:
        for name, value in (("suite", run.commit), ("thresholds", run.thresholds)):
            found.setdefault(name, {})[value] = None
        for name, value in run.environment.items():
            if name.startswith(_PACKAGES):
                found.setdefault(name, {})[value] = None
    for record in merged.records.values():
        own = itertools.chain(
            ((f"{record.device} {name}", value) for name, value in _lasting(record)),
            (
                (f"{record.model} {name}", value)
                for name, value in record.subjects.items()
                if name == "weights"
            ),
        )
        for name, value in own:
            found.setdefault(name, {})[value] = None
    return found


def _lasting(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the facts of a device that are versions, not its temperature."""
    spec = registry.device_specs().get(record.device)
    names = () if spec is None else ("chip", spec.version_fact, *spec.facts)
    yield from ((name, text) for name, text in record.device_facts.items() if name in names)


def _differing(name: str, before: Iterable[str], after: Iterable[str]) -> Iterator[VersionChange]:
    old, new = sorted(before), sorted(after)
    if old != new:
        yield VersionChange(name=name, before=_short(old), after=_short(new))


def _short(values: Sequence[str]) -> str:
    shown = (value[:12] if len(value) >= 40 and value.isalnum() else value for value in values)
    return ", ".join(shown) or "–"
