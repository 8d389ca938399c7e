"""The page as a PDF file, printed by a headless Chromium where there is one."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness.errors import MissingInput, RunError, first_line

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing of the browser may reach the network.
ARGUMENTS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_LIMIT_S = 120.0


def browser() -> Path:
    """Return the browser of this machine.

    Raises:
        MissingInput: there is none.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise MissingInput(
            f"no PDF, as none of {', '.join(BROWSERS)} is on PATH; install chromium, or print the "
            "page from any browser"
        )
    return Path(found)


def browser_arguments() -> tuple[str, ...]:
    """Return the options under which the browser is started."""
    # Chromium refuses its sandbox to root.
    return (*ARGUMENTS, "--no-sandbox") if os.geteuid() == 0 else ARGUMENTS


def pdf_from_page(page: str, target: Path, program: Path | None = None) -> None:
    """Print a page into ``target``; by ``program``, or by the browser of this machine.

    Raises:
        MissingInput: no browser is installed.
        RunError: it did not print.
    """
    program = program or browser()
    with tempfile.TemporaryDirectory(prefix="signoff-") as folder:
        source, printed = Path(folder, "page.html"), Path(folder, "page.pdf")
        source.write_text(page, encoding="utf-8")
        command = [
            *(str(program), *browser_arguments(), f"--user-data-dir={folder}/profile"),
            *("--no-pdf-header-footer", f"--print-to-pdf={printed}", source.as_uri()),
        ]
        try:
            subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise RunError(f"no PDF: {program} did not print: {first_line(error)}") from error
        if not printed.is_file():
            raise RunError(f"no PDF: {program} reported success but wrote no file")
        shutil.move(printed, target)
