"""What the driver asks of a host, and what a host sends back: plain values and bytes."""

import dataclasses
import io
import math
from collections.abc import Mapping
from typing import Literal, get_args

from harness.clips import ClipSet, Predictions
from harness.device import DeviceState
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.strips import Strips
from harness.record.npz import predictions_from_npz
from harness.spec import Cell, Check

# What the clips of an accuracy check go through: PyTorch, and a device's chips.
What = Literal["reference", "predictions"]

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
class Shard:
    """Shard ``index`` of ``count``, from 0, of the clips of an accuracy check."""

    what: What
    index: int
    count: int

    def __str__(self) -> str:
        return f"shard {self.index + 1} of {self.count}"


@dataclasses.dataclass(frozen=True)
class Merged:
    """What the driver makes of all shards of an accuracy check.

    Attributes:
        measurement: what follows from them.
        raw: digests of the files that it has kept in the run, by name.
        strips: the clips that flipped, without their frames.
    """

    measurement: AccuracyMeasurement
    raw: Mapping[str, str]
    strips: Strips


@dataclasses.dataclass(frozen=True)
class Delivery:
    """What a host measured: a record as JSON, whose verdict does not count, and its raw files.

    Attributes:
        host: its name.
        record: as JSON.
        raw: content and suffix of each raw file, by name.
        merged: of an accuracy check: what the driver measured itself.
    """

    host: str
    record: bytes
    raw: Mapping[str, tuple[bytes, str]]
    merged: Merged | None = None


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
        labels: the clips and their labels, as npz.
        lowest_score: the lowest one that the device can tell from lower ones.
        sent_bytes: of the crops of a clip that another host decodes; 0 where the chips' hosts do.
    """

    clip_count: int
    subjects: Mapping[str, str]
    labels: bytes
    lowest_score: float
    sent_bytes: int = 0

    def subjects_of(self, what: What) -> Mapping[str, str]:
        """Return those of PyTorch's shards, which need no device model, or of the chips'."""
        left_out = "device model" if what == "reference" else ""
        return {name: digest for name, digest in self.subjects.items() if name != left_out}

    def shards(self) -> list[Shard]:
        """Return the shards that the clips are split into, for PyTorch and for the chips."""
        fit = SENT_BYTES // self.sent_bytes if self.sent_bytes else SHARD_CLIPS
        count = max(1, math.ceil(self.clip_count / max(1, min(SHARD_CLIPS, fit))))
        return [Shard(what, index, count) for what in get_args(What) for index in range(count)]


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

    def unpacked(self) -> Predictions:
        """Return the predictions as values.

        Raises:
            ValueError: they are damaged.
        """
        return predictions_from_npz(io.BytesIO(self.predictions))


@dataclasses.dataclass(frozen=True)
class HostFacts:
    """What a host says about itself.

    Attributes:
        name: of the host in the farm.
        suite: ``suite.commit``, whether files differ from it, and the digest of all files.
        machine: what affects how sums are rounded: the processor, and the packages that compute and decode.
        threads: what decides how many threads PyTorch takes, which affects its sums only.
        devices: state of every device by name.
        weights: digest of each model's weights by name, without damaged checkpoints.
        datasets: those whose clips it can read, by its ``site.toml``.
        running: what holds its locks now.
        free_gb: free space of its cache, in 1e9 bytes.
    """

    name: str
    suite: Mapping[str, str]
    machine: Mapping[str, str]
    threads: Mapping[str, str]
    devices: Mapping[str, DeviceState]
    weights: Mapping[str, str]
    datasets: tuple[str, ...]
    running: tuple[str, ...]
    free_gb: float
