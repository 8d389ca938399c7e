"""The command line: ``harness`` or ``python -m harness``."""

import argparse
import contextlib
import gc
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from harness.errors import HarnessError, printable_lines

USAGE_ERROR = 2
# Modules of harness/cli with the commands that each adds, in the order of the help. One command
# imports one module: `harness verify` needs neither a model nor a device.
MODULES: Mapping[str, tuple[str, ...]] = {
    "model": ("model",),
    "models": ("doctor", "models", "export", "build", "run", "cache"),
    "offline_models": ("om",),
    "dataset": ("dataset", "preprocess"),
    "judge": ("judge",),
    "export_results": ("export-results",),
    "sign": ("keygen", "sign", "verify"),
    "report": ("report",),
    "watch": ("watch",),
    "soak": ("soak",),
    "contract": ("thresholds", "calibrate"),
    "precision": ("precision",),
    "nightly": ("history", "baseline", "gate"),
    "bisect": ("bisect",),
    "selftest": ("selftest",),
    "farm": ("farm",),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done, 1 no, 2 unusable input, 130 Ctrl-C, 141 nobody reads on; ``judge`` and ``gate`` end like
    the run: 6 incomplete and 7 inconclusive.
    """
    parser = _parser(arguments)
    if arguments is None:
        # What is imported stays: looking through it for garbage takes a fifth of a quick command.
        gc.freeze()
    options = parser.parse_args(arguments)
    try:
        with contextlib.redirect_stdout(_Escaping(sys.stdout)):
            status: int = options.function(options)
            sys.stdout.flush()
    except HarnessError as error:
        print(f"harness {options.command}: {printable_lines(str(error))}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"harness {options.command}: stopped; what was finished is kept", file=sys.stderr)
        return 130
    except _Unwritten as error:
        # Nothing is to be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"harness {options.command}: {error}", file=sys.stderr)
        return error.status
    return status


class _Unwritten(Exception):
    """Standard output takes no more; ``status`` is how the command ends."""

    def __init__(self, error: OSError) -> None:
        # Who reads may have seen enough, as `head` has.
        is_read = not isinstance(error, BrokenPipeError)
        super().__init__(
            f"its output cannot be written: {error.strerror}"
            if is_read
            else "nobody reads its output any more"
        )
        self.status = USAGE_ERROR if is_read else 141


class _Escaping(io.TextIOBase):
    """Standard output, in which nothing that a command has read moves the cursor or hides a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"

    def write(self, text: str) -> int:
        """Write text with control characters escaped, but for tabs and line ends.

        What the encoding of the locale lacks is escaped as well.
        """
        known = printable_lines(text).encode(self._encoding, "backslashreplace")
        try:
            return self._stream.write(known.decode(self._encoding))
        except OSError as error:
            raise _Unwritten(error) from error

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self._stream.flush()
        except OSError as error:
            raise _Unwritten(error) from error

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._stream.fileno()


def _parser(arguments: Sequence[str] | None) -> argparse.ArgumentParser:
    """Return a parser of the command that is called, or of every command."""
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Decide whether a video model may ship on a device. The checks themselves run "
        "with pytest: pytest -m cpu acceptance/",
    )
    parser.add_argument("--site", type=Path, help="site.toml of this machine")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in _modules(arguments):
        importlib.import_module(f"harness.cli.{name}").add_commands(commands)
    return parser


def _modules(arguments: Sequence[str] | None) -> list[str]:
    """Return the module of the command that is called, or, where there is none, all of them."""
    first = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    first.add_argument("--site")
    first.add_argument("command", nargs="?")
    try:
        called = first.parse_known_args(arguments)[0].command
    except argparse.ArgumentError:
        called = None
    return [name for name, names in MODULES.items() if called in names] or list(MODULES)


if __name__ == "__main__":
    sys.exit(main())
