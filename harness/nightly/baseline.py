"""The frozen baseline: what a release was, reviewed by a person, and never moved by the harness.

``baseline.json`` holds the values of one or more green runs of one tier. It is written once and
carries its own digest: an edited one is refused, and a new one is a new file in a reviewed commit.
"""

import dataclasses
import datetime
import fnmatch
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from harness.decide.problems import problems
from harness.errors import BaselineError, RecordError
from harness.host.reading import bytes_from_file, json_from_text
from harness.measure.measurement import Measurement
from harness.nightly.change_points import change_points
from harness.nightly.series import (
    MIN_CHANGE,
    SeriesKey,
    host_class,
    series_device,
    values_from_record,
)
from harness.record.record import Record, RunDirectory, RunFacts
from harness.spec import Check

# Chance refuses about one freeze in twenty, however many series it has: the p-value of a change point is
# that of the best of many places, which ten simulated nights made up to twenty times too small.
CHANGE_MAX_P, FAMILY_P, PLACES = 0.001, 0.05, 20

Text = Annotated[str, pydantic.Field(min_length=1)]


class BaselineSeries(Measurement):
    """The values of one series, one a run; the other fields are those of ``SeriesKey``."""

    model: str
    device: str
    batch: int
    check: Check
    metric: str
    host_class: str
    values: Annotated[tuple[float, ...], pydantic.Field(min_length=1)]

    @property
    def key(self) -> SeriesKey:
        """What the values are comparable with."""
        return SeriesKey(
            self.model, self.device, self.batch, self.check, self.metric, self.host_class
        )


class Baseline(Measurement):
    """A frozen release.

    Attributes:
        schema_version: of this class.
        tier: of its runs.
        reviewer: who answers for it.
        reason: why it was frozen.
        frozen: date, ISO 8601.
        runs: ids of its runs.
        newest_started: of its runs, UTC, ISO 8601: later nights are compared with it.
        thresholds_digest: of the contract that its runs met.
        series: its values.
        digest: sha256 of all the above; the file was edited where it does not fit.
    """

    schema_version: Literal[1] = 1
    tier: str
    reviewer: Text
    reason: Text
    frozen: str
    runs: tuple[str, ...]
    newest_started: str
    thresholds_digest: str
    series: tuple[BaselineSeries, ...]
    digest: str = ""

    def by_key(self) -> dict[SeriesKey, BaselineSeries]:
        """Return the series by what they are comparable with."""
        return {one.key: one for one in self.series}


def freeze(
    runs: Sequence[RunDirectory], pattern: str, reviewer: str, reason: str, today: datetime.date
) -> Baseline:
    """Return the baseline that green runs make, of the cells that fit a shell pattern.

    Raises:
        BaselineError: a run is red, open, emulated or of seeded weights, or they are none or do not
            belong together, their level changed, or nobody signs for it.
        RecordError: a run cannot be read.
    """
    for name, text in (("--reviewer", reviewer), ("--reason", reason)):
        if not text.strip():
            raise BaselineError(f"a baseline is reviewed: {name} must say something")
    runs = sorted(runs, key=lambda run: datetime.datetime.fromisoformat(run.facts().started))
    facts = [run.facts() for run in runs]
    _refuse_mixed(facts)
    values: dict[SeriesKey, list[float]] = {}
    for run, fact in zip(runs, facts, strict=True):
        for key, value in _values(run, fact, pattern):
            values.setdefault(key, []).append(value)
    _refuse_change(values, facts)
    if not values:
        raise BaselineError(f"no cell with a measured value fits {pattern!r}: nothing to freeze")
    baseline = Baseline(
        tier=facts[0].tier,
        reviewer=reviewer,
        reason=reason,
        frozen=today.isoformat(),
        runs=tuple(fact.run_id for fact in facts),
        newest_started=max(fact.started for fact in facts),
        thresholds_digest=facts[0].thresholds_digest,
        series=tuple(
            BaselineSeries(**dataclasses.asdict(key), values=tuple(values[key]))
            for key in sorted(values)
        ),
    )
    return baseline.model_copy(update={"digest": _digest(baseline)})


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write the file; one that is there is never replaced.

    Raises:
        BaselineError: it is there, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(baseline.model_dump_json(indent=1) + "\n")
    except FileExistsError as error:
        raise BaselineError(
            f"{path} is there; a baseline is never replaced: name a new file, and let the commit "
            "that uses it be reviewed"
        ) from error
    except OSError as error:
        raise BaselineError(f"cannot write the baseline {path}: {error.strerror}") from error


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BaselineError: it is missing, damaged, of another schema or edited.
    """
    try:
        text = bytes_from_file(path)
        version = json_from_text(text).get("schema_version")
    except (OSError, ValueError, AttributeError) as error:
        raise BaselineError(
            f"{path} cannot be read as a baseline: {error}; `harness baseline freeze` makes one"
        ) from error
    if version != 1:
        raise BaselineError(
            f"{path} has schema version {version}, this harness reads 1: freeze its runs again"
        )
    try:
        baseline = Baseline.from_json(text, path)
    except RecordError as error:
        raise BaselineError(str(error)) from error
    if baseline.digest != _digest(baseline):
        raise BaselineError(
            f"{path} was edited since it was frozen: its digest does not fit; take it from the "
            "commit that was reviewed, or freeze the runs again"
        )
    return baseline


def refuse_foreign(baseline: Baseline, tier: str, keys: Sequence[SeriesKey], path: Path) -> None:
    """Make sure that a baseline is about the cells that were run.

    Raises:
        BaselineError: it is of another tier, or has no model, device or host class in common.
    """
    if baseline.tier != tier:
        raise BaselineError(
            f"{path} was frozen from runs of tier {baseline.tier}, this run is of tier {tier}: "
            "they measure with different patience"
        )
    for name in ("model", "device", "host_class"):
        ours = {str(getattr(key, name)) for key in keys}
        theirs = {str(getattr(one, name)) for one in baseline.series}
        if ours and not ours & theirs:
            raise BaselineError(
                f"{path} is a baseline of another {name}: it has {', '.join(sorted(theirs))}, "
                f"the run has {', '.join(sorted(ours))}"
            )


def _refuse_mixed(facts: Sequence[RunFacts]) -> None:
    if not facts:
        raise BaselineError("a baseline is frozen from at least one run")
    for what, found in (
        ("tiers", {fact.tier for fact in facts}),
        ("contracts (sha256 of thresholds.toml)", {fact.thresholds_digest for fact in facts}),
    ):
        if len(found) > 1:
            raise BaselineError(f"the runs are of different {what}: {', '.join(sorted(found))}")
    if len({fact.run_id for fact in facts}) < len(facts):
        raise BaselineError("a run is named twice; each counts once")


def _refuse_change(values: Mapping[SeriesKey, Sequence[float]], facts: Sequence[RunFacts]) -> None:
    """Refuse runs between which the level changed: their mean is the level of none of them."""
    max_p = min(CHANGE_MAX_P, FAMILY_P / PLACES / max(1, len(values)))
    found = [
        f"{key.id} {100 * point.change:+.1f} % since {facts[point.index].started[:10]} "
        f"({facts[point.index].run_id})"
        for key, each in sorted(values.items())
        if len(each) == len(facts)
        for point in change_points(each, max_p=max_p, min_magnitude=MIN_CHANGE[key.check])
    ]
    if found:
        raise BaselineError(
            f"the level changed between these runs, and a baseline has one level: {found[0]}"
            f"{f' and {len(found) - 1} more' if len(found) > 1 else ''}; freeze the runs before "
            "or after that night"
        )


def _values(run: RunDirectory, facts: RunFacts, pattern: str) -> Iterator[tuple[SeriesKey, float]]:
    records = [one for one in run.records() if fnmatch.fnmatchcase(one.cell.id, pattern)]
    required = [name for name in facts.must_pass if fnmatch.fnmatchcase(_cell(name), pattern)]
    found = problems(records, required, facts.faults)
    if found:
        raise BaselineError(
            f"run {facts.run_id} is not green and makes no baseline: {found[0].id} is "
            f"{found[0].status}: {found[0].reason}"
        )
    for record in records:
        if record.measurement is None:
            continue
        _refuse_unfit(record)
        for value in values_from_record(record):
            yield _key(record, value.metric, facts), value.value


def _cell(name: str) -> str:
    return name.partition(":")[0]


def _key(record: Record, metric: str, facts: RunFacts) -> SeriesKey:
    hosts = host_class(record, facts.environment)
    return SeriesKey(record.model, series_device(record), record.batch, record.check, metric, hosts)


def _refuse_unfit(record: Record) -> None:
    if record.is_emulated:
        raise BaselineError(f"{record.id} was emulated; only what a device did makes a baseline")
    if record.weights != "checkpoint":
        raise BaselineError(
            f"{record.id} ran with {record.weights or 'unknown'} weights; a baseline is of a "
            "checkpoint: leave such cells out with --cells"
        )


def _digest(baseline: Baseline) -> str:
    text = baseline.model_copy(update={"digest": ""}).model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()
