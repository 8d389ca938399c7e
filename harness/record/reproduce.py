"""The command that runs one check, or all checks of one cell, again."""

import shlex

from harness.spec import Cell, Check


def reproduce_check(cell: Cell, check: Check, tier: str) -> str:
    """Return the command for one check of a cell, quoted for a shell.

    It requires that check alone, so that its exit status is the outcome of the check.
    """
    place = f"acceptance/test_{check}.py::test_{check}[{cell.id}]"
    return _command(place, cell, f"{cell.device} and {check}", tier)


def reproduce_cell(cell: Cell, tier: str) -> str:
    """Return the command for every check of a cell, quoted for a shell."""
    return _command("acceptance", cell, cell.device, tier)


def _command(place: str, cell: Cell, expression: str, tier: str) -> str:
    narrowed = ("--model", cell.model, "--batch-size", str(cell.batch))
    return shlex.join(("pytest", place, "-m", expression, "--tier", tier, *narrowed))
