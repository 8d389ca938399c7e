"""Known failures: which records a waiver covers, and which waivers no longer fit what was seen.

A waiver covers a record whose outcome is fail, inconclusive or invalid, or an error of the very
stage that it names. It never covers a check that did not run, nor one that an emulator answered:
of those nothing was seen, so nothing is known. Waivers are strict, in the sense of pytest's xfail:
a pass turns the run red, and so does one that has expired or was not needed.
"""

import dataclasses
import datetime
from collections.abc import Collection, Mapping, Sequence

from harness.contract.tables import Waiver
from harness.contract.toml import table_lines
from harness.decide.problems import Problem, in_order, problems
from harness.language import _
from harness.record.record import Record, RunFacts
from harness.spec import Status

WAIVABLE = frozenset({Status.FAIL, Status.ERROR, Status.INCONCLUSIVE, Status.INVALID})
# What is offered a waiver: of an inconclusive check nothing is known, so it is to be decided instead.
OFFERED = WAIVABLE - {Status.INCONCLUSIVE}


@dataclasses.dataclass(frozen=True)
class Decision:
    """What is not green, and what is waived instead of red: by id of the record, its waiver."""

    problems: list[Problem]
    waived: Mapping[str, Waiver]


def review(
    records: Sequence[Record],
    waivers: Sequence[Waiver],
    today: datetime.date,
    required: Collection[str] = (),
) -> Decision:
    """Hold waivers against what was seen: one that is expired, unused or contradicted by a pass is red.

    Only the waivers of this run's checks are reviewed: of those that ran on a device, and of the
    ``required`` ones, which turn the run red by not running, waived or not.
    """
    by_id = {record.id: record for record in records}
    waived: dict[str, Waiver] = {}
    found: list[Problem] = []
    for waiver in waivers:
        record, reason = by_id.get(waiver.id), None
        if record is not None and _was_seen(record):
            reason = _objection(record, waiver, today)
            if reason is None:
                waived[waiver.id] = waiver
        elif waiver.id in required and not (record is not None and record.is_emulated):
            reason = (
                "the waiver is unused because the check did not run: a waiver does not excuse a check "
                "from running"
            )
        if reason is not None:
            found.append(Problem(waiver.id, Status.FAIL, f"{reason} ({said(waiver)})"))
    return Decision(found, waived)


def decide(
    records: Sequence[Record], facts: RunFacts, waivers: Sequence[Waiver], today: datetime.date
) -> Decision:
    """Combine what is not green with the waivers for it."""
    required = (*facts.must_pass, *_wrongly_excused(records, facts))
    reviewed = review(records, waivers, today, required)
    found = problems(records, required, facts.faults, reviewed.waived)
    return Decision(in_order([*found, *reviewed.problems]), reviewed.waived)


def _wrongly_excused(records: Sequence[Record], facts: RunFacts) -> list[str]:
    """Name the checks that are excused for an absent device, which the run has found present."""
    present = {record.device for record in records if record.is_device_present}
    return [name for name in facts.excused if any(f"-{device}-" in name for device in present)]


def said(waiver: Waiver) -> str:
    """Return who answers for a waiver, where and until when."""
    text = "" if waiver.stage is None else _("stage {stage}, ")
    text += _("{issue}, owner {owner}, until {expires}")
    return text.format(**dict(waiver))


def waived_lines(waived: Mapping[str, Waiver]) -> list[str]:
    """Return each waived check with its reason, issue, owner and last day."""
    return [
        line
        for name, waiver in waived.items()
        for line in (f"{_('waived').upper()}: {name}", f"    {waiver.reason} ({said(waiver)})")
    ]


def corrected_toml(
    records: Sequence[Record], waivers: Sequence[Waiver], decision: Decision
) -> str | None:
    """Return the ``[[waivers]]`` tables that fit what was seen; None if those there are do.

    Waivers that no longer fit are dropped. What fails without one gets one whose issue, owner and
    expiry are empty, which the reader of the contract refuses until somebody fills them in.
    """
    seen = {record.id: record for record in records if _was_seen(record)}
    stale = seen.keys() - decision.waived.keys()
    kept = [waiver for waiver in waivers if waiver.id not in stale]
    new = [seen[name] for name in seen if name in stale and seen[name].verdict.status in OFFERED]
    if not new and len(kept) == len(waivers):
        return None
    tables = [*(_table(waiver.model_dump()) for waiver in kept), *map(_proposed, new)]
    return "\n\n".join(tables) or "# no [[waivers]] is needed any more"


def _was_seen(record: Record) -> bool:
    return record.verdict.status is not Status.NOT_RUN and not record.is_emulated


def _objection(record: Record, waiver: Waiver, today: datetime.date) -> str | None:
    """Say why a waiver does not cover the outcome of its check, or None if it does."""
    if waiver.expires < today:
        return f"the waiver expired on {waiver.expires}: mend the check, or decide again"
    if record.verdict.status is Status.PASS:
        return "passes though it is waived: remove the waiver"
    if record.stage != waiver.stage:
        return (
            f"the waiver is unused: it is for {_stage_text(waiver.stage)}, but what came was "
            f"{_stage_text(record.stage)}"
        )
    return None


def _stage_text(stage: str | None) -> str:
    return "a check that runs to its end" if stage is None else f"an error at stage {stage}"


def _proposed(record: Record) -> str:
    reason = f"{record.verdict.status}: {record.verdict.reason}".splitlines()[0]
    return _table(
        {
            "cell": record.cell.id,
            "check": record.check,
            "stage": record.stage,
            "reason": reason,
            "issue": "",
            "owner": "",
            "expires": "",
        }
    )


def _table(values: Mapping[str, object]) -> str:
    given = {name: value for name, value in values.items() if value is not None}
    return "\n".join(["[[waivers]]", *table_lines(given)])
