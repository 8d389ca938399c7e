"""The nightly series of a release's cells, with the nights on which their level changed."""

import dataclasses
from collections.abc import Collection, Iterator, Sequence

from harness.nightly.change_points import ChangePoint
from harness.nightly.comparison import level_changes, pasts
from harness.nightly.series import Series, changed_facts

_UNITS = {"per_s": "clips/s", "x_pytorch": "x PyTorch"}


@dataclasses.dataclass(frozen=True)
class Trend:
    """A nightly series: ``changes`` are places in ``values`` at which the level changed."""

    title: str
    model: str
    device: str
    unit: str
    days: tuple[str, ...]
    values: tuple[float, ...]
    changes: tuple[int, ...]
    notes: tuple[str, ...]


def trends_from_series(series: Sequence[Series], cells: Collection[str]) -> tuple[Trend, ...]:
    """Return the trends of some cells by id, from the whole series of a history."""
    wanted = [one for one in series if one.key.cell.id in cells and one.points]
    newest = dict.fromkeys(one.points[-1].run_id for one in wanted)
    found = {}
    for run_id in newest:
        for past in pasts(wanted, run_id, None):
            # A series that has gone on since is told at its own newest run.
            if past.series in wanted:
                found[past.key] = _trend(past.series, level_changes(past))
    return tuple(found[key] for key in sorted(found))


def _trend(series: Series, changes: Sequence[ChangePoint]) -> Trend:
    key = series.key
    return Trend(
        title=key.id,
        model=key.model,
        device=key.device,
        unit=_UNITS.get(key.metric.rpartition(".")[2], ""),
        days=tuple(point.started[:10] for point in series.points),
        values=tuple(series.values),
        changes=tuple(change.index for change in changes),
        notes=tuple(_notes(series, changes)),
    )


def _notes(series: Series, changes: Sequence[ChangePoint]) -> Iterator[str]:
    for change in changes:
        before, after = series.points[change.index - 1], series.points[change.index]
        what = ", ".join(changed_facts(before.facts, after.facts)) or "no recorded fact changed"
        yield f"{after.started[:10]}: {change.before:.4g} to {change.after:.4g} ({what})"
