"""What the driver asks of a host, and what a host sends back: plain values and bytes."""

import dataclasses
import math
from collections.abc import Mapping

from harness.device import DeviceState
from harness.spec import Cell, Check

# Clips of a shard: a lost host costs no more than these, and a slow one holds up nobody for long.
SHARD_CLIPS = 256
# PyTorch takes an hour for as many clips of three views on a slow host.
SHARD_LIMIT_S = 2 * 3600.0


@dataclasses.dataclass(frozen=True)
class Order:
    """A check of a cell, under a contract.

    Attributes:
        contract: content of ``thresholds.toml``.
        tier: by which inputs, clips and sessions are chosen.
        cell, check: what to measure.
        seed: chooses the clips that are read a second time.
        sessions, budget_minutes: which timing may use beyond the tier's; 0: none.
    """

    contract: bytes
    tier: str
    cell: Cell
    check: Check
    seed: str
    sessions: int = 0
    budget_minutes: float = 0.0

    @property
    def id(self) -> str:
        """Name of the check."""
        return f"{self.cell.id} {self.check}"


@dataclasses.dataclass(frozen=True)
class Delivery:
    """What a host measured: a record as JSON, whose verdict does not count, and its raw files.

    ``raw`` has the content and the suffix of each raw file by what it is.
    """

    host: str
    record: bytes
    raw: Mapping[str, tuple[bytes, str]]


@dataclasses.dataclass(frozen=True)
class Survey:
    """The clips that a check is about, and what every host must agree on, by what it is."""

    clip_count: int
    subjects: Mapping[str, str]

    @property
    def shard_count(self) -> int:
        """How many shards the clips make."""
        return max(1, math.ceil(self.clip_count / SHARD_CLIPS))


@dataclasses.dataclass(frozen=True)
class Part:
    """The predictions of a shard as npz, the host that made them, notes about its chip, and subjects."""

    host: str
    predictions: bytes
    notes: tuple[str, ...]
    subjects: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class HostFacts:
    """What a host says about itself.

    Attributes:
        name: of the host in the farm.
        suite: ``suite.commit`` and whether its files differ from that.
        machine: what changes how sums are rounded.
        devices: state of every device by name.
        weights: digest of the weights of every model by name; a checkpoint that is damaged has none.
        running: what holds its locks now.
        free_gb: free space of its cache, in 1e9 bytes.
    """

    name: str
    suite: Mapping[str, str]
    machine: Mapping[str, str]
    devices: Mapping[str, DeviceState]
    weights: Mapping[str, str]
    running: tuple[str, ...]
    free_gb: float
