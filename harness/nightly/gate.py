"""A run against contract, baseline and history: the report of the nightly gate, and its channels."""

import dataclasses
import datetime
import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.contract.thresholds import Thresholds
from harness.decide.blockers import UNBOUND
from harness.decide.problems import ExitStatus, Problem, exit_status
from harness.decide.rejudge import judged_today
from harness.decide.waivers import said
from harness.errors import HistoryError
from harness.nightly.absences import (
    gaps,
    missing_cells,
    missing_night,
    too_few_nights,
    without_baseline,
)
from harness.nightly.baseline import read_baseline, refuse_foreign
from harness.nightly.comparison import Kind, Notice, gains, lost, pasts
from harness.nightly.history import History, Night
from harness.record.record import RunDirectory, RunFacts

GAP_HOURS = 36.0


@dataclasses.dataclass(frozen=True)
class GateReport:
    """What the gate found: nothing in ``notices`` is the only green.

    Attributes:
        run_id: of the run that was judged, or empty where there was none.
        notices: reasons not to be green.
        notes: what turns nothing red.
        series_count: series that were looked at.
        compared_count: those of them that the baseline has.
    """

    run_id: str
    notices: tuple[Notice, ...]
    notes: tuple[str, ...]
    series_count: int = 0
    compared_count: int = 0

    @property
    def status(self) -> ExitStatus:
        """Red before incomplete before inconclusive before green."""
        return exit_status([Problem(one.id, one.status, one.reason) for one in self.notices])


def night_without_run(history: History, hours: float, now: datetime.datetime) -> GateReport | None:
    """Return the report of a night in which nothing ran; None if something did.

    Raises:
        HistoryError: the history cannot be read.
    """
    nights = history.nights()
    found = tuple(missing_night(nights[-1].started if nights else None, now, hours))
    return GateReport("", found, ()) if found else None


def gate_run(
    run: RunDirectory,
    thresholds: Thresholds,
    history: History,
    baseline: Path | None,
    *,
    has_baseline: bool = True,
) -> GateReport:
    """Judge a run: by the contract, against the baseline, and in the series of the nights, to which it is added.

    Without a ``baseline`` every series misses it; with ``has_baseline`` False that layer is left out, as was
    asked, and a note says so.

    Raises:
        HarnessError: the run, the history or the baseline cannot be used.
    """
    facts, _, decision = judged_today(run, thresholds)
    floors = [Notice(Kind.CONTRACT, one.id, one.status, one.reason) for one in decision.problems]
    if not facts.is_over:
        return GateReport(
            facts.run_id, tuple(floors), ("it is not over, so it is not in the history",)
        )
    added = history.append(run)
    notes = [added.note] if added.note else []
    notes += [] if facts.nonce else [UNBOUND]
    notes += [f"waived: {name} ({said(waiver)})" for name, waiver in decision.waived.items()]
    series, earlier = history.series(tier=facts.tier), _earlier(history, facts)
    frozen = None if baseline is None else read_baseline(baseline)
    found = pasts(series, facts.run_id, frozen, decision.waived)
    if not has_baseline:
        notes.append("the ratio to a frozen baseline was left out, as asked")
    if frozen is not None and baseline is not None:
        refuse_foreign(frozen, facts.tier, [past.key for past in found], baseline)
    losses = lost(found)
    missing, excused = without_baseline(found) if has_baseline else (too_few_nights(found), [])
    notices = [
        *floors,
        *losses,
        *missing,
        *missing_cells(series, facts.run_id, [night.run_id for night in earlier], frozen),
    ]
    starts = [night.started for night in earlier[-1:]] + [facts.started]
    notes += _advice(losses, facts)
    notes += [*excused, *gains(found), *gaps(starts, GAP_HOURS), *_newer(history, facts)]
    compared = sum(past.entry is not None for past in found)
    return GateReport(facts.run_id, tuple(_once(notices)), tuple(notes), len(found), compared)


def newest_run(history: History, run_root: Path) -> RunDirectory:
    """Return the folder of the newest run of the history.

    Raises:
        HistoryError: there is none, or it lies elsewhere.
    """
    nights = history.nights()
    if not nights:
        raise HistoryError(f"{history.path} holds no run; name a run folder")
    root = run_root / nights[-1].run_id
    if not root.is_dir():
        raise HistoryError(
            f"the newest run, {nights[-1].run_id}, is not in {run_root} (it was made on "
            f"{nights[-1].host}); name its folder"
        )
    return RunDirectory(root)


def _advice(losses: Sequence[Notice], facts: RunFacts) -> list[str]:
    """Say how a suspect is confirmed or cleared."""
    if not any(one.kind is Kind.SUSPECT for one in losses):
        return []
    words = [word for word in facts.command if not word.startswith("--run-dir=")]
    if "--run-dir" in words:
        place = words.index("--run-dir")
        del words[place : place + 2]
    command = shlex.join(words)
    return [
        f"run it again: `{command}`, then `harness gate`: twice is red, an ordinary run clears it"
    ]


def _earlier(history: History, facts: RunFacts) -> list[Night]:
    """Return the runs of this host and tier that started before this one."""
    nights = [night for night in history.nights(facts.tier) if night.host == facts.host]
    ids = [night.run_id for night in nights]
    return nights[: ids.index(facts.run_id)]


def _newer(history: History, facts: RunFacts) -> list[str]:
    nights = [night.run_id for night in history.nights(facts.tier)]
    count = len(nights) - nights.index(facts.run_id) - 1
    return [f"the history has {count} newer run(s), which were left out"] if count else []


def _once(notices: Sequence[Notice]) -> list[Notice]:
    """Leave out a missing cell that the contract already says did not run."""
    told = {one.id for one in notices if one.kind is Kind.CONTRACT}
    return [one for one in notices if not (one.kind is Kind.NO_CELL and one.id in told)]
