"""Runs that are killed at random moments, and caches that are harmed: the next run must not notice.

A run of three checks is killed with SIGKILL at a random moment, with some of its artifacts still to be built. A
second run on the same cache must come to the verdicts of an undisturbed run; the killed run must leave no lock held
and no process behind, its records must be readable up to the last one, and it must not pass for a run that ended.
Each harm changes a file of the cache, or how runs share it; the next run must come to the same verdicts.

python benchmarks/crash_points.py --points 200
"""

import argparse
import contextlib
import dataclasses
import functools
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from measured import finish

from harness.build import torch_model
from harness.errors import RecordError
from harness.host.locks import try_hold
from harness.record.record import RunDirectory
from harness.registry import model_spec
from harness.selftest.faults import MODEL
from harness.selftest.setting import Bench, Setting
from harness.selftest.table import without_fault

CHECKS = ("export", "parity", "accuracy")
# What may be missing from the cache, so that a run is building when it is killed; from quick to several seconds.
KINDS = (
    "device",
    "simplified-scores",
    "onnx-scores",
    "reference-scores",
    "simplified",
    "onnx",
    "crops",
)
ORPHANS_END_S = 10.0
MARK = "ACCEPTANCE_CRASH_POINT"
Verdicts = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Point:
    """One kill: after a share of the time that a run takes, with some kinds of artifacts missing."""

    number: int
    share: float
    missing: tuple[str, ...]


def points_from_seed(count: int, seed: int) -> list[Point]:
    """Return random points, spread evenly over the time of a run."""
    rng = random.Random(seed)
    return [
        Point(n, (n + rng.random()) / count, tuple(k for k in KINDS if rng.random() < 0.15))
        for n in range(count)
    ]


class Runs:
    """Runs of the three checks, each in its own process, and the verdicts of an undisturbed one."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        # Forked, so that a run does not spend its time on imports.
        self._context = multiprocessing.get_context("fork")
        first = self._context.Process(target=without_fault, args=(bench, [MODEL]))
        first.start()
        first.join()
        setting = bench.setting("undisturbed")
        start_s = time.monotonic()
        process = self.start(setting, "first")
        process.join()
        self.seconds = time.monotonic() - start_s
        self.verdicts = verdicts(setting.folder / "first")

    def start(self, setting: Setting, name: str) -> multiprocessing.process.BaseProcess:
        """Start a run; its folder is ``name``."""
        process = self._context.Process(target=_run, args=(setting, name))
        process.start()
        return process

    def again(self, setting: Setting, name: str) -> str:
        """Run to the end; return what differs from an undisturbed run, or an empty string."""
        process = self.start(setting, name)
        process.join()
        found = verdicts(setting.folder / name)
        if process.exitcode or found != self.verdicts:
            return f"exit status {process.exitcode}: {found or _log(setting, name)}"
        return ""


def kill_at(runs: Runs, point: Point) -> str:
    """Kill a run at a point and run again; return what went wrong, or an empty string."""
    setting = runs.bench.setting(f"point-{point.number}")
    setting.without(*point.missing)
    mark = f"{os.getpid()}-{point.number}"
    os.environ[MARK] = mark
    process = runs.start(setting, "killed")
    del os.environ[MARK]
    # What is missing takes longer; the moment stays within the run either way.
    process.join(point.share * runs.seconds)
    process.kill()
    process.join()
    return (
        _orphans(mark)
        or _held_locks(setting)
        or _lost_records(setting, is_over=process.exitcode == 0)
        or runs.again(setting, "again")
    )


def verdicts(root: Path) -> Verdicts:
    """Return the status of each check of a run."""
    with contextlib.suppress(RecordError):
        return {one.id: str(one.verdict.status) for one in RunDirectory(root).records()}
    return {}


def _run(setting: Setting, name: str) -> None:
    with (setting.folder / f"{name}.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        expression = " or ".join(CHECKS)
        words = ("-m", f"{setting.device} and ({expression})", "--model", MODEL)
        folder = str(setting.folder / name)
        answer = setting.pytest(*words, "--tier", "selftest", "--run-dir", folder)
        print(answer.said, flush=True)
    os._exit(answer.status)


def _log(setting: Setting, name: str) -> str:
    return (setting.folder / f"{name}.log").read_text("utf-8")[-2000:]


def _orphans(mark: str) -> str:
    """Name processes of a killed run that are still there after a while."""
    deadline_s = time.monotonic() + ORPHANS_END_S
    while found := [*_marked(f"{MARK}={mark}".encode())]:
        if time.monotonic() > deadline_s:
            return f"processes of the killed run are left: {found}"
        time.sleep(0.1)
    return ""


def _marked(mark: bytes) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                is_zombie = "\nState:\tZ" in (folder / "status").read_text("utf-8")
                if not is_zombie and mark in (folder / "environ").read_bytes():
                    yield int(folder.name)


def _held_locks(setting: Setting) -> str:
    held = []
    for path in [*setting.folder.rglob("*.lock"), *(setting.folder / "cache").rglob("lock")]:
        with try_hold(path) as is_free:
            if not is_free:
                held.append(path.name)
    return f"locks are held: {', '.join(held)}" if held else ""


def _lost_records(setting: Setting, *, is_over: bool) -> str:
    """Say what is wrong with the folder of the killed run; it may not be there yet."""
    root = setting.folder / "killed"
    if is_over or not (root / "run.json").exists():
        return ""
    if RunDirectory(root).facts().is_over:
        return "" if len(verdicts(root)) == len(CHECKS) else "a killed run says that it ended"
    lines = (root / "records.jsonl").read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    if len(whole) == len(lines) and len(verdicts(root)) != len(whole):
        return f"{len(verdicts(root))} of {len(whole)} records can be read"
    return ""


def _flipped(place: float) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 0x40
        _replace(path, bytes(content))

    return flip


def _cut(path: Path) -> None:
    _replace(path, path.read_bytes()[: path.stat().st_size // 2])


def _replace(path: Path, content: bytes) -> None:
    # A new file: those of the store are linked into other caches.
    path.unlink()
    path.write_bytes(content)


def harms(setting: Setting) -> dict[str, Callable[[], object]]:
    """Return every way to harm a cache, by name: three for each kind of file."""
    found: dict[str, Callable[[], object]] = {}
    changes = {
        "a bit flipped in": _flipped(0.5),
        "the first byte of": _flipped(0.0),
        "half of": _cut,
    }
    for path in sorted(setting.cache.rglob("*")):
        if not path.is_file() or path.name in ("lock", "last-used") or path.stat().st_size == 0:
            continue
        kind = path.relative_to(setting.cache).parts[0]
        what = path.name if kind == "crops" or path.suffix == ".json" else "the payload"
        for words, change in changes.items():
            found.setdefault(f"{words} {what} of {kind}", lambda p=path, c=change: c(p))
    return found


def harmed(runs: Runs, name: str) -> str:
    """Harm a cache in one way; return what went wrong in the run after it, or an empty string."""
    setting = runs.bench.setting(f"harm-{name.replace(' ', '-')}")
    harms(setting)[name]()
    return runs.again(setting, "after")


def _together(runs: Runs, count: int) -> str:
    """Start several runs on one empty cache; return what went wrong, or an empty string."""
    setting = runs.bench.setting("together")
    setting.without(*KINDS)
    setting.contract_file()
    processes = {f"run-{n}": runs.start(setting, f"run-{n}") for n in range(count)}
    for process in processes.values():
        process.join()
    wrong = {n: p.exitcode for n, p in processes.items() if p.exitcode}
    differing = [n for n in processes if verdicts(setting.folder / n) != runs.verdicts]
    return f"{wrong} {differing}" if wrong or differing else ""


def imported() -> None:
    """Import what runs need, so that forked runs do not; compute nothing."""
    import cv2
    import onnxruntime  # noqa: F401
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    torch_model.recognizer_from_spec(model_spec(MODEL))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--harms", type=int, default=1000, metavar="N", help="of a cache; default: all"
    )
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    imported()
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Bench("cpu", Path(folder) / "bench", Path(folder) / "cache"))
        points = points_from_seed(options.points, options.seed)
        ways = list(harms(runs.bench.setting("harms")))
        names = ways[: options.harms]
        with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("fork")) as pool:
            kills = pool.map(functools.partial(kill_at, runs), points)
            killed = {f"point {p.number}": said for p, said in zip(points, kills, strict=True)}
            said = pool.map(functools.partial(harmed, runs), names)
            after = dict(zip(names, said, strict=True))
        if options.harms > len(ways):
            after["ten runs on one cache"] = _together(runs, 10)
    wrong = {name: what for name, what in {**killed, **after}.items() if what}
    print("".join(f"  {name}: {what}\n" for name, what in wrong.items()), end="")
    survived = [sum(name not in wrong for name in names) for names in (killed, after)]
    note = f"{survived[0]} of {len(killed)} kills, {survived[1]} of {len(after)} harms"
    return finish("crash_points", sum(survived), len(killed | after), at_least=True, note=note)


if __name__ == "__main__":
    sys.exit(main())
