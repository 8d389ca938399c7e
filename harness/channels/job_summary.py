"""The Markdown that a GitHub job shows on its page: what the gate says, and the table of checks.

It is about a run, not about a release: whether that may ship, ``harness report`` says.
"""

from collections.abc import Iterator
from pathlib import Path

from harness.channels.stored_run import ToldRun
from harness.decide.problems import Problem, exit_status
from harness.decide.summary import is_emulated, margin_text
from harness.errors import InputError
from harness.record.record import Record
from harness.record.reproduce import reproduce_cell
from harness.report.page import cell_text
from harness.spec import CHECKS

# GitHub refuses more than 1 MiB a step, all that its commands write together.
BYTES_MAX = 1024 * 1024
CUT = "\n\nCut here: the summary of a job holds 1 MiB. The rest is in the run folder.\n"


def job_summary_from_run(told: ToldRun) -> str:
    """Return the Markdown, which ends in an empty line."""
    facts, found = told.facts, told.decision.problems
    run = f"Run {cell_text(facts.run_id)}, tier {cell_text(facts.tier)}"
    counts = f"{len(told.records)} checks, {len(found)} problem(s)"
    lines = [f"## Acceptance: {exit_status(found).name}", "", f"{run}, {counts}.", ""]
    if is_emulated(told.records):
        lines += ["**EMULATED: no device was there; this can never be signed off.**", ""]
    return "\n".join([*lines, *_problem_lines(found), *_table(told), *_commands(told), ""])


def append_job_summary(path: Path, text: str) -> None:
    """Append to the file of a job summary, cut to what GitHub still takes.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        taken = path.stat().st_size if path.exists() else 0
        content = _fitting(text, BYTES_MAX - 1 - taken)
        with path.open("ab") as file:
            file.write(content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def _fitting(text: str, room: int) -> bytes:
    """Return a text as it is, cut at the end of a line, or, where not even that fits, nothing."""
    content = text.encode()
    if len(content) <= room:
        return content
    kept = content[: room - len(CUT)].decode(errors="ignore").rpartition("\n")[0]
    return (kept + CUT).encode() if room > len(CUT) else b""


def _problem_lines(found: list[Problem]) -> Iterator[str]:
    for problem in found:
        reason = cell_text(problem.reason)
        yield f"- **{problem.status.upper()}** {cell_text(problem.id)}: {reason}"
    if found:
        yield ""


def _table(told: ToldRun) -> Iterator[str]:
    rows: dict[str, dict[str, Record]] = {}
    for record in told.records:
        rows.setdefault(record.cell.id, {})[record.check] = record
    yield f"| cell | {' | '.join(CHECKS)} |"
    yield "|---" * (len(CHECKS) + 1) + "|"
    for name, checks in rows.items():
        texts = [_outcome(told, checks.get(check)) for check in CHECKS]
        yield f"| {cell_text(name)} | {' | '.join(texts)} |"
    yield ""


def _outcome(told: ToldRun, record: Record | None) -> str:
    if record is None:
        return "–"
    seeded = ", seeded weights" if record.weights == "seeded" else ""
    return cell_text(f"{told.outcome(record)} {margin_text(record)}".strip() + seeded)


def _commands(told: ToldRun) -> Iterator[str]:
    """Say how to run again the cells that something is open about."""
    open_ids = {problem.id.rpartition(":")[0] for problem in told.decision.problems}
    cells = {record.cell: record.tier for record in told.records if record.cell.id in open_ids}
    if cells:
        yield from ("To reproduce:", "", "```sh")
        yield from (reproduce_cell(cell, tier) for cell, tier in cells.items())
        yield "```"
