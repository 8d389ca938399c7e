"""Arguments that several commands have, and what the commands make of them."""

import argparse
import atexit
import contextlib
import datetime
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import InputError
from harness.host.suite_code import PACKAGE
from harness.language import ENGLISH, LANGUAGES
from harness.record.raw import write_atomically
from harness.spec import ModelSpec

if TYPE_CHECKING:
    from harness.build.workbench import Workbench
    from harness.host.site import Site

THRESHOLDS = PACKAGE.parent / "thresholds.toml"


def add_command(
    commands: Any, name: str, function: object, text: str, listed: str | None = None
) -> argparse.ArgumentParser:
    """Add a command that ``function`` runs; ``listed`` is its text in the list of commands."""
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=listed or text, description=text
    )
    added.set_defaults(function=function)
    return added


def add_group(commands: Any, name: str, text: str) -> Any:
    """Add a command that has commands of its own; return what these are added to."""
    parser = commands.add_parser(name, help=text, description=text)
    return parser.add_subparsers(required=True, metavar="ACTION")


def add_thresholds(parser: argparse.ArgumentParser) -> None:
    """Add ``--thresholds``, by default the contract of this repository."""
    parser.add_argument("--thresholds", type=Path, default=THRESHOLDS, metavar="FILE")


def add_language(parser: argparse.ArgumentParser, of: str) -> None:
    """Add ``--language``, in which a command says what it has found."""
    text = f"of {of}; default: as site.toml says"
    parser.add_argument("--language", choices=LANGUAGES, help=text)


def add_cell(parser: argparse.ArgumentParser) -> None:
    """Add what names a cell: ``model``, ``--device`` and ``--batch-size``."""
    parser.add_argument("model", help="name, as `harness models` lists it")
    parser.add_argument("--device", default="cpu", help=registry.device_help())
    parser.add_argument("--batch-size", type=positive, default=1, metavar="N")


def site_of(options: argparse.Namespace) -> "Site":
    """Return the site that ``--site`` or the environment names."""
    return registry.load_site(options.site, os.environ)


def language_of(options: argparse.Namespace) -> str:
    """Return the language that ``--language`` names, or the site; without a site, English."""
    # Commands on stored runs must start quickly, so the code of sites is loaded only if there is one.
    names_one = options.site or "ACCEPTANCE_SITE" in os.environ or Path("site.toml").exists()
    return options.language or (site_of(options).language if names_one else ENGLISH)


def workbench_of(
    options: argparse.Namespace, find_model: Callable[[str], ModelSpec] = registry.model_spec
) -> "Workbench":
    """Return a workbench whose progress goes to stderr and whose logs go to a new folder."""
    # Not at the top: what judges stored runs imports nothing that builds.
    from harness.build.workbench import Workbench
    from harness.host.progress import Progress

    log_dir = Path(tempfile.mkdtemp(prefix="harness-logs-"))
    atexit.register(_remove_if_empty, log_dir)
    return Workbench(site_of(options), log_dir, Progress(sys.stderr), find_model)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def write_output(path: Path, content: bytes) -> None:
    """Write a file that a command was asked for.

    Raises:
        InputError: it cannot be written.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def number(what: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return what reads a number that ``fits``; others are refused as not being ``what``."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return read


# Nothing is kept for more days or in more gigabytes.
not_negative = number("a number from 0 to 1000000", lambda value: 0.0 <= value <= 1e6)


def day(text: str) -> datetime.date:
    """Read a day."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day, such as 2027-01-31") from error
