"""The soak check: one process keeps the device busy, and meanwhile asks its tools how it is doing."""

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.check.context import Context
from harness.check.sessions import Found, held_device, is_same_output, made_feed
from harness.device import Device, Session
from harness.errors import DeviceError, RunError
from harness.host.child_process import run_in_child
from harness.host.patience import HANG_S
from harness.measure.measurement import Measurement
from harness.measure.soak import soak_measurement
from harness.measure.soak_lines import SoakPlan, SoakSample, Stretch, sample_from_vitals, soak_lines
from harness.spec import DeviceModel, Feed

DEFAULT_MINUTES = 30.0
# Speed is reported for each minute; a short soak has ten stretches.
STRETCH_S = 60.0
STRETCHES = 10.0
SAMPLES = 180.0
INTERVALS_S = (1.0, 10.0)
WARM_QUERIES = 5

Clock = Callable[[], float]


def check_soak(context: Context) -> Found:
    """Keep a cell busy for the minutes of its tier; after Ctrl-C, what was measured counts."""
    cell, bench = context.cell, context.bench
    seconds = 60.0 * (context.tier.soak_minutes or DEFAULT_MINUTES)
    path = bench.workshop.log_dir / f"soak-{cell.id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    told = _Told(path, f"{cell.id} soak", cell.batch, bench.progress.say)
    beat = bench.progress.heartbeat(f"{cell.id} soak")

    def tell(elapsed_s: float) -> None:
        beat(elapsed_s)
        told()

    with held_device(context, shares_host=True) as (device, model):
        arguments = device, model, seconds, path
        try:
            run_in_child(
                soak_session,
                *arguments,
                heartbeat=tell,
                timeout_s=seconds + HANG_S,
                failure=RunError,
            )
        except KeyboardInterrupt:
            if not _whole_lines(path):
                raise
            bench.progress.say(f"{cell.id} soak: stopped; what was measured is kept")
    told()
    content = _whole_lines(path)
    measurement = soak_measurement(soak_lines(content), cell.batch)
    return Found(measurement, context.judge(measurement), {"soak": (content, ".jsonl")})


def soak_session(device: Device, model: DeviceModel, seconds: float, path: Path) -> None:
    """Work for ``seconds`` and write a line after each stretch; runs in its own process.

    Raises:
        RunError: the device failed.
    """
    plan = SoakPlan(
        seconds=seconds, interval_s=min(max(INTERVALS_S[0], seconds / SAMPLES), INTERVALS_S[1])
    )
    feed = made_feed(model.onnx.inputs)
    session = device.open(model)
    try:
        warm = session.steady(feed, WARM_QUERIES)
        query_s = math.fsum(warm.device_ms) / len(warm.device_ms) / 1000.0
        begin_s = time.monotonic()
        log = _Log(path, lambda: time.monotonic() - begin_s)
        log.write(plan)
        with _sampled(device, log, plan.interval_s):
            for stretch in _stretches(session, feed, plan.seconds, query_s, log.clock):
                # On a host, other work hardly affects processor time.
                processor = {} if device.spec.is_host else {"processor_s": None}
                log.write(stretch.model_copy(update=processor))
    finally:
        session.close()


def _stretches(
    session: Session, feed: Feed, seconds: float, query_s: float, clock: Clock
) -> Iterator[Stretch]:
    """Run one stretch after another until less than half of one is left."""
    length_s, first = min(STRETCH_S, seconds / STRETCHES), None
    while (left_s := seconds - clock()) > length_s / 2.0:
        start_s, processor_s = clock(), time.process_time()
        queries = math.ceil(min(length_s, left_s) / query_s)
        loop = session.steady(feed, queries)
        processor_s = time.process_time() - processor_s
        count, busy_s = len(loop.device_ms), math.fsum(loop.device_ms) / 1000.0
        query_s, first = busy_s / count, first or loop.output
        yield Stretch(
            start_s=start_s,
            end_s=clock(),
            queries=count,
            busy_s=busy_s,
            processor_s=processor_s or None,
            is_output_same=is_same_output(loop.output, first),
            problems=loop.problems,
        )


class _Log:
    """The lines of a soak on disk, each whole as soon as it is written."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self.clock, self._lock = path, clock, threading.Lock()

    def write(self, line: Measurement) -> None:
        """Add a line."""
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(line.model_dump_json() + "\n")


@contextlib.contextmanager
def _sampled(device: Device, log: _Log, interval_s: float) -> Iterator[None]:
    """Ask the device's tools again and again during the block; note it if they do not answer."""
    ended = threading.Event()

    def sample() -> None:
        for number in itertools.count(1):
            log.write(_sample(device, log.clock))
            # At a steady pace, however long the tools take to answer.
            if ended.wait(max(0.0, number * interval_s - log.clock())):
                return

    # Tools that hang must not keep the process from ending.
    threading.Thread(target=sample, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _sample(device: Device, clock: Clock) -> SoakSample:
    try:
        return sample_from_vitals(device.vitals(), clock())
    except DeviceError as error:
        return SoakSample(at_s=clock(), missing=str(error))


class _Told:
    """Prints how fast each stretch was, and how the device was last."""

    def __init__(self, path: Path, title: str, batch: int, say: Callable[[str], object]) -> None:
        self._path, self._title, self._batch, self._say = path, title, batch, say
        self._told_bytes, self._sample = 0, SoakSample(at_s=0.0)
        self._minutes = 0.0

    def __call__(self) -> None:
        """Print what is new."""
        content = _whole_lines(self._path)
        new, self._told_bytes = content[self._told_bytes :], len(content)
        for line in soak_lines(new):
            if isinstance(line, SoakPlan):
                self._minutes = line.seconds / 60.0
            elif isinstance(line, SoakSample):
                self._sample = line
            else:
                self._say(
                    f"{self._title}, {line.end_s / 60.0:.1f} of {self._minutes:g} min: {self._text(line)}"
                )

    def _text(self, stretch: Stretch) -> str:
        sample = self._sample
        kind = "clips/s" if stretch.processor_s is None else "clips a processor second"
        words = [f"{self._batch * stretch.queries / stretch.cost_s:.4g} {kind}"]
        numbers = (
            (sample.temperature_c, "°C"),
            (sample.power_w, "W"),
            (sample.frequency_mhz, "MHz"),
        )
        words += [f"{value:g} {unit}" for value, unit in numbers if value is not None]
        words += [f"health {sample.health}"] if sample.health else []
        return ", ".join([*words, sample.missing] if sample.missing else words)


def _whole_lines(path: Path) -> bytes:
    """Return the complete lines; a process that was stopped may have left half a line."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]
