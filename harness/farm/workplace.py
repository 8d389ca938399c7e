"""Where a host works on a call of the driver: its workbench, the models it was sent, and what goes back."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import registry
from harness.build.workbench import Workbench
from harness.check.checks import CHECK_FUNCTIONS
from harness.check.context import Context
from harness.check.sessions import Found
from harness.check.suite import Suite
from harness.clips import Predictions
from harness.contract.scope import refuse_unknown_cells
from harness.contract.thresholds import Thresholds, thresholds_from_file
from harness.device import Device, Session
from harness.farm.kept_session import Kept
from harness.farm.orders import Delivery, Listing, Order
from harness.host.environment import environment_facts
from harness.host.progress import Progress
from harness.host.provenance import Parcel
from harness.predict.device_predictions import session_on
from harness.record.record import RunDirectory
from harness.spec import Cell

HOST_NAME = "ACCEPTANCE_HOST"
# This process's chip and the session on it.
SESSION: Kept[tuple[Device, Session]] = Kept()
Say = Callable[[str], object]
Parcels = tuple[Parcel, ...]


def host_name() -> str:
    """Return the name of this host in the farm: ``ACCEPTANCE_HOST``, or else the host's own."""
    return os.environ.get(HOST_NAME) or socket.gethostname()


@contextlib.contextmanager
def workplace(
    order: Order, say: Say, parcels: Parcels = (), listing: Listing | None = None
) -> Iterator[Workbench]:
    """Open this host's workbench, with the models and clips it was sent and temporary logs.

    Progress goes to ``say``.
    """
    SESSION.close_unless((host_name(), order))
    progress = progress_to(say)
    with tempfile.TemporaryDirectory(prefix="acceptance-farm-") as folder:
        bench = _bench(host_name(), order.contract, order.seed)
        bench.progress, logs = progress, Path(folder, "logs")
        bench.workshop = dataclasses.replace(bench.workshop, log_dir=logs, progress=progress)
        for parcel in parcels:
            bench.workshop.store.adopt(parcel)
        with progress.watched(order.id):
            yield bench if listing is None else bench.with_clips(listing.clip_set)


def progress_to(say: Say) -> Progress:
    """Return the progress of a call, whose lines go to the driver."""
    return Progress(_Lines(say))


@functools.lru_cache(maxsize=2)
def _bench(_host: str, contract: bytes, _run: str) -> Workbench:
    """Return this process's workbench for a run: what it probed, read and hashed serves the next shards."""
    site = registry.load_site(None, os.environ)
    refuse_unknown_cells(site, _thresholds_from_bytes(contract))
    return Workbench(site, site.cache_dir, Progress())


@contextlib.contextmanager
def chip_session(order: Order, bench: Workbench) -> Iterator[tuple[Device, Session]]:
    """Hold a chip with the model of an order loaded; both are kept for the next shard of this process.

    Raises:
        DeviceError: the device is absent or does not work.
        RunError: the model cannot be loaded.
    """

    @contextlib.contextmanager
    def opened() -> Iterator[tuple[Device, Session]]:
        model = bench.device_model(order.cell)
        with bench.chip(order.cell.device) as device, session_on(device, model) as session:
            yield device, session

    with SESSION.of((host_name(), order), opened) as both:
        yield both


def context_of(order: Order, bench: Workbench) -> Context:
    """Return the cell of an order with everything that a check of it needs here."""
    thresholds = _thresholds(order)
    tier, limits = thresholds.tier(order.tier), thresholds.limits(order.cell)
    return Context(order.cell, bench, tier, limits, seed=order.seed)


def deliver(
    order: Order,
    bench: Workbench,
    known: Predictions | None = None,
    found: Callable[[Context], Found] | None = None,
) -> Delivery:
    """Run the check of an order and return the record and its raw files.

    Args:
        order: what to check.
        bench: this host's.
        known: the predictions of the run's accuracy check, on whichever host it ran.
        found: runs in place of the suite's own check.
    """
    run = _HostRun(bench.workshop.log_dir)
    measures = dict[str, Callable[[Context], Found]](CHECK_FUNCTIONS)
    if found is not None:
        measures[order.check] = found
    suite = _HostSuite(_thresholds(order), order.tier, bench, run, measures, known, order.seed)
    record = suite.check(order.cell, order.check)
    facts = {**environment_facts(), "host": host_name()}
    record = record.model_copy(update={"host_facts": facts})
    raw = {what: run.kept[digest] for what, digest in record.raw.items()}
    return Delivery(host_name(), record.model_dump_json().encode(), raw)


class _HostRun(RunDirectory):
    """The run of one check: its raw files stay in memory until they are sent."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.kept: dict[str, tuple[bytes, str]] = {}

    def keep(self, content: bytes, suffix: str) -> str:
        """Keep a raw file in memory."""
        digest = hashlib.sha256(content).hexdigest()
        self.kept[digest] = content, suffix
        return digest


@dataclasses.dataclass(frozen=True)
class _HostSuite(Suite):
    """The suite on a host, for one check, with the predictions that another host may have made."""

    known: Predictions | None = None
    seed: str = ""

    def accuracy_predictions(self, cell: Cell) -> Predictions | None:
        """Return what the driver sent along."""
        return self.known


class _Lines(io.StringIO):
    """A stream whose lines go to the driver."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say

    def write(self, text: str) -> int:
        """Send a line."""
        if text.strip():
            self._say(text.rstrip("\n"))
        return len(text)


def _thresholds(order: Order) -> Thresholds:
    thresholds = _thresholds_from_bytes(order.contract)
    return thresholds.with_more_timing(order.sessions, order.budget_minutes)


@functools.cache
def _thresholds_from_bytes(contract: bytes) -> Thresholds:
    with tempfile.TemporaryDirectory(prefix="acceptance-farm-") as folder:
        path = Path(folder, "thresholds.toml")
        path.write_bytes(contract)
        return thresholds_from_file(path)
