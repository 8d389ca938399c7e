"""Look for a file that breaks a reader, for as long as there is time.

    python benchmarks/fuzz.py --minutes 10 --jobs 2          every reader, ten minutes each, two at a time
    python benchmarks/fuzz.py --minutes 1 --only manifest
    python benchmarks/fuzz.py --results fuzz.jsonl           in parts: each reader for what it lacks of the minutes

Guided by coverage with atheris where it is installed, else with Hypothesis's mutations. Each reader
runs in its own process, which may take a gigabyte more than it starts with, and twenty seconds
a file. What breaks one is printed, and the exit status is 1. A line of ``--results`` is one reader for some
minutes; those before a file that broke it do not count. Delete the file to start afresh.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import faulthandler
import importlib.util
import multiprocessing
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from parts import keep_result, kept_results

if TYPE_CHECKING:
    from harness.clips import Clip
    from harness.spec import InputProtocol

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
GIB = 1 << 30
LIMIT_S = 20
CHUNK = 200
NOTHING = "nothing"


@dataclasses.dataclass(frozen=True)
class Run:
    """One reader for some minutes; ``outcome`` is what was found, and ``peak_mb`` of memory."""

    reader: str
    engine: str
    date: str
    minutes: float
    files: int
    peak_mb: int
    outcome: str


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.child:
        return _child(options.child, options.engine, options.minutes * 60)
    # Not at the top: what a child has imported before atheris is not guided by coverage.
    from measured import finish

    names = options.only or _names()
    runs = _runs(options)
    print(f"{'reader':24} {'minutes':>8} {'files':>8} {'a second':>9} {'peak MB':>8}  found")
    lacking = {name: minutes for name in names if (minutes := _lacking(name, runs, options)) > 0.0}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        started = [pool.submit(_fuzzed, *each, options.engine) for each in lacking.items()]
        for one in concurrent.futures.as_completed(started):
            runs.append(one.result())
            keep_result(dataclasses.asdict(runs[-1]), options.results)
    whole = [name for name in names if _lacking(name, runs, options) <= 0.0]
    note = _totals([run for run in runs if run.reader in whole], options)
    asked = "readers that took or refused everything"
    return finish(asked, len(whole), len(names), at_least=True, note=note)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    engine = "hypothesis" if importlib.util.find_spec("atheris") is None else "atheris"
    parser.add_argument("--minutes", type=float, default=10.0, help="for each reader")
    parser.add_argument("--only", nargs="+", metavar="READER")
    parser.add_argument("--jobs", type=int, default=1, help="readers at a time")
    parser.add_argument("--results", type=Path, metavar="FILE", help="go on from these")
    parser.add_argument("--engine", choices=["atheris", "hypothesis"], default=engine)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _names() -> list[str]:
    from tests.fuzz.test_fuzz import NAMES

    return NAMES


def _runs(options: argparse.Namespace) -> list[Run]:
    """Return what ``--results`` holds of an engine, oldest first."""
    runs = [Run(**result) for result in kept_results(options.results)]
    return [run for run in runs if run.engine == options.engine]


def _lacking(name: str, runs: Sequence[Run], options: argparse.Namespace) -> float:
    """Return the minutes that a reader still has to bear since it last broke."""
    minutes = 0.0
    for run in runs:
        if run.reader == name:
            minutes = minutes + run.minutes if run.outcome == NOTHING else 0.0
    return round(options.minutes - minutes, 3)


def _fuzzed(name: str, minutes: float, engine: str) -> Run:
    """Fuzz one reader in its own process; print a line, and what broke it."""
    command = [sys.executable, __file__, "--child", name]
    command += ["--engine", engine, "--minutes", str(minutes)]
    limit_s, today = minutes * 60 + 300, datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        # What broke a reader may be quoted, whatever its bytes.
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=limit_s,
            check=False,
        )
        said = done.stdout + done.stderr
        outcome = NOTHING if done.returncode == 0 else f"broken, status {done.returncode}"
    except subprocess.TimeoutExpired:
        said, outcome = "", f"hangs: stopped after {limit_s:.0f} s"
    # libFuzzer has its own words for it.
    files = re.findall(r"^(?:Done|stat::number_of_executed_units:)\s*(\d+)", said, re.MULTILINE)
    peak_mb = re.findall(r"peak_rss_mb:\s*(\d+)", said)
    numbers = int([0, *files][-1]), int([0, *peak_mb][-1])
    run = Run(name, engine, today, minutes, *numbers, outcome)
    speed = run.files / (60 * minutes)
    line = f"{name:24} {minutes:8g} {run.files:8} {speed:9.0f} {run.peak_mb:8}  {outcome}"
    print(line if outcome == NOTHING else f"{line}\n{_cause(said)}", flush=True)
    return run


def _totals(runs: Sequence[Run], options: argparse.Namespace) -> str:
    """Say what the readers that are whole have borne."""
    files, peak_mb = sum(run.files for run in runs), max((run.peak_mb for run in runs), default=0)
    return f"{options.minutes:g} minutes each with {options.engine}: {files} files, at most {peak_mb} MB"


def _cause(said: str) -> str:
    """Return what broke a reader, without the progress of libFuzzer."""
    lines = [line for line in said.splitlines() if line and not line.startswith(("#", "INFO:"))]
    # The error comes after the calls that led to it.
    return "\n".join(f"  {line}" for line in lines[-30:])


def _child(name: str, engine: str, seconds: float) -> int:
    # Where a library crashes.
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        if engine == "atheris":
            return _with_atheris(name, Path(folder), seconds)
        return _with_hypothesis(name, Path(folder), seconds)


class Decoder:
    """A process that decodes clips, as those of the suite do (harness/data/streaming.py): decord may crash in it."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, clip: "Clip", protocol: "InputProtocol") -> object:
        """Return the crops of a clip; BrokenProcessPool is raised where a decoder crashes."""
        from harness.data.loading import crops_from_clip
        from harness.host.child_process import follow_parent

        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, spawn, follow_parent)
        try:
            return self._pool.submit(crops_from_clip, clip, protocol).result()
        except BrokenProcessPool:
            self._pool = None
            raise


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + GIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"one file took more than {LIMIT_S} s")


def _with_hypothesis(name: str, folder: Path, seconds: float) -> int:
    from hypothesis import HealthCheck, given, seed, settings

    from tests.fuzz.mutations import changed
    from tests.fuzz.readers import readers

    reader = readers(folder, Decoder())[name]
    content, count, end_s = reader.path.read_bytes(), 0, time.monotonic() + seconds
    signal.signal(signal.SIGALRM, _too_long)
    _limit_memory()

    def outcome(mutated: bytes) -> None:
        signal.alarm(LIMIT_S)
        reader.outcome(mutated)
        signal.alarm(0)

    rules = settings(
        max_examples=CHUNK,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    while time.monotonic() < end_s:
        again = given(changed(content))(outcome)
        rules(seed(random.getrandbits(64))(again))()
        count += CHUNK
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"Done {count}\npeak_rss_mb: {peak_mb}")
    return 0


def _with_atheris(name: str, folder: Path, seconds: float) -> int:
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["harness"]):
        from tests.fuzz.readers import readers

    reader = readers(folder / "readers", Decoder())[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "valid").write_bytes(reader.path.read_bytes())
    _limit_memory()
    bounds = [f"-max_total_time={seconds:.0f}", f"-timeout={LIMIT_S}", "-rss_limit_mb=0"]
    where = [f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *bounds, *where, str(corpus)], reader.outcome)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
