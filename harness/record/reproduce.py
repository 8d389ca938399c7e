"""The command that runs one check, all checks of one cell, or a group of checks again."""

import re
import shlex
from collections.abc import Iterable, Sequence

from harness.measure.soak import SoakMeasurement
from harness.record.record import Record
from harness.spec import ALL_CHECKS, CHECKS, Cell

_ID = re.compile(
    rf"(?P<model>.+)-(?P<device>[^-]+)-bs(?P<batch>\d+)(-\w+)?:(?P<check>{'|'.join(ALL_CHECKS)})"
)


def reproduce_check(record: Record) -> str:
    """Return the command for the check of a record, quoted for a shell.

    It requires that check alone, so that its exit status is the outcome of the check.
    """
    cell, check, tier = record.cell, record.check, record.tier
    if check == "soak":
        return _soak(cell.id, tier, soak_minutes(record))
    place = f"acceptance/test_{check}.py::test_{check}[{cell.id}]"
    return _command(place, f"{cell.device} and {check}", tier, [cell.model], [cell.batch])


def reproduce_cell(cell: Cell, tier: str) -> str:
    """Return the command for every check of a cell, quoted for a shell."""
    return _command("acceptance", cell.device, tier, [cell.model], [cell.batch])


def soak_minutes(record: Record | None) -> float | None:
    """Return how long a soak was planned to last; None for other checks, and where it measured nothing."""
    measured = None if record is None else record.measurement
    return measured.planned_s / 60.0 if isinstance(measured, SoakMeasurement) else None


def reproduce_checks(
    ids: Iterable[str], tier: str, more: Sequence[str] = (), minutes: float | None = None
) -> str:
    """Return one command for some checks, quoted for a shell: it runs them, and those that lie between them.

    Ids that are not of checks are left out; it is empty where none is. ``more`` are further options of pytest,
    ``minutes`` is how long each soak lasts, by default what the tier says.
    """
    matches = [match for match in map(_ID.fullmatch, ids) if match is not None]
    if not matches:
        return ""
    found = [match.groupdict() for match in matches]
    if {one["check"] for one in found} == {"soak"}:
        return " && ".join(_soak(match[0].rpartition(":")[0], tier, minutes) for match in matches)
    models, devices, batches, checks = (
        list(dict.fromkeys(one[name] for one in found))
        for name in ("model", "device", "batch", "check")
    )
    expression = _either(devices)
    if not {*CHECKS} <= {*checks}:
        expression += f" and {_either(checks)}"
    sizes = [int(batch) for batch in batches]
    return _command("acceptance", expression, tier, models, sizes, more)


def _soak(cell: str, tier: str, minutes: float | None) -> str:
    lasting = () if minutes is None else ("--minutes", f"{minutes:g}")
    return shlex.join(("harness", "soak", cell, "--tier", tier, *lasting))


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"({' or '.join(names)})"


def _command(
    place: str,
    expression: str,
    tier: str,
    models: Sequence[str],
    batches: Sequence[int],
    more: Sequence[str] = (),
) -> str:
    narrowed = [
        *(word for model in models for word in ("--model", model)),
        *(word for batch in batches for word in ("--batch-size", str(batch))),
        *more,
    ]
    return shlex.join(("pytest", place, "-m", expression, "--tier", tier, *narrowed))
