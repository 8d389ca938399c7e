"""Runs -> Release: the decision whether a release may ship, with all that it rests on.

``signoff.json`` is the JSON form of a Release; docs/signoff.schema.json describes it.
"""

import dataclasses
import datetime
import json
import shlex
from collections.abc import Sequence
from typing import Any

from harness.contract.thresholds import Thresholds
from harness.decide.waivers import review
from harness.host.suite_code import UNKNOWN
from harness.record.record import Record
from harness.record.reproduce import reproduce_cell
from harness.report.comparison_values import Comparison
from harness.report.decision import reasons_against, reasons_of_runs
from harness.report.guide import guide_tables
from harness.report.lines import Asked, line_from_record, line_of_nothing
from harness.report.merge import Merged
from harness.report.values import (
    RUN_REPORT,
    CellLine,
    CheckLine,
    Coverage,
    Release,
    WaiverLine,
)
from harness.spec import ALL_CHECKS, CHECKS, Cell

RELEASE_TIER = "release"


@dataclasses.dataclass(frozen=True)
class Head:
    """What a person adds to a release: its title, and the release that it is compared with."""

    title: str = ""
    against: Comparison | None = None


@dataclasses.dataclass(frozen=True)
class Scope:
    """What is asked of some runs: by a release its tier, by a run report what they were asked for.

    Attributes:
        tiers: in words.
        required: ids of the checks that must have passed.
        cells: that they belong to.
        tier: in which they must have run; None where any will do.
    """

    tiers: str
    required: frozenset[str]
    cells: frozenset[Cell]
    tier: str | None = None


def release_from_merged(
    merged: Merged,
    thresholds: Thresholds,
    today: datetime.date,
    tier: str = RELEASE_TIER,
    head: Head = Head(),
) -> Release:
    """Decide; whatever the tier of the runs, ``tier`` says what is required.

    Raises:
        InputError: the thresholds have no such tier.
    """
    scope = _release_scope(thresholds, tier)
    waivers = _waiver_lines(merged, thresholds, today, scope)
    cells = _cell_lines(merged, thresholds, scope, waivers)
    reasons = reasons_against(merged, cells, waivers, thresholds)
    return _release(
        merged,
        thresholds,
        decision="DO NOT SHIP" if reasons else "SHIP",
        title=head.title,
        against=head.against,
        reasons=reasons,
        made=today.isoformat(),
        tier=scope.tiers,
        cells=cells,
        waivers=waivers,
    )


def run_report_from_merged(
    merged: Merged, thresholds: Thresholds, today: datetime.date, head: Head = Head()
) -> Release:
    """Say what runs show of what they were asked for; of a release that decides nothing."""
    scope = _run_scope(merged, thresholds)
    waivers = _waiver_lines(merged, thresholds, today, scope)
    return _release(
        merged,
        thresholds,
        decision=RUN_REPORT,
        title=head.title,
        against=head.against,
        reasons=reasons_of_runs(merged, thresholds, today),
        made=today.isoformat(),
        tier=scope.tiers,
        cells=_cell_lines(merged, thresholds, scope, waivers),
        waivers=waivers,
    )


def _release(merged: Merged, thresholds: Thresholds, **values: Any) -> Release:
    return Release(
        **values,
        thresholds=thresholds.digest,
        commit=merged.commits[0] if len(merged.commits) == 1 else None,
        runs=merged.runs,
        coverage=_coverage(values["cells"]),
        tables=guide_tables(tuple(merged.records.values()), merged.runs, thresholds),
    )


def _release_scope(thresholds: Thresholds, tier: str) -> Scope:
    cells, requires = thresholds.cells(tier), thresholds.tier(tier).requires
    required = (
        f"{cell.id}:{one}"
        for cell in cells
        for one in thresholds.checks(cell, tier)
        if requires(cell, one)
    )
    return Scope(tier, frozenset(required), frozenset(cells), tier)


def _run_scope(merged: Merged, thresholds: Thresholds) -> Scope:
    required = frozenset(merged.must_pass)
    named = {name.rpartition(":")[0] for name in required}
    cells = (cell for cell in thresholds.cells() if cell.id in named)
    return Scope(", ".join(merged.tiers), required, frozenset(cells))


def signoff_schema() -> str:
    """Return the JSON Schema of ``signoff.json``."""
    schema = Release.model_json_schema(mode="serialization")
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _waiver_lines(
    merged: Merged, thresholds: Thresholds, today: datetime.date, scope: Scope
) -> tuple[WaiverLine, ...]:
    waivers = thresholds.file.waivers
    reviewed = review(tuple(merged.records.values()), waivers, today, scope.required)
    problems = {problem.id: problem.reason for problem in reviewed.problems}
    return tuple(
        WaiverLine(
            cell=waiver.cell,
            check=waiver.check,
            stage=waiver.stage,
            reason=waiver.reason,
            issue=waiver.issue,
            owner=waiver.owner,
            expires=waiver.expires.isoformat(),
            covers=tuple(name for name, one in reviewed.waived.items() if one is waiver),
            problem=problems.get(waiver.id, ""),
        )
        for waiver in waivers
    )


def _cell_lines(
    merged: Merged, thresholds: Thresholds, scope: Scope, waivers: Sequence[WaiverLine]
) -> tuple[CellLine, ...]:
    waived = {name for line in waivers for name in line.covers}
    seen = {record.cell for record in merged.records.values()}
    known = [cell for cell in thresholds.cells() if cell in scope.cells | seen]
    unknown = sorted(seen - set(known), key=lambda cell: cell.id)
    lines = [_cell_line(cell, merged, thresholds, scope, waived) for cell in [*known, *unknown]]
    return tuple(sorted(lines, key=_urgency))


def _urgency(cell: CellLine) -> tuple[bool, bool]:
    """Sort cells that the release lacks first, those that it does not need last."""
    return (not cell.has_gap, not cell.is_required)


def _cell_line(
    cell: Cell, merged: Merged, thresholds: Thresholds, scope: Scope, waived: set[str]
) -> CellLine:
    limits = thresholds.limits(cell) if cell in thresholds.cells() else None
    lines = []
    for check in ALL_CHECKS:
        name = f"{cell.id}:{check}"
        if check not in CHECKS and name not in {*scope.required, *merged.records}:
            continue
        is_required = name in scope.required
        asked = Asked(cell, check, limits, is_required, scope.tier if is_required else None)
        lines.append(_check_line(merged.records.get(name), asked, waived))
    return CellLine(
        id=cell.id,
        model=cell.model,
        device=cell.device,
        batch=cell.batch,
        is_required=any(line.is_required for line in lines),
        checks=tuple(lines),
        reproduce=reproduce_command(cell, merged),
    )


def _check_line(record: Record | None, asked: Asked, waived: set[str]) -> CheckLine:
    if record is None:
        return line_of_nothing(asked)
    return line_from_record(record, asked, is_waived=record.id in waived)


def reproduce_command(cell: Cell, merged: Merged) -> str:
    """Return the command line that runs a cell again, at the commit that was run."""
    tiers = [record.tier for record in merged.records.values() if record.cell == cell]
    command = reproduce_cell(cell, (tiers or [RELEASE_TIER])[0])
    # An installed wheel has a digest in the place of a commit.
    commits = [one for one in merged.commits if one != UNKNOWN and ":" not in one]
    return f"git checkout {shlex.quote(commits[0])} && {command}" if len(commits) == 1 else command


def _coverage(cells: Sequence[CellLine]) -> Coverage:
    required = [line for cell in cells for line in cell.checks if line.is_required]
    needed = [cell for cell in cells if cell.is_required]
    return Coverage(
        required_cells=len(needed),
        run_cells=sum(not cell.has_gap for cell in needed),
        required_checks=len(required),
        run_checks=sum(line.outcome != "not run" for line in required),
        passed_checks=sum(line.outcome == "pass" for line in required),
        waived_checks=sum(line.outcome == "waived" for line in required),
    )
