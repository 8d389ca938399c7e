"""Faults of starts and of long work: what is slow, grows, ends early, or was never measured."""

import contextlib
import dataclasses
import functools
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import DeviceBroken
from harness.measure.soak import soak_measurement
from harness.measure.soak_lines import SoakPlan, soak_lines
from harness.record.record import RunDirectory
from harness.registry import device_spec
from harness.selftest.bends import bind, edit, raw_file, stored_record
from harness.selftest.device_faults import on_device
from harness.selftest.faults import MODEL, Fault, NotApplicable, NotPlanted, Plant, Trial, in_a_run
from harness.selftest.setting import Answer, Setting
from harness.selftest.time_faults import MoreWork, Query, TimedDevice, drifting
from harness.spec import Check, DeviceModel, Feed
from harness.timings import Start, Vitals

SOAK_S = 9.0
# What every cell of the tiny model keeps on any device, unless a fault is planted.
LIMITS: Mapping[Check, str] = {
    "startup": "warm_load_max_ms = 2000.0, warm_first_max_ms = 2000.0, host_peak_max_mb = 400.0",
    "soak": "retention_min = 0.9",
}
LATE_S = 2.5
_TAKEN: list[object] = []


@dataclasses.dataclass
class StartedDevice(TimedDevice):
    """A device that says something else of its starts, or loads a file that nobody prepared."""

    said: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    is_prepared: bool = True

    def start(self, model: DeviceModel, feed: Feed, prepare: Callable[[Path], object]) -> Start:
        """Start, and say what the fault says of it."""
        start = super().start(model, feed, prepare if self.is_prepared else str)
        return dataclasses.replace(start, **self.said)


@dataclasses.dataclass
class SilentDevice(TimedDevice):
    """A device whose tools do not answer while it works."""

    def vitals(self) -> Vitals:
        """Raise what a tool that hangs raises."""
        raise DeviceBroken("the tool did not answer within 30 s and was killed")


@dataclasses.dataclass(frozen=True)
class SlowLate:
    """Slows the queries down, some seconds after the session was opened."""

    slow: MoreWork
    after_s: float

    def __call__(self, run: Query) -> Query:
        """Return the query that gets slower."""
        late, late_s = self.slow(run), time.monotonic() + self.after_s
        return lambda feed: (late if time.monotonic() > late_s else run)(feed)


def late_once(run: Query) -> Query:
    """Return a query that takes long the first time."""
    waits = iter((LATE_S,))

    def query(feed: Feed) -> Feed:
        time.sleep(next(waits, 0.0))
        return run(feed)

    return query


def leaking(run: Query) -> Query:
    """Return a query that takes 40 MB every second, and never gives them back."""
    start_s = time.monotonic()

    def query(feed: Feed) -> Feed:
        if 10.0 * (time.monotonic() - start_s) > len(_TAKEN):
            taken(4 << 20)
        return run(feed)

    return query


def taken(count: int) -> None:
    """Take so many bytes and keep them."""
    _TAKEN.append(np.ones(count, np.uint8))


def limited(check: Check, plant: Plant, limits: str = "") -> Trial:
    """Return a trial of a check that the contract is made to limit in the cell."""
    trial = in_a_run(check, plant)

    def with_limits(setting: Setting) -> Answer:
        setting.contract = with_row(setting, check, limits or LIMITS[check])
        return trial(setting)

    return with_limits


def with_row(setting: Setting, check: Check, limits: str) -> str:
    """Return the contract with a row of limits for the cell; soaks get their time, too."""
    text, tier = setting.contract, "[tiers.selftest]\n"
    if check == "soak":
        text = text.replace(tier, f"{tier}soak_minutes = {SOAK_S / 60.0}\n")
    row = f'{check}.bs4 = {{ {limits}, source = "cpu" }}'
    head = f"[models.{MODEL}.devices.{setting.device}]\n"
    if head in text:
        return text.replace(head, f"{head}{row}\n")
    inline = rf"(\[models\.{MODEL}\.devices\]\n(?:\w.*\n)*?{setting.device} = \{{ )"
    text, count = re.subn(inline, rf"\g<1>{row}, ", text, count=1)
    return text if count else f"{text}\n{head}{row}\n"


def worked(**fault: Any) -> Plant:
    """Return what gives the device a fault in the process that works."""
    return on_device(lambda device: TimedDevice(device, **fault))


def started(**fault: Any) -> Plant:
    """Return what gives the device a fault in the process that starts."""
    return on_device(lambda device: StartedDevice(device, **fault))


@contextlib.contextmanager
def slow_late(setting: Setting) -> Iterator[None]:
    """Make the device a fifth slower, halfway through a soak."""
    clock = "process_time" if device_spec(setting.device).is_host else "perf_counter"
    with worked(query=SlowLate(MoreWork(0.25, clock), SOAK_S / 2.0))(setting):
        yield


@contextlib.contextmanager
def growing(setting: Setting) -> Iterator[None]:
    """Make the process that works grow."""
    if not device_spec(setting.device).is_host:
        raise NotApplicable("its tools do not tell the memory of the process that works")
    with worked(query=leaking)(setting):
        yield


def cut_short(root: Path) -> None:
    """Leave half of the lines of a soak, as one leaves that was stopped."""
    _keep_lines(root, _half(root))


def cut_short_as_planned(root: Path) -> None:
    """Leave half of the lines, as if no more had been planned; the record says what follows from them."""
    plan, *lines = soak_lines(b"\n".join(_half(root)))
    lasted_s = soak_measurement([plan, *lines], 1).lasted_s
    shorter = [SoakPlan(seconds=lasted_s, interval_s=1.0), *lines]
    measured = soak_measurement(shorter, stored_record(root, "soak")["batch"])
    edit(root, "soak", lambda record: record.update(measurement=measured.model_dump(mode="json")))
    _keep_lines(root, [one.model_dump_json().encode() for one in shorter])


def _half(root: Path) -> list[bytes]:
    lines = raw_file(root, "soak", "soak").read_bytes().splitlines()
    return lines[: len(lines) // 2]


def _keep_lines(root: Path, lines: Iterable[bytes]) -> None:
    digest = RunDirectory(root).keep(b"\n".join(lines), ".jsonl")
    edit(root, "soak", lambda record: record["raw"].update(soak=digest))


def judged_again(bend: Callable[[Path], None]) -> Trial:
    """Return a trial that bends the stored run of a whole soak, binds it anew and judges it again."""

    def trial(setting: Setting) -> Answer:
        root = Path(shutil.copytree(_soaked(setting), setting.folder / "bent"))
        bend(root)
        bind(root)
        return setting.harness("judge", str(root), "--thresholds", str(root / "thresholds.toml"))

    return trial


def _soaked(setting: Setting) -> Path:
    """Return a run of one soak without a fault, made when it is asked for first."""
    if "soaked" not in setting.shared:
        folder = setting.new_folder()
        answer = limited("soak", lambda _: contextlib.nullcontext(), "retention_min = 0.1")(setting)
        if answer.status:
            raise NotPlanted(f"a soak without a fault is not green: {answer.said}")
        setting.shared["soaked"] = folder
    return Path(setting.shared["soaked"])


_Row = tuple[str, str, Plant]
_STARTS: tuple[_Row, ...] = (
    (
        "a model that loads slowly",
        "warm load time is [23]",
        started(on_open=functools.partial(time.sleep, LATE_S)),
    ),
    ("a slow first inference", "warm first inference is [23]", started(query=late_once)),
    (
        "half a gigabyte taken as the model is loaded",
        "peak host memory is [5-9]",
        started(on_open=functools.partial(taken, 1 << 29)),
    ),
    (
        "a figure that was not taken",
        "what was not taken: warm load time",
        started(said={"load_ms": None}),
    ),
    ("a figure that was not taken, said to be 0", "load_ms", started(said={"load_ms": 0.0})),
    (
        "a cold start whose file was left in the page cache",
        "what was not taken: cold load time",
        started(is_prepared=False),
    ),
)
_SOAKS: tuple[_Row, ...] = (
    ("a fifth slower at its end", "retention of speed is 0", slow_late),
    ("memory that grows", r"growth of host memory is \d", growing),
    ("another answer later", "did not compute", worked(query=drifting)),
    ("tools that fall silent", "tools did not answer", on_device(SilentDevice)),
)
# Limits of the faults that those of their check do not show.
_OWN_LIMITS = {
    "a cold start whose file was left in the page cache": "cold_load_max_ms = 2000.0",
    "memory that grows": "host_growth_max_mb = 64.0",
}
# Of the record that a soak leaves.
_STORED: tuple[tuple[str, str, Callable[[Path], None]], ...] = (
    (
        "one that was stopped, stored as whole",
        "soak: the record does not follow from its raw files",
        cut_short,
    ),
    (
        "one that was stopped, stored as planned so",
        r"a soak of [\d.]+ min, tier selftest asks for",
        cut_short_as_planned,
    ),
)


def soak_faults() -> Iterable[Fault]:
    """Return the faults of starts and soaks."""
    tables: Mapping[Check, tuple[_Row, ...]] = {"startup": _STARTS, "soak": _SOAKS}
    for check, table in tables.items():
        for name, finding, plant in table:
            trial = limited(check, plant, _OWN_LIMITS.get(name, ""))
            yield Fault(check, name, check, finding, trial)
    for name, finding, bend in _STORED:
        yield Fault("soak", name, "judge", finding, judged_again(bend))
