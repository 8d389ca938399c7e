"""Look for a file that breaks a reader, for as long as there is time.

    python benchmarks/fuzz.py --minutes 10                    every reader, ten minutes each
    python benchmarks/fuzz.py --minutes 1 --only manifest

Guided by coverage with atheris where it is installed, else with Hypothesis's mutations. Each reader
runs in its own process, which may take a gigabyte more than it starts with, and twenty seconds
a file. What breaks one is printed, and the exit status is 1.
"""

import argparse
import importlib.util
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
GIB = 1 << 30
LIMIT_S = 20
CHUNK = 200


def main() -> int:
    options = _options()
    if options.child:
        return _child(options.child, options.engine, options.minutes * 60)
    names = options.only or _names()
    print(f"{'reader':24} {'files':>8} {'a second':>9} {'peak MB':>8}  found")
    failed = [name for name in names if not _is_whole(name, options)]
    print(f"{len(names) - len(failed)} of {len(names)} readers took or refused everything")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    engine = "hypothesis" if importlib.util.find_spec("atheris") is None else "atheris"
    parser.add_argument("--minutes", type=float, default=10.0, help="for each reader")
    parser.add_argument("--only", nargs="+", metavar="READER")
    parser.add_argument("--engine", choices=["atheris", "hypothesis"], default=engine)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _names() -> list[str]:
    from tests.fuzz.test_fuzz import NAMES

    return NAMES


def _is_whole(name: str, options: argparse.Namespace) -> bool:
    """Fuzz one reader in its own process; print a line, and what broke it."""
    start_s = time.perf_counter()
    command = [sys.executable, __file__, "--child", name]
    command += ["--engine", options.engine, "--minutes", str(options.minutes)]
    limit_s = options.minutes * 60 + 300
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        print(f"{name:24} hangs: stopped after {limit_s:.0f} s")
        return False
    said = done.stdout + done.stderr
    # libFuzzer has its own words for it.
    files = re.findall(r"^(?:Done|stat::number_of_executed_units:)\s*(\d+)", said, re.MULTILINE)
    count, seconds = int(files[-1]) if files else 0, time.perf_counter() - start_s
    peak_mb = int((re.findall(r"peak_rss_mb:\s*(\d+)", said) or [0])[-1])
    print(f"{name:24} {count:8} {count / seconds:9.0f} {peak_mb:8}  {_found(done.returncode)}")
    if done.returncode:
        print(_cause(said))
    return done.returncode == 0


def _cause(said: str) -> str:
    """Return what broke a reader, without the progress of libFuzzer."""
    lines = [line for line in said.splitlines() if line and not line.startswith(("#", "INFO:"))]
    return "\n".join(f"  {line}" for line in lines[:30])


def _found(status: int) -> str:
    return "nothing" if status == 0 else f"broken, status {status}"


def _child(name: str, engine: str, seconds: float) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        if engine == "atheris":
            return _with_atheris(name, Path(folder), seconds)
        return _with_hypothesis(name, Path(folder), seconds)


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

    reader = readers(folder)[name]
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

    reader = readers(folder / "readers")[name]
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
