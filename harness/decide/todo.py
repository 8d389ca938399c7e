"""What a person must do before a release may ship, or a run is green: reasons, grouped by the task.

A check counts once, in the first task of ``_BEFORE`` or else of ``Task`` that one of its reasons asks for:
weights alone do not mend a check that failed.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Literal, get_args

from harness import registry
from harness.decide.problems import Problem
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.measurement import Measurement
from harness.measure.soak import SoakMeasurement
from harness.measure.startup import StartupMeasurement
from harness.measure.throughput import ThroughputMeasurement
from harness.record.record import Record
from harness.record.reproduce import soak_minutes
from harness.spec import ALL_CHECKS, Status

ReasonKind = Literal[
    "not run",
    "fail",
    "error",
    "invalid",
    "inconclusive",
    "stopped run",
    "broken run",
    "suite commit",
    "thresholds",
    "repeated",
    "unfounded",
    "unbound",
    "seeded",
    "emulated",
    "partial",
    "waiver",
]


class Task(StrEnum):
    """What must be done, in the order in which it is said."""

    DEVICE = "get a device"
    WEIGHTS = "get weights"
    DATA = "get data"
    RUN = "run in full"
    FIX = "fix"
    REPEAT = "repeat on a quiet host"
    CLIPS = "take more clips"
    LIMIT = "write a limit"
    AGAIN = "make the run again"
    WAIVER = "settle a waiver"


# What an outcome is that stands against a release; a pass, waived or not, is none of these.
OPEN: Mapping[str, ReasonKind] = {
    "not run": "not run",
    "fail": "fail",
    "error": "error",
    "invalid": "invalid",
    "inconclusive": "inconclusive",
}
_BEFORE = (Task.FIX, Task.REPEAT, Task.CLIPS, Task.LIMIT)
_TASKS: Mapping[ReasonKind, Task] = {
    "fail": Task.FIX,
    "error": Task.FIX,
    "invalid": Task.FIX,
    "broken run": Task.FIX,
    "unfounded": Task.FIX,
    "inconclusive": Task.REPEAT,
    "emulated": Task.DEVICE,
    "seeded": Task.WEIGHTS,
    "waiver": Task.WAIVER,
    "stopped run": Task.AGAIN,
    "suite commit": Task.AGAIN,
    "thresholds": Task.AGAIN,
    "repeated": Task.AGAIN,
    "unbound": Task.AGAIN,
}
# What problems and facts name beside checks and tests.
_NOTHING, STOPPED = "(nothing)", "(run)"


class Reason(Measurement):
    """One reason against shipping, or why a run is not green.

    Attributes:
        kind: of the reason.
        text: a sentence.
        ids: the checks or runs that it is about.
        task: what must be done about it.
        about: the device, checkpoint, data set or key of the contract that is missing; of a fix, its kind.
        is_required: whether what it is about was asked for.
        minutes: length of the soak to repeat; None: as its tier says, or another check.
    """

    kind: ReasonKind
    text: str
    ids: tuple[str, ...] = ()
    task: Task = Task.RUN
    about: str = ""
    is_required: bool = True
    minutes: float | None = None


@dataclasses.dataclass(frozen=True)
class ToDo:
    """One task, with the checks or runs that it is about and every reason behind it."""

    task: Task
    about: tuple[str, ...]
    is_required: bool
    ids: tuple[str, ...]
    reasons: tuple[Reason, ...]

    @property
    def are_checks(self) -> bool:
        """Whether it is about checks of cells, not about runs or tests."""
        return bool(self.ids) and all(is_check(name) for name in self.ids)


def is_check(name: str) -> bool:
    """Whether an id is that of a check of a cell."""
    return name.rpartition(":")[2] in ALL_CHECKS


def task_of(kind: ReasonKind, record: Record | None) -> tuple[Task, str]:
    """Return what must be done, and about what; of a check without a record only its kind is known."""
    if kind == "not run" and record is not None:
        return _missing(record)
    if kind == "inconclusive" and record is not None:
        return _undecided(record)
    task = _TASKS.get(kind, Task.RUN)
    if record is not None and task is Task.DEVICE:
        return task, record.device
    if record is not None and task is Task.WEIGHTS:
        return task, _checkpoint(record.model)
    return task, kind if task is Task.FIX else ""


def _missing(record: Record) -> tuple[Task, str]:
    """Return what kept a check from running."""
    if not record.is_device_present:
        return Task.DEVICE, record.device
    if record.check == "accuracy" and record.weights == "seeded":
        return Task.WEIGHTS, _checkpoint(record.model)
    is_known = record.model in registry.model_names()
    return Task.DATA, registry.model_spec(record.model).dataset if is_known else ""


def _undecided(record: Record) -> tuple[Task, str]:
    """Return what would decide a check: more time, more clips, its end, or a limit in the contract."""
    measured, cell = record.measurement, record.cell
    key = f"models.{cell.model}.devices.{cell.device}.{record.check}.{cell.row}"
    open_ones = [one for one in record.verdict.findings if one.is_met is None]
    match measured:
        case SoakMeasurement(is_stopped=True):
            return Task.RUN, ""
        case AccuracyMeasurement():
            return Task.CLIPS, ""
        case SoakMeasurement() | StartupMeasurement() if not open_ones:
            return Task.LIMIT, key
        case ThroughputMeasurement() if measured.session_count >= record.sessions_min:
            # One chip below a golden that may be of a whole card.
            is_below = any(one.bounds and one.bounds.high < one.limit for one in open_ones)
            return (Task.LIMIT, key) if is_below else (Task.REPEAT, "")
        case _:
            return Task.REPEAT, ""


def _checkpoint(model: str) -> str:
    return registry.model_spec(model).checkpoint if model in registry.model_names() else model


def reasons_from_problems(
    found: Sequence[Problem],
    records: Iterable[Record],
    spared: Sequence[Problem] = (),
) -> tuple[Reason, ...]:
    """Return why a run is not green, then what it was not asked for and did not run."""
    by_id = {record.id: record for record in records}
    both = [(True, one) for one in found] + [(False, one) for one in spared]
    return grouped(
        _reason(problem, by_id.get(problem.id), is_required=is_required)
        for is_required, problem in both
    )


def _reason(problem: Problem, record: Record | None, *, is_required: bool) -> Reason:
    ids = () if problem.id == _NOTHING else (problem.id,)
    return reason_of(_kind(problem, record), problem.reason, ids, record, is_required=is_required)


def reason_of(
    kind: ReasonKind,
    text: str,
    ids: tuple[str, ...] = (),
    record: Record | None = None,
    *,
    is_required: bool = True,
) -> Reason:
    """Return a reason with what must be done about it, as far as is known without a record, or from it."""
    task, about = task_of(kind, record)
    return Reason(
        kind=kind,
        text=text,
        ids=ids,
        task=task,
        about=about,
        is_required=is_required,
        # A soak that was too short must last as long as its tier says.
        minutes=None if kind == "invalid" else soak_minutes(record),
    )


def _kind(problem: Problem, record: Record | None) -> ReasonKind:
    """Return what a problem is: where it is not the outcome of a record, it lies beside it."""
    status = None if record is None else record.verdict.status
    match problem.status:
        case Status.ERROR if problem.id == STOPPED:
            return "stopped run"
        case Status.ERROR if status is not Status.ERROR:
            return "broken run" if record is None else "repeated"
        case Status.FAIL if status is not Status.FAIL:
            return "waiver"
        case _:
            return OPEN[problem.status]


def grouped(found: Iterable[Reason]) -> tuple[Reason, ...]:
    """Put reasons that read the same together."""
    groups: dict[Reason, dict[str, None]] = {}
    for reason in found:
        key = reason.model_copy(update={"ids": ()})
        groups.setdefault(key, {}).update(dict.fromkeys(reason.ids))
    return tuple(key.model_copy(update={"ids": tuple(ids)}) for key, ids in groups.items())


def todos(reasons: Sequence[Reason]) -> tuple[ToDo, ...]:
    """Group reasons by what must be done; what was asked for comes first."""
    order = [*_BEFORE, *(task for task in Task if task not in _BEFORE)]
    owner: dict[str, tuple[Task, str, bool]] = {}
    for reason in sorted(reasons, key=lambda one: order.index(one.task)):
        for name in reason.ids:
            owner.setdefault(name, _key(reason))
    groups: dict[tuple[Task, str, bool], list[Reason]] = {}
    for reason in reasons:
        for key in dict.fromkeys([owner[name] for name in reason.ids] or [_key(reason)]):
            groups.setdefault(key, []).append(reason)
    found = [_todo(key, group, owner) for key, group in groups.items()]
    return tuple(sorted(found, key=_place))


def _place(todo: ToDo) -> tuple[bool, int, int]:
    """Sort what was asked for first, then by task, devices and faults in the order of their lists."""
    lists = [*registry.device_specs(), *get_args(ReasonKind)]
    places = [lists.index(one) for one in todo.about[:1] if one in lists]
    return not todo.is_required, [*Task].index(todo.task), (places or [len(lists)])[0]


def _key(reason: Reason) -> tuple[Task, str, bool]:
    is_split = reason.task in (Task.DEVICE, Task.FIX)
    return reason.task, reason.about if is_split else "", reason.is_required


def _todo(
    key: tuple[Task, str, bool],
    reasons: Sequence[Reason],
    owner: Mapping[str, tuple[Task, str, bool]],
) -> ToDo:
    own = [
        one.model_copy(update={"ids": tuple(name for name in one.ids if owner[name] == key)})
        for one in reasons
    ]
    names = dict.fromkeys(name for one in own for name in one.ids)
    about = dict.fromkeys(filter(None, (one.about for one in own if one.task is key[0])))
    return ToDo(key[0], tuple(about), key[2], tuple(names), tuple(own))


def counted(found: Sequence[ToDo]) -> Iterator[ToDo]:
    """Yield the tasks that are about something; one that is about nothing only where it is alone."""
    yield from ([one for one in found if one.ids] or found[:1])
