"""Spread the clips of a cell over every free chip: a process per chip, shards by clip id, one merge."""

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from harness.build.workbench import Workbench
from harness.clips import Clip, ClipSet, Predictions
from harness.data.streaming import Item, stored_samples
from harness.device import Device, Session
from harness.errors import DeviceError, HarnessError, InvalidMeasurement, RunError
from harness.host.child_process import run_in_child
from harness.host.progress import Counter, Heartbeat
from harness.predict.device_predictions import Plan, plan_from_bench, session_on, shard_predictions
from harness.predict.shards import merged, shard_of_clips
from harness.spec import Cell, DeviceModel

Shard = tuple[int, int]
# The predictions of a shard, and the notes about its chip.
Part = tuple[Predictions, tuple[str, ...]]


def chip_predictions(
    cell: Cell, bench: Workbench, wanted: ClipSet | None = None, whole: ClipSet | None = None
) -> Part:
    """Run clips of a cell on every chip that is free; see ``plan_from_bench``.

    There are as many shards as chips, free or not, so the rerun of a killed run finds its results,
    whichever chips are free by then.

    Returns:
        The predictions, in the order of the clip set; and the state of each chip before and
        after, with the notes of its session.

    Raises:
        RunError: a device failed; the message names the chip.
        InvalidMeasurement: a chip was not healthy after the run.
        DecodeError: a process that decodes clips died.
    """
    plan, model = plan_from_bench(cell, bench, wanted, whole), bench.device_model(cell)
    units = bench.state(cell.device).unit_ids
    title = f"{cell.id} accuracy"
    with bench.chips(cell.device) as chips:
        if len(units) == 1 or len(plan.wanted.clips) < 2:
            device = next(iter(chips.values()))
            counter = bench.progress.counter(title, len(plan.wanted.clips))
            return predict_shard(plan, device, model, (0, 1), counter)
        beat = bench.progress.heartbeat(f"{title} on {', '.join(chips)}")
        parts = _Crew(plan, model, len(units), beat).parts(chips)
    preds = merged([preds for preds, _ in parts], plan.wanted)
    return preds, tuple(dict.fromkeys(note for _, notes in parts for note in notes))


def predict_shard(
    plan: Plan,
    device: Device,
    model: DeviceModel,
    shard: Shard,
    progress: Counter = lambda done: None,
) -> Part:
    """Run one shard on one chip.

    Raises:
        RunError: the device failed.
        InvalidMeasurement: the chip was not healthy after the run.
    """
    with session_on(device, model) as session:
        return predict_on(device, session, plan, shard, progress)


def predict_on(
    device: Device,
    session: Session,
    plan: Plan,
    shard: Shard,
    progress: Counter = lambda done: None,
) -> Part:
    """Run one shard in an open session on a chip; see ``predict_shard``."""
    notes: list[str] = []
    with _watched(device, notes):
        preds = shard_predictions(plan, session, shard, progress)
        notes += session.notes
    return preds, tuple(notes)


@contextlib.contextmanager
def _watched(device: Device, notes: list[str]) -> Iterator[None]:
    """Record the state of a chip before and after the block."""
    notes += _look(device, "before")
    yield
    try:
        notes += _look(device, "after")
    except DeviceError as error:
        raise InvalidMeasurement(
            f"after the run: {error}; what the chip computed does not count"
        ) from error


def _look(device: Device, when: str) -> list[str]:
    state = device.look()
    return [f"{when}: {state}"] if state else []


class _StoppedError(Exception):
    """Another chip failed, so this one stops."""


@dataclasses.dataclass
class _Crew:
    """One thread and one process per chip; they take shard after shard until none is left."""

    plan: Plan
    model: DeviceModel
    count: int
    beat: Heartbeat

    def __post_init__(self) -> None:
        self._todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._stop = threading.Event()

    def parts(self, chips: Mapping[str, Device]) -> list[Part]:
        """Run the shards; the first chip that fails stops the others."""
        for index in range(self.count):
            if shard_of_clips(self.plan.wanted.clips, index, self.count):
                self._todo.put(index)
        decoded = self._decoding()
        with contextlib.closing(decoded), ThreadPoolExecutor(len(chips)) as pool:
            try:
                # Wait for the first clip: by then this process fills the store for all chips.
                next(decoded, None)
                futures = [pool.submit(self._on_chip, *chip) for chip in chips.items()]
                for _ in decoded:
                    if self._stop.is_set():
                        break
                return _gathered(futures)
            finally:
                self._stop.set()

    def _decoding(self) -> Generator[Item, None, None]:
        store = self.plan.store()
        missing: Sequence[Clip] = [
            clip for clip in self.plan.wanted.clips if store.entry(clip) is None
        ]
        yield from stored_samples(store, missing)

    def _on_chip(self, unit_id: str, device: Device) -> list[Part]:
        parts = []
        try:
            while not self._stop.is_set():
                shard = self._todo.get_nowait(), self.count
                arguments = self.plan, device, self.model, shard
                part, _ = run_in_child(
                    predict_shard, *arguments, heartbeat=self._beat, failure=RunError
                )
                parts.append(part)
        except queue.Empty:
            pass
        except HarnessError as error:
            self._stop.set()
            raise _of_chip(unit_id, error) from error
        return parts

    def _beat(self, elapsed_s: float) -> None:
        if self._stop.is_set():
            raise _StoppedError
        self.beat(elapsed_s)


def _of_chip(unit_id: str, error: HarnessError) -> HarnessError:
    """Name the chip: the chip needs attention, not the model."""
    if isinstance(error, InvalidMeasurement):
        return InvalidMeasurement(f"on {unit_id}: {error}")
    return RunError(f"on {unit_id}: {error}; the other chips were stopped, and a rerun continues")


def _gathered(futures: Sequence[Future[list[Part]]]) -> list[Part]:
    """Return the parts of all chips, or raise the first failure that no other chip caused."""
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    for error in errors:
        if not isinstance(error, _StoppedError):
            raise error
    return [part for future in futures for part in future.result()]
