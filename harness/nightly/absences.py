"""What is not there and should be: a baseline, a night, a cell. Each is a verdict of its own."""

import datetime
import itertools
from collections.abc import Iterator, Sequence

from harness.nightly.baseline import Baseline
from harness.nightly.comparison import Kind, Notice, Past, check_name
from harness.nightly.noise import STEPS_MIN
from harness.nightly.series import Series
from harness.spec import Status

# A cell is missed when one of so many runs before had it.
RECENT_RUNS = 3


def without_baseline(found: Sequence[Past]) -> tuple[list[Notice], list[str]]:
    """Name the checks that have no series in the baseline; some can have none, which is a note."""
    missing = [past for past in found if past.entry is None]
    excused = {check_name(past.key) for past in missing if not _may_have_baseline(past)}
    names = {check_name(past.key) for past in missing} - excused
    reason = "no frozen baseline has it: `harness baseline freeze` a run that was reviewed"
    notes = [f"{len(excused)} check(s) of seeded weights or an emulator can have no baseline"]
    notices = [Notice(Kind.NO_BASELINE, name, Status.NOT_RUN, reason) for name in sorted(names)]
    return notices, notes if excused else []


def too_few_nights(found: Sequence[Past]) -> list[Notice]:
    """Name the checks that have neither a baseline nor nights enough to stand in for one."""
    few = {
        check_name(past.key): len(past.series.points)
        for past in found
        if past.entry is None and not past.is_noise_known
    }
    return [
        Notice(
            Kind.NO_PAST,
            name,
            Status.NOT_RUN,
            f"cannot be judged: {nights} night(s) of it on this class of hosts, {STEPS_MIN + 2} "
            "are needed; freeze a baseline, or let the nights go on",
        )
        for name, nights in sorted(few.items())
    ]


def _may_have_baseline(past: Past) -> bool:
    facts = past.series.points[-1].facts
    return facts["weights"] == "checkpoint" and facts["emulated"] == "no"


def missing_cells(
    series: Sequence[Series], run_id: str, run_ids: Sequence[str], baseline: Baseline | None
) -> list[Notice]:
    """Name the checks that the nights before, or the baseline, had and this run lacks.

    ``run_ids`` are the runs of this host before tonight, oldest first.
    """
    tonight = {one.key for one in series if any(point.run_id == run_id for point in one.points)}
    places = {(key.host_class, key.device) for key in tonight}
    recent = set(run_ids[-RECENT_RUNS:])
    expected = {one.key for one in series if any(point.run_id in recent for point in one.points)}
    if baseline is not None:
        keys = (one.key for one in baseline.series)
        expected |= {key for key in keys if (key.host_class, key.device) in places}
    seen = {check_name(key) for key in tonight}
    missed = sorted({check_name(key) for key in expected} - seen)
    reason = "the nights before, or the baseline, had it; this run measured nothing there"
    return [Notice(Kind.NO_CELL, name, Status.NOT_RUN, reason) for name in missed]


def missing_night(newest: str | None, now: datetime.datetime, hours: float) -> Iterator[Notice]:
    """Say that nothing ran tonight: the newest run is older than ``hours``, or there is none."""
    if newest is None:
        yield Notice(Kind.NO_NIGHT, "(night)", Status.NOT_RUN, "the history holds no run")
        return
    age_h = (now - datetime.datetime.fromisoformat(newest)).total_seconds() / 3600.0
    if age_h > hours:
        reason = f"the newest run started {age_h:.0f} hours ago ({newest}), more than {hours:g}"
        yield Notice(Kind.NO_NIGHT, "(night)", Status.NOT_RUN, reason)


def gaps(starts: Sequence[str], hours: float) -> list[str]:
    """Name the nights between runs in which none was made, oldest first."""
    moments = [datetime.datetime.fromisoformat(start) for start in starts]
    return [
        f"no run between {before:%Y-%m-%d %H:%M} and {after:%Y-%m-%d %H:%M} UTC"
        for before, after in itertools.pairwise(moments)
        if (after - before).total_seconds() > 3600.0 * hours
    ]
