"""One night against the series it belongs to: what got worse, what is missing, what changed.

Three layers, each with a verdict of its own: the contract's floors (``gate``), the ratio to the
frozen baseline, and change points over the nights. What cannot be compared is said and is not
green.
"""

import dataclasses
import datetime
import math
from collections.abc import Collection, Sequence
from enum import StrEnum

from harness.nightly.baseline import Baseline, BaselineSeries
from harness.nightly.change_points import ChangePoint, change_points
from harness.nightly.regression import (
    Loss,
    Noise,
    Reference,
    Rules,
    Values,
    clearest_loss,
    holm,
    noise_from_nights,
    reference_from_values,
    scaled,
    without_worst,
)
from harness.nightly.series import Series, SeriesKey, changed_facts
from harness.spec import Check, Status

RULES = Rules()
# The smallest relative change that anybody should be woken for.
MIN_CHANGE: dict[Check, float] = {"throughput": 0.02, "accuracy": 0.002, "parity": 0.5}


class Kind(StrEnum):
    """What a notice is about."""

    CONTRACT = "contract"
    BASELINE = "worse than the baseline"
    CLIFF = "cliff"
    LEVEL = "change of level"
    NO_BASELINE = "missing baseline"
    NO_NIGHT = "missing night"
    NO_CELL = "missing cell"


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
    """A series up to tonight, which is its last point; ``fresh`` nights came after the baseline."""

    series: Series
    entry: BaselineSeries | None
    fresh: int

    @property
    def key(self) -> SeriesKey:
        """What is compared."""
        return self.series.key

    @property
    def level(self) -> float:
        """Mean of the baseline, which there must be."""
        assert self.entry is not None
        return sum(self.entry.values) / len(self.entry.values)

    @property
    def least(self) -> float:
        """Smallest change that counts, of logarithms."""
        change = MIN_CHANGE[self.key.check]
        return -math.log1p(-change) if self.key.is_higher_better else math.log1p(change)


def pasts(
    series: Sequence[Series], run_id: str, baseline: Baseline | None, waived: Collection[str] = ()
) -> list[Past]:
    """Return the series that a run belongs to, without the nights after it.

    A check that is ``waived`` is a known failure, and is not compared.

    Of throughput that is timed beside PyTorch the ratio counts, which the machine disturbs less.
    """
    entries = {} if baseline is None else baseline.by_key()
    names = {one.key for one in series}
    found = []
    for one in series:
        ids = [point.run_id for point in one.points]
        is_judged = _is_judged(one.key, names) and check_name(one.key) not in waived
        if run_id not in ids or not is_judged:
            continue
        points = one.points[: ids.index(run_id) + 1]
        fresh = len(points)
        if baseline is not None:
            since = datetime.datetime.fromisoformat(baseline.newest_started)
            fresh = sum(datetime.datetime.fromisoformat(point.started) > since for point in points)
        found.append(Past(Series(one.key, points), entries.get(one.key), fresh))
    return found


def _is_judged(key: SeriesKey, names: Collection[SeriesKey]) -> bool:
    definition, _, unit = key.metric.partition(".")
    better = dataclasses.replace(key, metric=f"{definition}.x_pytorch")
    return not (key.check == "throughput" and unit == "per_s" and better in names)


def against_baseline(found: Sequence[Past], rules: Rules = RULES) -> list[Notice]:
    """Compare the nights since the baseline with it; red only as Holm allows over the matrix."""
    losses = [_loss(past, rules) for past in found]
    tested = [1.0 if loss is None or loss.p_value is None else loss.p_value for loss in losses]
    reds = holm(tested, rules.family_p, rules.series_p)
    notices = []
    for past, loss, is_red in zip(found, losses, reds, strict=True):
        if loss is None:
            continue
        is_cliff = loss.nights == 1 and -math.expm1(loss.change) >= rules.cliff
        if is_red:
            kind = Kind.CLIFF if is_cliff else Kind.BASELINE
            notices.append(_notice(kind, past, loss, Status.FAIL))
        elif is_cliff and loss.p_value is None:
            notices.append(_notice(Kind.CLIFF, past, loss, Status.INCONCLUSIVE))
    return notices


def _loss(past: Past, rules: Rules) -> Loss | None:
    if past.entry is None or past.fresh == 0:
        return None
    is_higher = past.key.is_higher_better
    values = scaled(past.series.values, is_higher)
    reference = reference_from_values(scaled(past.entry.values, is_higher))
    nights = values[len(values) - past.fresh :]
    return clearest_loss(nights, reference, _noise(past, rules), rules, past.least)


def _notice(kind: Kind, past: Past, loss: Loss, status: Status) -> Notice:
    assert past.entry is not None
    nights = "tonight is" if loss.nights == 1 else f"the mean of the last {loss.nights} nights is"
    change = math.expm1(loss.change if past.key.is_higher_better else -loss.change)
    chance = (
        "the noise between nights is not known yet: run it again"
        if loss.p_value is None
        else f"by chance once in {1.0 / max(loss.p_value, 1e-9):,.0f} nights or less"
    )
    reason = (
        f"{nights} {100 * change:+.1f} % against the frozen baseline of {past.level:.4g} "
        f"({len(past.entry.values)} run(s)), {chance}"
    )
    first = len(past.series.points) - loss.nights
    return Notice(kind, past.key.id, status, reason, _changes(past.series, first))


def changed_levels(found: Sequence[Past], rules: Rules = RULES) -> tuple[list[Notice], list[str]]:
    """Look for changes of level since the baseline; those for the better are notes.

    A loss stays red until the level has come back or a new baseline is frozen.
    """
    notices, notes = [], []
    for past in found:
        points = level_changes(past, rules)
        if not points:
            continue
        losses = [point for point in points if _is_loss(past.key, point)]
        now = scaled(past.series.values[points[-1].index :], past.key.is_higher_better)
        reference = _reference(past, points[0])
        gain = float(now.mean()) - reference.level
        if losses and _is_still_lost(past, now, reference, rules):
            notices.append(_level_notice(past, losses))
        elif gain >= past.least:
            night = past.series.points[points[-1].index]
            notes.append(f"{past.key.id} is better since {night.started[:10]}")
    return notices, notes


def _reference(past: Past, first: ChangePoint) -> Reference:
    """Return the level that counts: the baseline's, else that before the first change."""
    values = [first.before] if past.entry is None else past.entry.values
    level = reference_from_values(scaled(values, past.key.is_higher_better))
    return level if past.entry is not None else Reference(level.level, max(1, first.index))


def _is_still_lost(past: Past, now: Values, reference: Reference, rules: Rules) -> bool:
    """Whether the nights since the last change are below the reference, beyond their noise.

    So must be the last of them, and all without their worst one.
    """
    means = (now.mean(), without_worst(now).mean(), now[-max(rules.looks) :].mean())
    if max(means) - reference.level > -past.least:
        return False
    noise = _noise(past, rules)
    error = math.sqrt(1.0 / len(now) + 1.0 / reference.count) * (noise.sd if noise else 0.0)
    return bool(now.mean() - reference.level <= -rules.level_errors * error)


def _noise(past: Past, rules: Rules) -> Noise | None:
    """Return the noise between nights; tonight's own step is what is tested."""
    values = scaled(past.series.values[:-1], past.key.is_higher_better)
    return noise_from_nights(values, rules.nights_min)


def level_changes(past: Past, rules: Rules = RULES) -> list[ChangePoint]:
    """Return the change points after the baseline, or all where there is none.

    Each also has to stand out from the noise between nights, where that is known.
    """
    minimum = MIN_CHANGE[past.key.check]
    values = past.series.values
    points = change_points(values, window=rules.window, max_p=rules.point_p, min_magnitude=minimum)
    first = 0 if past.entry is None else len(values) - past.fresh
    noise = _noise(past, rules)
    edges = [0, *(point.index for point in points), len(values)]
    return [
        point
        for start, point, end in zip(edges, points, edges[2:], strict=False)
        if point.index >= first
        and (noise is None or _errors(point, start, end, noise) >= rules.point_errors)
    ]


def _errors(point: ChangePoint, start: int, end: int, noise: Noise) -> float:
    """Return how many standard errors a change is."""
    before, after = scaled([point.before, point.after], is_higher_better=True)
    error = noise.sd * math.sqrt(1.0 / (point.index - start) + 1.0 / (end - point.index))
    return math.inf if error == 0.0 else abs(after - before) / error


def _is_loss(key: SeriesKey, point: ChangePoint) -> bool:
    return (point.after < point.before) == key.is_higher_better


def _level_notice(past: Past, losses: Sequence[ChangePoint]) -> Notice:
    nights = past.series.points
    steps = [
        f"{nights[point.index].started[:10]} {100 * point.change:+.1f} % "
        f"({point.before:.4g} -> {point.after:.4g}, p {point.p_value:.1g})"
        for point in losses
    ]
    changes = [change for point in losses for change in _changes(past.series, point.index)]
    reason = f"the level changed on {'; '.join(steps)}, and has not come back"
    return Notice(Kind.LEVEL, past.key.id, Status.FAIL, reason, tuple(dict.fromkeys(changes)))


def _changes(series: Series, index: int) -> tuple[str, ...]:
    """Say what changed in the night of a change, and beside it: noise may move it by a night."""
    points = series.points
    return tuple(
        f"{points[night].started[:10]} {change}"
        for night in range(max(1, index - 1), min(len(points), index + 2))
        for change in changed_facts(points[night - 1].facts, points[night].facts)
    )


def check_name(key: SeriesKey) -> str:
    """Name the check that a series comes from, as the contract does."""
    return f"{key.cell.id}:{key.check}"
