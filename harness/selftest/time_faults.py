"""Faults of time: a device that really does more, less or nothing, and clocks that lie."""

import contextlib
import dataclasses
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.device import Session
from harness.errors import RunError
from harness.measure.timing import measure_session
from harness.record.record import RunDirectory
from harness.registry import device_spec
from harness.selftest.device_faults import on_device
from harness.selftest.faults import (
    MODEL,
    Fault,
    NotApplicable,
    NotPlanted,
    Plant,
    fault_of_run,
    in_a_run,
)
from harness.selftest.setting import Setting, of_this_machine, wide
from harness.spec import DeviceModel, Feed
from harness.testing import FaultyDevice
from harness.timings import LoopSettings, LoopTimes

Query = Callable[[Feed], Feed]
NAP_S = 0.05
# As the contract has them: of the tiny models on a host, and less than that of a chip alone.
HOST_TOLERANCE, CHIP_TOLERANCE = 0.09, 0.03


class TimedSession(Session):
    """A session whose queries go through a function, those of its loop as well."""

    def __init__(self, session: Session, query: Callable[[Query], Query]) -> None:
        self._session = session
        self._query = query(session.run)

    def run(self, feed: Feed) -> Feed:
        """Run a batch as the fault has it."""
        return self._query(feed)

    def loop(self, feed: Feed, settings: LoopSettings) -> LoopTimes:
        """Time queries with their copies, on the wall: the device's own loop knows no fault."""
        outputs: list[Feed] = []
        times_ms = measure_session(lambda: outputs.append(self._query(feed)), settings)
        return LoopTimes(times_ms, times_ms, outputs[-1])

    def close(self) -> None:
        """Close the session."""
        self._session.close()


def plain(run: Query) -> Query:
    """Return the query as it is."""
    return run


@dataclasses.dataclass
class TimedDevice(FaultyDevice):
    """A device with a fault of time, which its sessions have in the process that times them.

    ``query`` changes the queries, ``on_open`` is called as a session opens, and ``threads`` is how
    many it may use in place of those that it is given.
    """

    query: Callable[[Query], Query] = plain
    on_open: Callable[[], object] = dict
    threads: int | None = None

    def open(self, model: DeviceModel, threads: int | None = None) -> TimedSession:  # type: ignore[override]
        """Open a session with the fault."""
        self.on_open()
        session = self.device.open(model, self.threads or threads)
        return TimedSession(session, self.query)


@dataclasses.dataclass(frozen=True)
class MoreWork:
    """Computes on after a query, by a share of the time that it took by a clock of this process."""

    share: float
    clock: str

    def __call__(self, run: Query) -> Query:
        """Return the slower query."""
        now_s = getattr(time, self.clock)

        def query(feed: Feed) -> Feed:
            start_s = now_s()
            output = run(feed)
            end_s = now_s()
            end_s += self.share * (end_s - start_s)
            while now_s() < end_s:
                sum(range(1000))
            return output

        return query


@dataclasses.dataclass(frozen=True)
class SlowOnce:
    """Slows the first session down, which leaves the id of its process in a file for the others."""

    slow: MoreWork
    mark: Path

    def __call__(self, run: Query) -> Query:
        """Return the query of a session, slower in the first."""
        own = str(os.getpid())
        if not self.mark.exists():
            self.mark.write_text(own)
        return self.slow(run) if self.mark.read_text() == own else run


def sleeping(run: Query) -> Query:
    """Return a query that sleeps once it has computed."""

    def query(feed: Feed) -> Feed:
        output = run(feed)
        time.sleep(NAP_S)
        return output

    return query


def answering_from_memory(run: Query) -> Query:
    """Return a query that computes the first time only."""
    kept: list[Feed] = []

    def query(feed: Feed) -> Feed:
        if not kept:
            kept.append(run(feed))
        return kept[0]

    return query


def drifting(run: Query) -> Query:
    """Return a query that answers something else each time."""
    count = iter(range(1 << 30))

    def query(feed: Feed) -> Feed:
        number = next(count)
        return {name: rows + np.float32(0.01 * number) for name, rows in run(feed).items()}

    return query


def skipping_half(run: Query) -> Query:
    """Return a query that computes the first clip of a batch and gives it to all."""
    return lambda feed: {
        name: np.repeat(rows[:1], len(rows), 0) for name, rows in run(feed).items()
    }


@dataclasses.dataclass(frozen=True)
class LyingClock:
    """Bends a clock of the process by a factor from then on, and lets it jump after 20 reads."""

    name: str
    factor: float = 1.0
    jump_s: float = 0.0

    def __call__(self) -> None:
        """Put the clock in the place of the right one."""
        clock, reads = getattr(time, self.name), iter(range(1 << 30))
        start_s = clock()

        def lie() -> float:
            jumped_s = self.jump_s if next(reads) > 20 else 0.0
            told_s: float = start_s + self.factor * (clock() - start_s) + jumped_s
            return told_s

        setattr(time, self.name, lie)


def killed() -> None:
    """Kill the process that times, as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def timed(**fault: Any) -> Plant:
    """Return what gives the device a fault of time, judged by the speed that it has without one."""

    @contextlib.contextmanager
    def plant(setting: Setting) -> Iterator[None]:
        setting.contract = with_golden(setting, golden(setting))
        with on_device(lambda device: TimedDevice(device, **fault))(setting):
            yield

    return plant


def slower(share: float) -> Plant:
    """Return what makes a device slower by a share; a host where its contract does not allow it."""

    @contextlib.contextmanager
    def plant(setting: Setting) -> Iterator[None]:
        is_host = device_spec(setting.device).is_host
        if is_host and share <= HOST_TOLERANCE * 1.2:
            raise NotApplicable(f"the contract lets a host be {100 * HOST_TOLERANCE:g} % slower")
        with timed(query=MoreWork(share, _clock(setting)))(setting):
            yield

    return plant


@contextlib.contextmanager
def one_session_slow(setting: Setting) -> Iterator[None]:
    """Make one session take four times as long."""
    query = SlowOnce(MoreWork(3.0, _clock(setting)), setting.folder / "slow")
    with timed(query=query)(setting):
        yield


def _clock(setting: Setting) -> str:
    return "thread_time" if device_spec(setting.device).is_host else "perf_counter"


def golden(setting: Setting) -> float:
    """Return the speed that the device has without a fault, timed once in the way of the faults."""
    if "golden" not in setting.shared:
        contract, setting.contract = setting.contract, wide(setting.contract)
        folder = setting.new_folder()
        with on_device(TimedDevice)(setting):
            answer = setting.run("throughput", MODEL)
        setting.contract = contract
        if answer.status:
            raise RunError(f"a timing without a fault is not green: {answer.said}")
        (record,) = RunDirectory(folder).records()
        speed = record.verdict.findings[0].measured
        setting.shared["golden"] = speed
    return float(setting.shared["golden"])


def with_golden(setting: Setting, golden: float) -> str:
    """Return the contract with the speed that the device has here, in the row of the cell."""
    tolerance = HOST_TOLERANCE if device_spec(setting.device).is_host else CHIP_TOLERANCE
    row = f"golden = {golden:.5g}, tolerance = {tolerance}"
    start = setting.contract.index(f"[models.{MODEL}]")
    before, text = setting.contract[:start], setting.contract[start:]
    head = rf"\[models\.{MODEL}\.devices\.{setting.device}\.throughput\]"
    table = rf"({head}.*?bs4 = \{{ )golden = [^,]+, tolerance = [\d.]+"
    text, count = re.subn(table, rf"\g<1>{row}", text, count=1, flags=re.DOTALL)
    if not count:
        none = rf'({setting.device} = \{{ no_golden = \["bs1", )"bs4", ("bs8"\])'
        more = rf'\g<1>\g<2>, throughput.bs4 = {{ {row}, source = "cpu" }}'
        text, count = re.subn(none, more, text, count=1)
    if not count:
        raise NotPlanted(f"the contract has no row of {setting.cell(MODEL).id} to put a golden in")
    return of_this_machine(before + text)


_SLOW = "too slow"
_FROM_MEMORY = "implausibly fast|did not compute|are zero|no work is done"
_TIMES: tuple[tuple[str, str, Plant], ...] = (
    ("5 % slower", _SLOW, slower(0.05)),
    ("10 % slower", _SLOW, slower(0.1)),
    ("15 % slower", _SLOW, slower(0.15)),
    ("20 % slower", _SLOW, slower(0.2)),
    ("twice as slow", _SLOW, slower(1.0)),
    ("one session four times as slow", f"{_SLOW}|lies between", one_session_slow),
    ("a wait in every query", "waiting in a query", timed(query=sleeping)),
    ("threads lost", "processors at work", timed(threads=1)),
    ("answers from memory", _FROM_MEMORY, timed(query=answering_from_memory)),
    ("another answer with each query", "did not compute", timed(query=drifting)),
    ("a wall clock at half speed", "clock", timed(on_open=LyingClock("perf_counter", 0.5))),
    (
        "a processor clock at half speed",
        "processor time",
        timed(on_open=LyingClock("process_time", 0.5)),
    ),
    ("a clock that jumps back", "clock", timed(on_open=LyingClock("perf_counter", jump_s=-3600.0))),
    ("its process killed", "killed by SIGKILL", timed(on_open=killed)),
)


def time_faults() -> Iterable[Fault]:
    """Return the faults of time; each times sessions in processes of their own."""
    for name, finding, plant in _TIMES:
        yield fault_of_run("time", name, "throughput", finding, plant)
    trial = in_a_run("all", timed(query=skipping_half))
    yield Fault("time", "most of the work skipped", "accuracy, throughput", "accuracy fail", trial)
