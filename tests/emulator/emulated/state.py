"""What the emulated tools tell each other while a model is loaded, where EMULATOR_STATE names a folder."""

import os
from pathlib import Path
from time import time

LOADED_MB = 300
WARM_S = 10.0


def folder():
    name = os.environ.get("EMULATOR_STATE")
    return Path(name) if name else None


def load(device):
    """Note that this process has a model on a chip; return how many were loaded there before."""
    where = folder()
    if where is None:
        return 0
    before = len(list(where.glob(f"{device}-*")))
    (where / f"{device}-{os.getpid()}").touch()
    return before


def is_loaded(device):
    """Whether a process that still lives has a model on a chip."""
    where = folder()
    pids = [] if where is None else [path.name.split("-")[1] for path in where.glob(f"{device}-*")]
    return any(is_alive(pid) for pid in pids)


def is_warm(device):
    """Whether a model has been loaded on a chip within the last seconds: heat passes more slowly than work."""
    where = folder()
    notes = [] if where is None else where.glob(f"{device}-*")
    return is_loaded(device) or any(time() - path.stat().st_mtime < WARM_S for path in notes)


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def count(what):
    """Count how often something was asked for; 0 where nothing is kept."""
    where = folder()
    if where is None:
        return 0
    with (where / f"count_{what}").open("a") as file:
        file.write(".")
        return file.tell()
