"""Notes beside lock files: who holds the lock, for whoever waits. They decide nothing.

Notes come from other users, too: only small plain files are read, and what they say is printed escaped.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import shlex
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.errors import printable
from harness.host.reading import bytes_from_file, json_from_text

_MAX_BYTES = 4096
_MAX_COMMAND = 120


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who holds a lock: process, host, command line and since when."""

    pid: int
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        """Return the owner as one line for a person."""
        return printable(f"process {self.pid} on {self.host} since {self.since} ({self.command})")


def read_owner(path: Path) -> Owner | None:
    """Return who holds ``path``; None when the note is absent, unreadable or stale."""
    try:
        content = bytes_from_file(_note(path), _MAX_BYTES, follow=False)
        owner = _owner_from_json(json_from_text(content))
    except (OSError, ValueError, TypeError):
        return None
    return owner if _may_be_alive(owner) else None


def write_note(path: Path) -> None:
    """Write who this process is, in place of an older note; a full disk does not stop the lock."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    program, *arguments = sys.orig_argv
    # The name of the program without its folder: a long path would leave no room for the arguments.
    command = shlex.join([Path(program).name, *arguments])[:_MAX_COMMAND]
    owner = Owner(os.getpid(), socket.gethostname(), command, now)
    with contextlib.suppress(OSError):
        file, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(file, "w", encoding="utf-8") as stream:
                os.fchmod(file, 0o644)
                stream.write(json.dumps(dataclasses.asdict(owner)))
            # A rename replaces whatever has the name of the note and follows no link.
            Path(name).replace(_note(path))
        except OSError:
            Path(name).unlink()


def remove_note(path: Path) -> None:
    """Remove the note of this process."""
    with contextlib.suppress(OSError):
        _note(path).unlink()


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".owner")


def _owner_from_json(table: Any) -> Owner:
    owner = Owner(**table)
    texts = (owner.host, owner.command, owner.since)
    if type(owner.pid) is not int or not 0 < owner.pid < 2**31:
        raise TypeError("pid should be the number of a process")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("host, command and since should be text")
    return owner


def _may_be_alive(owner: Owner) -> bool:
    if owner.host != socket.gethostname():
        return True
    try:
        # A process of another user raises PermissionError, and so is alive.
        with contextlib.suppress(PermissionError):
            os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    return True
