"""One night against the series it belongs to: what got worse, and what changed that night."""

import dataclasses
import datetime
import math
from collections.abc import Collection, Sequence
from enum import StrEnum

from harness.measure.speed import SERIES
from harness.nightly.baseline import Baseline, BaselineSeries
from harness.nightly.change_points import ChangePoint, change_points
from harness.nightly.losses import (
    NIGHTS_TO_A_FALSE_RED,
    RULES,
    Loss,
    Reference,
    losses,
    reference_from_values,
)
from harness.nightly.noise import STEPS_MIN, scaled, sd_of_steps
from harness.nightly.series import MIN_CHANGE, Series, SeriesKey, changed_facts
from harness.spec import Status


class Kind(StrEnum):
    """What a notice is about."""

    CONTRACT = "contract"
    LOSS = "loss"
    SUSPECT = "suspect night"
    NO_BASELINE = "missing baseline"
    NO_NIGHT = "missing night"
    NO_CELL = "missing cell"
    NO_PAST = "too few nights"


@dataclasses.dataclass(frozen=True)
class Notice:
    """One reason not to be green; ``changes`` is what changed that night, as far as recorded."""

    kind: Kind
    id: str
    status: Status
    reason: str
    changes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Past:
    """A series up to tonight, which is its last point.

    Attributes:
        series: without the nights after tonight.
        entry: of the frozen baseline, or None: the first nights of the series stand in for it.
        fresh: nights since the reference.
    """

    series: Series
    entry: BaselineSeries | None
    fresh: int

    @property
    def key(self) -> SeriesKey:
        """What is compared."""
        return self.series.key

    @property
    def reference_values(self) -> Sequence[float]:
        """The values that tonight is compared with."""
        return self.series.values[: -self.fresh] if self.entry is None else self.entry.values

    @property
    def reference(self) -> Reference:
        """The level that tonight is compared with."""
        return reference_from_values(scaled(self.reference_values, self.key.is_higher_better))

    @property
    def least(self) -> float:
        """Smallest change that counts, of logarithms."""
        change = MIN_CHANGE[self.key.check]
        return -math.log1p(-change) if self.key.is_higher_better else math.log1p(change)

    @property
    def level_changes(self) -> list[ChangePoint]:
        """The change points after the baseline, or all where there is none."""
        first = 0 if self.entry is None else len(self.series.points) - self.fresh
        return [point for point in level_changes(self.series) if point.index >= first]

    @property
    def is_noise_known(self) -> bool:
        """Whether there are enough nights before tonight to know what varies by itself."""
        return len(self.series.points) > STEPS_MIN + 1


def pasts(
    series: Sequence[Series], run_id: str, baseline: Baseline | None, waived: Collection[str] = ()
) -> list[Past]:
    """Return the series that a run belongs to, without the nights after it.

    A check that is ``waived`` is a known failure, and is not compared.
    """
    entries = {} if baseline is None else baseline.by_key()
    names = {one.key for one in series}
    found = []
    for one in series:
        ids = [point.run_id for point in one.points]
        is_compared = is_judged(one.key, names) and check_name(one.key) not in waived
        if run_id not in ids or not is_compared:
            continue
        points = one.points[: ids.index(run_id) + 1]
        entry, fresh = entries.get(one.key), max(0, len(points) - RULES.reference_nights)
        if baseline is not None and entry is not None:
            since = datetime.datetime.fromisoformat(baseline.newest_started)
            fresh = sum(datetime.datetime.fromisoformat(point.started) > since for point in points)
        found.append(Past(Series(one.key, points), entry, fresh))
    return found


def is_judged(key: SeriesKey, names: Collection[SeriesKey]) -> bool:
    """Whether a series counts beside the others of its history, whose ``names`` these are.

    Of a host's throughput the ratio of processor times counts, which other work disturbs least.
    """
    is_absolute = key.check == "throughput" and key.metric.endswith(".per_s")
    ratios = (f"processor.{name}" for name, unit in SERIES.values() if unit != "clips/s")
    return not (
        is_absolute and any(dataclasses.replace(key, metric=ratio) in names for ratio in ratios)
    )


def lost(found: Sequence[Past]) -> list[Notice]:
    """Return one notice for each check that has lost something: a loss is red, a suspect is open."""
    series_p = RULES.of_matrix(len(found))
    by_check: dict[str, list[tuple[Past, Loss]]] = {}
    for past in found:
        loss = _loss_tonight(past, series_p)
        if loss is not None:
            by_check.setdefault(check_name(past.key), []).append((past, loss))
    # A loss before a suspect night, and the clearest first.
    return [
        _notice(sorted(seen, key=lambda one: (one[1].nights == 1, one[1].errors or 0.0)))
        for seen in by_check.values()
    ]


def _loss_tonight(past: Past, series_p: float) -> Loss | None:
    if past.fresh == 0:
        return None
    values = scaled(past.series.values, past.key.is_higher_better)
    return losses(values, past.fresh, past.reference, past.least, series_p)[-1]


def _notice(seen: Sequence[tuple[Past, Loss]]) -> Notice:
    """Return the notice of a check: its clearest series first, the others by name."""
    (past, loss), *others = seen
    is_suspect = loss.nights == 1
    index = len(past.series.points) - loss.nights
    if not is_suspect:
        is_higher_better = past.key.is_higher_better
        worse = [
            point.index
            for point in past.level_changes
            if (point.after < point.before) == is_higher_better
        ]
        index = worse[-1] if worse else index
    since = "" if is_suspect else f", since {past.series.points[index].day}"
    also = ", ".join(f"{one.key.metric} {_percent(one, found)}" for one, found in others)
    reason = "; ".join(
        [
            _against(past, loss, since),
            _chance(loss),
            *([f"also {also}"] if also else []),
        ]
    )
    kind, status = (Kind.SUSPECT, Status.INCONCLUSIVE) if is_suspect else (Kind.LOSS, Status.FAIL)
    return Notice(kind, past.key.id, status, reason, _changes(past.series, index))


def _against(past: Past, loss: Loss, since: str) -> str:
    nights = "tonight" if loss.nights == 1 else f"the last {loss.nights} nights"
    values = past.reference_values
    reference = "the frozen baseline" if past.entry is not None else "the first nights"
    return (
        f"{nights}: {_percent(past, loss)} against {reference}, {sum(values) / len(values):.4g} "
        f"(mean of {len(values)}){since}"
    )


def _percent(past: Past, loss: Loss) -> str:
    change = math.expm1(loss.change if past.key.is_higher_better else -loss.change)
    return f"{100 * change:+.1f} %"


def _chance(loss: Loss) -> str:
    if loss.errors is None:
        return "the noise between nights is not known yet: run it again"
    size = (
        "" if math.isinf(loss.errors) else f"{-loss.errors:.1f} standard errors of its own noise: "
    )
    if loss.nights == 1:
        return f"{size}one night alone is not red; run it again"
    return f"{size}less than once in {NIGHTS_TO_A_FALSE_RED} simulated nights without a change"


def gains(found: Sequence[Past]) -> list[str]:
    """Name the series whose level is better than the reference since a change point."""
    notes = []
    for past in found:
        points = past.level_changes if past.fresh else []
        if points:
            now = scaled(past.series.values[points[-1].index :], past.key.is_higher_better)
            if float(now.mean()) - past.reference.level >= past.least:
                night = past.series.points[points[-1].index]
                notes.append(f"{past.key.id} is better since {night.day}")
    return notes


def level_changes(series: Series) -> list[ChangePoint]:
    """Return the change points that also stand out from the noise between nights, if it is known."""
    values = series.values
    points = change_points(
        values, window=RULES.window, max_p=RULES.point_p, min_magnitude=MIN_CHANGE[series.key.check]
    )
    sd = sd_of_steps(scaled(values[:-1], series.key.is_higher_better))
    edges = [0, *(point.index for point in points), len(values)]
    return [
        point
        for point, start, end in zip(points, edges, edges[2:], strict=False)
        if sd is None or _errors(point, start, end, sd) >= RULES.point_errors
    ]


def _errors(point: ChangePoint, start: int, end: int, sd: float) -> float:
    """Return how many standard errors a change is."""
    before, after = scaled([point.before, point.after], is_higher_better=True)
    error = sd * math.sqrt(1.0 / (point.index - start) + 1.0 / (end - point.index))
    return math.inf if error == 0.0 else abs(after - before) / error


def _changes(series: Series, index: int) -> tuple[str, ...]:
    """Say what changed in the night of a change, and beside it: noise may move it by a night."""
    points = series.points
    return tuple(
        f"{points[night].day} {change}"
        for night in range(max(1, index - 1), min(len(points), index + 2))
        for change in changed_facts(points[night - 1].facts, points[night].facts)
    )


def check_name(key: SeriesKey) -> str:
    """Name the check that a series comes from, as the contract does."""
    return f"{key.cell.id}:{key.check}"
