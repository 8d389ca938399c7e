"""A device's predictions for a clip set or a shard of it: through the store, resumable."""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness import registry
from harness.build.workbench import Workbench
from harness.clips import ClipSet, Predictions
from harness.data.store import CropStore, opened_store
from harness.data.streaming import stored_samples
from harness.device import Device, Session
from harness.host.patience import patiently
from harness.measure.scores import smallest_normal
from harness.predict.journal import Work, journal_at, predict_resumed
from harness.predict.shards import shard_of_clips
from harness.spec import Cell, DeviceModel, ModelSpec


@dataclasses.dataclass(frozen=True)
class Plan:
    """The inputs for a cell's predictions; it can be sent to another process.

    Attributes:
        clip_set: the whole set; decoded clips are stored under its name.
        wanted: the set or subset to predict.
        cache: folder of decoded clips and journals.
        key: everything else that affects the predictions.
        smallest: below this, the device cannot tell two probabilities apart.
    """

    cell: Cell
    spec: ModelSpec
    clip_set: ClipSet
    wanted: ClipSet
    cache: Path
    key: Mapping[str, object]
    smallest: float

    def store(self) -> CropStore:
        """Return the store of the decoded clips."""
        return opened_store(self.cache / "crops", self.spec.protocol, self.clip_set)


def plan_from_bench(
    cell: Cell, bench: Workbench, wanted: ClipSet | None = None, whole: ClipSet | None = None
) -> Plan:
    """Return the inputs for the predictions of ``cell``, whose device model gets built.

    By default all clips of the model's data set are wanted; ``whole`` is the set that they belong to.
    """
    spec, clip_set = bench.model(cell.model), whole or bench.clip_set(cell.model)
    key = {
        "cell": cell.id,
        "device_model": bench.device_model(cell).artifact.sha256,
        "facts": dict(bench.state(cell.device).facts),
        "protocol": spec.protocol,
        "clips": clip_set.digest,
    }
    cache, smallest = bench.site.cache_dir, smallest_of(cell, bench)
    return Plan(cell, spec, clip_set, wanted or clip_set, cache, key, smallest)


def shard_predictions(
    plan: Plan,
    session: Session,
    shard: tuple[int, int],
    progress: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Run the clips of one shard of a plan; results of a killed run are kept.

    Raises:
        RunError: the device failed.
        DecodeError: a process that decodes clips died.
    """
    clips = shard_of_clips(plan.wanted.clips, *shard)
    batch, stopped = plan.cell.batch, threading.Event()
    samples = functools.partial(stored_samples, plan.store(), batch=batch, stopped=stopped)
    with journal_at(plan.cache / "partial", plan.key, plan.spec, clips) as journal:
        work = Work(clips, samples, journal, stopped.set)
        return predict_resumed(session.run_many, plan.spec, batch, work, progress, plan.smallest)


@contextlib.contextmanager
def open_session(cell: Cell, bench: Workbench) -> Iterator[Session]:
    """Open the device model of a cell, with exclusive use of its chip.

    Raises:
        DeviceError: the device is absent or does not work.
        RunError: the model cannot be loaded.
    """
    model = bench.device_model(cell)
    with bench.chip(cell.device) as device, session_on(device, model) as session:
        yield session


@contextlib.contextmanager
def session_on(device: Device, model: DeviceModel) -> Iterator[Session]:
    """Open a device model, and close it at the end of the block.

    Raises:
        RunError: the model cannot be loaded, or that hangs.
    """
    with patiently() as call:
        session = call(device.open, model)
    try:
        yield session
    finally:
        session.close()


def smallest_of(cell: Cell, bench: Workbench) -> float:
    """Return the smallest probability that what a cell computes in can represent."""
    device = bench.device(cell.device).spec
    return smallest_normal(registry.arithmetic_of(bench.model(cell.model), cell, device))
