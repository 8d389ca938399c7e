"""Markdown as a CI job shows it on its page: tables and lists of escaped text, within GitHub's limit."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.errors import InputError
from harness.report.formats import cell_text

# GitHub refuses more than 1 MiB a step, all that its commands write together.
BYTES_MAX = 1024 * 1024
CUT = "\n\nCut here: the summary of a job holds 1 MiB. The rest is in the run folder.\n"


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table and the empty line that ends it."""
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for row in rows:
        yield f"| {' | '.join(cell_text(cell, length=None) for cell in row)} |"
    yield ""


def append_job_summary(path: Path, lines: Iterable[str]) -> None:
    """Append to the file of a job summary, cut to what GitHub still takes.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        taken = path.stat().st_size if path.exists() else 0
        content = _fitting("\n".join([*lines, ""]), BYTES_MAX - 1 - taken)
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
