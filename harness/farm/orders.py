"""What the driver asks of a host, and what a host sends back: plain values and bytes."""

import dataclasses
import math
from collections.abc import Mapping

from harness.clips import ClipSet
from harness.device import DeviceState
from harness.spec import Cell, Check

# Clips of a shard: a lost host costs no more than these, and a slow one does not hold up the others for long.
SHARD_CLIPS = 256
# On a slow host, PyTorch takes an hour for this many clips of three views.
SHARD_LIMIT_S = 2 * 3600.0
# Crops of a shard that another host decodes: so much of its memory, and of the chip's host's, is used at a time.
SENT_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Order:
    """A check of a cell, under a contract.

    Attributes:
        contract: content of ``thresholds.toml``.
        tier: decides how many inputs, clips and sessions there are.
        cell, check: what to measure.
        seed: decides which clips mmaction2 reads as well.
        sessions, budget_minutes: what timing may use beyond the tier's; 0: no more.
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

    ``raw`` has the content and the suffix of each raw file by name.
    """

    host: str
    record: bytes
    raw: Mapping[str, tuple[bytes, str]]


@dataclasses.dataclass(frozen=True)
class Listing:
    """The clips of a check as a host lists them for those that cannot read them.

    Attributes:
        clip_set: the clips.
        subjects: the digests that every host must agree on which decodes them, by name.
        inputs: which of them mmaction2 has read as well there.
    """

    clip_set: ClipSet
    subjects: Mapping[str, str]
    inputs: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a check runs on.

    Attributes:
        clip_count: how many clips.
        subjects: the digests that every host must agree on, by name.
        sent_bytes: of the crops of a clip that another host decodes; 0 where the chips' hosts do.
    """

    clip_count: int
    subjects: Mapping[str, str]
    sent_bytes: int = 0

    @property
    def shard_count(self) -> int:
        """How many shards the clips are split into."""
        fit = SENT_BYTES // self.sent_bytes if self.sent_bytes else SHARD_CLIPS
        return max(1, math.ceil(self.clip_count / max(1, min(SHARD_CLIPS, fit))))


@dataclasses.dataclass(frozen=True)
class Part:
    """The predictions of a shard.

    Attributes:
        host: the one that made them.
        predictions: as npz.
        notes: about its chip.
        subjects: the digests of what it ran, by name.
        decoder: the host that decoded the clips for it; empty if it did so itself.
    """

    host: str
    predictions: bytes
    notes: tuple[str, ...]
    subjects: Mapping[str, str]
    decoder: str = ""


@dataclasses.dataclass(frozen=True)
class HostFacts:
    """What a host says about itself.

    Attributes:
        name: of the host in the farm.
        suite: ``suite.commit``, whether files differ from it, and the digest of all files.
        machine: what affects how sums are rounded.
        devices: state of every device by name.
        weights: digest of each model's weights by name, without damaged checkpoints.
        datasets: those whose clips it can read, by its ``site.toml``.
        running: what holds its locks now.
        free_gb: free space of its cache, in 1e9 bytes.
    """

    name: str
    suite: Mapping[str, str]
    machine: Mapping[str, str]
    devices: Mapping[str, DeviceState]
    weights: Mapping[str, str]
    datasets: tuple[str, ...]
    running: tuple[str, ...]
    free_gb: float
