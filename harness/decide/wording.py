"""What a run or a release comes to, in words: one sentence, and a line for each task that is left.

The page, the terminal, the job summary and JUnit all take their words from here.
"""

import dataclasses
import re
import shlex
from collections.abc import Collection, Sequence

from harness import registry
from harness.decide.todo import Task, ToDo, counted, is_check
from harness.language import _, later, later_n, n_
from harness.record.record import Record
from harness.record.reproduce import reproduce_checks
from harness.spec import Status

BUDGET = ("--budget-minutes", "10")

_CHECKS, _RUNS = later_n("{n} check", "{n} checks"), later_n("{n} run", "{n} runs")
_WAIVERS, _ITEMS = later_n("{n} waiver", "{n} waivers"), later_n("{n} item", "{n} items")
_PHRASES = {
    Task.DEVICE: later_n("{checks} needs {device}", "{checks} need {device}"),
    Task.WEIGHTS: later_n("{checks} needs weights", "{checks} need weights"),
    Task.DATA: later_n("{checks} needs a data set", "{checks} need a data set"),
    Task.RUN: later_n("{checks} has not run in full", "{checks} have not run in full"),
    Task.REPEAT: later_n("{checks} is not decided", "{checks} are not decided"),
    Task.CLIPS: later_n("{checks} needs more clips", "{checks} need more clips"),
    Task.LIMIT: later_n("{checks} lacks a limit", "{checks} lack a limit"),
    Task.AGAIN: later_n("{checks} does not count", "{checks} do not count"),
    Task.WAIVER: later_n("{checks} does not hold", "{checks} do not hold"),
}
_FIXES = {
    "fail": later_n("{checks} failed", "{checks} failed"),
    "error": later_n("{checks} ended in an error", "{checks} ended in an error"),
    "invalid": later_n("{checks} was not measured properly", "{checks} were not measured properly"),
    "unfounded": later_n(
        "{checks} passed, but not by what was measured",
        "{checks} passed, but not by what was measured",
    ),
}
_BROKEN = later_n("{checks} broke outside of the checks", "{checks} broke outside of the checks")
_ADVICE = {
    Task.DEVICE: later("Run them on a host that has the device:"),
    Task.WEIGHTS: later("Put {names} into a folder that site.toml names in checkpoints, then run:"),
    Task.DATA: later("Name {names} in site.toml (docs/kinetics.md), then run:"),
    Task.RUN: later("Run them in the tier that is asked for:"),
    Task.FIX: later("Find out why and fix it; this runs it again:"),
    Task.REPEAT: later("Measure for longer (--budget-minutes), on a host with nothing else to do:"),
    Task.CLIPS: later("Give the tier more clips, or the contract a larger clip set, then run:"),
    Task.LIMIT: later(
        "Write a limit into {names} of thresholds.toml (docs/verdicts.md), then judge what was measured "
        "with harness judge RUN; this shows the contract:"
    ),
    Task.AGAIN: later(
        "Commit everything, make one run to its end, and give the report each check once:"
    ),
    Task.WAIVER: later("Correct it in [[waivers]] of thresholds.toml; this shows the contract:"),
}


@dataclasses.dataclass(frozen=True)
class Shown:
    """What was seen: required checks that passed, and the devices that were there."""

    passed: int
    required: int
    waived: int
    devices: tuple[str, ...] = ()
    is_emulated: bool = False


def shown_by(
    records: Sequence[Record], must_pass: Collection[str], waived: Collection[str]
) -> Shown:
    """Return what the records of a run show."""
    required = {name for name in must_pass if is_check(name)}
    passed = {record.id for record in records if record.verdict.status is Status.PASS}
    present = {record.device for record in records if record.is_device_present}
    return Shown(
        len(required & passed - {*waived}),
        len(required),
        len(required & {*waived}),
        tuple(name for name in registry.device_specs() if name in present),
        any(record.is_emulated for record in records),
    )


def release_sentence(found: Sequence[ToDo], shown: Shown) -> str:
    """Say in one sentence why a release may not ship yet, or what was shown."""
    return _("Not yet: {tasks}").format(tasks=_tasks(found)) if found else _passed(shown)


def run_sentence(found: Sequence[ToDo], shown: Shown) -> str:
    """Say in one sentence what a run shows; it decides nothing about a release."""
    where = _("On an emulator of {devices}: ") if shown.is_emulated else _("On {devices}: ")
    if not shown.devices:
        where = _("No device was there: ")
    names = listing([device_noun(name) for name in shown.devices])
    said_first = where.format(devices=names) + _passed(shown)
    return _("; ").join((said_first, _tasks(found))) if found else said_first


def run_headline(found: Sequence[ToDo], shown: Shown) -> str:
    """Return the sentence of a run under its name."""
    return _("Run report: {sentence}").format(sentence=run_sentence(found, shown))


def _passed(shown: Shown) -> str:
    counts = {"passed": shown.passed, "required": shown.required, "n": shown.waived}
    waived = _(", {n} waived") if shown.waived else ""
    return (_("{passed} of {required} required checks passed") + waived).format(**counts)


def _tasks(found: Sequence[ToDo]) -> str:
    """Join the tasks, what was asked for before what was not; only the first names its noun."""
    required = [one for one in found if one.is_required]
    optional = [one for one in found if not one.is_required]
    parts = [_joined(required)] if required else []
    if optional:
        parts.append(_("not required: {tasks}").format(tasks=_joined(optional)))
    return _("; ").join(parts)


def _joined(found: Sequence[ToDo]) -> str:
    parts: list[str] = []
    nouns: tuple[str, str] | None = None
    for one in counted(found):
        parts.append(said(one, is_first=_nouns(one) != nouns))
        nouns = _nouns(one)
    return _(", ").join(parts)


def said(todo: ToDo, *, is_first: bool = True) -> str:
    """Say how many checks or runs wait for what, such as ``4 checks need an Ascend 310``."""
    count = len(todo.ids)
    if not count:
        return _("no required check has passed")
    subject = (n_(*_nouns(todo), count) if is_first else _("{n}")).format(n=count)
    return _phrase(todo).format(checks=subject, device=device_noun(*todo.about[:1]))


def _nouns(todo: ToDo) -> tuple[str, str]:
    if todo.task is Task.WAIVER:
        return _WAIVERS
    if todo.are_checks:
        return _CHECKS
    return _RUNS if todo.task is Task.AGAIN else _ITEMS


def _phrase(todo: ToDo) -> str:
    one, many = _PHRASES.get(todo.task) or _FIXES.get("".join(todo.about), _BROKEN)
    return n_(one, many, len(todo.ids))


def advice(todo: ToDo) -> str:
    """Say what to do about a task, before its command."""
    return _(_ADVICE[todo.task]).format(names=", ".join(todo.about))


def command(todo: ToDo, tier: str) -> str:
    """Return the command to copy for a task."""
    if todo.task in (Task.WAIVER, Task.LIMIT):
        return "harness thresholds show"
    more = BUDGET if todo.task is Task.REPEAT else ()
    # Where one is to last as long as its tier says, all do: that is never too short.
    asked = {one.minutes for one in todo.reasons}
    minutes = max(filter(None, asked), default=None) if all(asked) else None
    return reproduce_checks(todo.ids, tier, more, minutes) or shlex.join(
        ("pytest", "acceptance", "--tier", tier)
    )


def todo_lines(found: Sequence[ToDo], tier: str) -> list[str]:
    """Return the tasks for a terminal: a line each, what to do, and the command."""
    return [
        line
        for one in counted(found)
        for line in (
            f"  {said(one)}" + ("" if one.is_required else _(" (not required)")),
            f"    {advice(one)}",
            f"    $ {command(one, tier)}",
        )
    ]


def device_noun(name: str = "") -> str:
    """Return what to call a device in a sentence, such as ``an Ascend 310``."""
    spec = registry.device_specs().get(name)
    return name if spec is None else _(spec.noun)


def device_label(name: str) -> str:
    """Return what to call a device where no sentence does, such as ``Ascend 310``."""
    return re.sub("^an? ", "", device_noun(name))


def listing(names: Sequence[str]) -> str:
    """Join names as a sentence does."""
    if len(names) < 2:
        return "".join(names)
    return _("{first} and {last}").format(first=_(", ").join(names[:-1]), last=names[-1])
