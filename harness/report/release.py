"""Runs -> Release: the decision whether a release may ship, with all that it rests on.

``signoff.json`` is the JSON form of a Release; docs/signoff.schema.json describes it.
"""

import datetime
import json
import shlex
from collections.abc import Sequence

from harness.contract.thresholds import Thresholds
from harness.decide.waivers import review
from harness.host.environment import UNKNOWN
from harness.record.record import Record
from harness.record.reproduce import reproduce_cell
from harness.report.decision import reasons_against
from harness.report.guide import guide_tables
from harness.report.lines import Asked, line_from_record, line_of_nothing
from harness.report.merge import Merged
from harness.report.values import (
    CellLine,
    CheckLine,
    Coverage,
    Release,
    WaiverLine,
)
from harness.spec import CHECKS, Cell, Check

RELEASE_TIER = "release"


def release_from_merged(
    merged: Merged, thresholds: Thresholds, today: datetime.date, tier: str = RELEASE_TIER
) -> Release:
    """Decide; whatever the tier of the runs, ``tier`` says what is required.

    Raises:
        InputError: the thresholds have no such tier.
    """
    waivers = _waiver_lines(merged, thresholds, today, tier)
    waived = {name for line in waivers for name in line.covers}
    cells = _cell_lines(merged, thresholds, tier, waived)
    reasons = reasons_against(merged, cells, waivers, thresholds)
    commits = merged.commits
    return Release(
        decision="DO NOT SHIP" if reasons else "SHIP",
        reasons=reasons,
        made=today.isoformat(),
        tier=tier,
        thresholds=thresholds.digest,
        commit=commits[0] if len(commits) == 1 else None,
        runs=merged.runs,
        coverage=_coverage(cells),
        cells=cells,
        waivers=waivers,
        tables=guide_tables(tuple(merged.records.values()), merged.runs, thresholds),
    )


def signoff_schema() -> str:
    """Return the JSON Schema of ``signoff.json``."""
    schema = Release.model_json_schema(mode="serialization")
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _waiver_lines(
    merged: Merged, thresholds: Thresholds, today: datetime.date, tier: str
) -> tuple[WaiverLine, ...]:
    required = [
        f"{cell.id}:{check}"
        for cell in thresholds.cells(tier)
        for check in _required_checks(cell, thresholds, tier)
    ]
    waivers = thresholds.file.waivers
    reviewed = review(tuple(merged.records.values()), waivers, today, required)
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
    merged: Merged, thresholds: Thresholds, tier: str, waived: set[str]
) -> tuple[CellLine, ...]:
    needed = set(thresholds.cells(tier))
    seen = {record.cell for record in merged.records.values()}
    known = [cell for cell in thresholds.cells() if cell in needed | seen]
    unknown = sorted(seen - set(known), key=lambda cell: cell.id)
    lines = [_cell_line(cell, merged, thresholds, tier, waived) for cell in [*known, *unknown]]
    return tuple(sorted(lines, key=_urgency))


def _urgency(cell: CellLine) -> tuple[bool, bool]:
    """Sort cells that the release lacks first, those that it does not need last."""
    return (not cell.has_gap, not cell.is_required)


def _cell_line(
    cell: Cell, merged: Merged, thresholds: Thresholds, tier: str, waived: set[str]
) -> CellLine:
    limits = thresholds.limits(cell) if cell in thresholds.cells() else None
    required = _required_checks(cell, thresholds, tier)
    lines = tuple(
        _check_line(
            merged.records.get(f"{cell.id}:{check}"),
            Asked(cell, check, tier if check in required else None, limits),
            waived,
        )
        for check in CHECKS
    )
    return CellLine(
        id=cell.id,
        model=cell.model,
        device=cell.device,
        batch=cell.batch,
        is_required=bool(required),
        checks=lines,
        reproduce=reproduce_command(cell, merged),
    )


def _required_checks(cell: Cell, thresholds: Thresholds, tier: str) -> tuple[Check, ...]:
    if cell not in thresholds.cells(tier):
        return ()
    return tuple(check for check in CHECKS if thresholds.tier(tier).requires(cell, check))


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
