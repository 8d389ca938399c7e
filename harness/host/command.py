"""Run a command in a process group of its own, with a limit, a heartbeat and a log file.

No child outlives the harness: a timeout, an interrupt and the end of the harness itself, however it
comes, kill the whole group (see ``command_guard.py``).
"""

import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

GUARD = Path(__file__).with_name("command_guard.py")
TAIL_BYTES = 1 << 20
POLL_S = 0.2
EMULATOR_STAMP = "EMULATOR_STAMP"

CommandHeartbeat = Callable[[float, str], None]


@dataclasses.dataclass(frozen=True)
class Command:
    """What to run, where, and for how long.

    Attributes:
        argv: the executable, found on the PATH of ``env``, and its arguments.
        env: the whole environment of the child, or None for a copy of ours.
        log: file that gets standard output and standard error, or None to keep only the tail.
        heartbeat: called every ``heartbeat_s`` with the seconds so far and the last line printed.
    """

    argv: tuple[str, ...]
    timeout_s: float
    cwd: Path | None = None
    env: Mapping[str, str] | None = None
    log: Path | None = None
    heartbeat: CommandHeartbeat | None = None
    heartbeat_s: float = 60.0

    @property
    def text(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.argv)


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """How a command ended; ``rc`` is 128 + n where signal n ended it, negative where we did."""

    rc: int
    output: str
    seconds: float
    log: Path | None = None
    timed_out: bool = False

    @property
    def last_lines(self) -> str:
        """The last few lines printed, for a message."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return " / ".join(lines[-3:]) or "(nothing)"


class RunCommand(Protocol):
    """The seam for fakes."""

    def __call__(self, command: Command) -> CommandResult:
        """Run ``command`` to its end.

        Raises:
            FileNotFoundError: the executable is not there.
        """
        ...


def executable(name: str, env: Mapping[str, str] | None = None) -> Path | None:
    """Return where ``name`` is on the PATH of ``env``, or None."""
    found = shutil.which(name, path=(os.environ if env is None else env).get("PATH"))
    return Path(found).absolute() if found else None


def emulator_stamps(paths: Sequence[Path | None], env: Mapping[str, str]) -> tuple[str, ...]:
    """Return what shows that the tools are emulated: a variable, or a file beside them.

    The real tools have neither; the emulator's folder holds the file whatever the variable says.
    """
    stamps = [EMULATOR_STAMP] if env.get(EMULATOR_STAMP) else []
    folders = [path.resolve().parent for path in paths if path is not None]
    folders += [Path(entry) for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    files = dict.fromkeys(folder / EMULATOR_STAMP for folder in folders)
    return (*stamps, *(str(file) for file in files if file.is_file()))


def run_command(command: Command) -> CommandResult:
    """Run ``command`` to its end or to its limit and return how it went."""
    start = time.monotonic()
    with _log_file(command.log) as log:
        with guarded(command, stdout=log, stderr=subprocess.STDOUT) as process:
            timed_out = not _wait(process, command, log, start)
        output = _tail(log)
    seconds = time.monotonic() - start
    return CommandResult(process.returncode, output, seconds, command.log, timed_out)


@contextlib.contextmanager
def guarded(
    command: Command,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
    stdin: int = subprocess.DEVNULL,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start ``command`` under the guard; on the way out nothing of its group is left running."""
    found = executable(command.argv[0], command.env)
    if found is None:
        raise FileNotFoundError(f"{command.argv[0]} is not an executable file and not on PATH")
    alive, ours = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(alive), str(found), *command.argv[1:]],
            cwd=command.cwd,
            env=command.env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(alive,),
            start_new_session=True,
        )
        with _killed_at_the_end(process):
            yield process
    finally:
        os.close(alive)
        os.close(ours)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill what is left of the process group that ``process`` leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _killed_at_the_end(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        kill_group(process)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


@contextlib.contextmanager
def _log_file(path: Path | None) -> Iterator[IO[bytes]]:
    if path is None:
        with tempfile.TemporaryFile() as log:
            yield log
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w+b") as log:
            yield log


def _wait(
    process: "subprocess.Popen[bytes]", command: Command, log: IO[bytes], start: float
) -> bool:
    """Wait for the end and return True, or return False when the limit is reached."""
    next_beat = start + command.heartbeat_s
    while True:
        now = time.monotonic()
        left_s = start + command.timeout_s - now
        if left_s <= 0:
            return False
        try:
            process.wait(min(left_s, max(next_beat - now, 0.0) + POLL_S))
            return True
        except subprocess.TimeoutExpired:
            next_beat = _beat(command, log, start, next_beat)


def _beat(command: Command, log: IO[bytes], start: float, due: float) -> float:
    now = time.monotonic()
    if command.heartbeat is None or now < due:
        return max(due, now)
    lines = _tail(log).splitlines()
    command.heartbeat(now - start, lines[-1] if lines else "")
    return now + command.heartbeat_s


def _tail(log: IO[bytes]) -> str:
    # pread leaves the offset alone, which the child writes at.
    size = os.fstat(log.fileno()).st_size
    start = max(0, size - TAIL_BYTES)
    return os.pread(log.fileno(), size - start, start).decode("utf-8", "replace")
