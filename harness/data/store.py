"""The tensor store: each clip is decoded once; its uint8 crops serve every batch size and night.

``<root>/<key>/`` holds ``about.json`` (what the key is made of), shards of equal records, one for
each clip in the order of the sorted ids, and ``journal.jsonl``, one line for each finished clip:
its slot and the checksum of its record, or why it cannot be read. A record counts once its line is
written, after its bytes: a kill at any moment loses only the clips in flight. A
record that does not match its checksum is decoded again. Normalisation happens on read.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from harness.clips import Clip, ClipSet
from harness.data import sampling, skipping, transforms, video, whole
from harness.data.transforms import Crops
from harness.errors import ArtifactError
from harness.host.digests import digest_from_json, plain_fields
from harness.host.locks import try_hold
from harness.host.ownership import make_private
from harness.host.provenance import code_digest, package_versions
from harness.host.reading import TEXT_BYTES, json_from_text, open_file
from harness.spec import InputProtocol

FORMAT = 1
SHARD_BYTES = 256 << 20
JOURNAL = "journal.jsonl"
# What determines the bytes of a crop; normalisation comes later.
CROP_FIELDS = (
    *("sampling", "frame_count", "frame_interval", "short_side", "crop_size", "crop_count"),
    *("source", "rawframe_short_side"),
    *("clip_count", "placement", "dense_range", "dense_positions", "long_side"),
)


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of one clip's record."""

    path: Path
    offset: int
    shape: tuple[int, ...]

    def write(self, crops: Crops) -> str:
        """Write a record and return its checksum; the record counts only once the journal says so.

        Raises:
            ArtifactError: the disk cannot take it.
        """
        data = np.ascontiguousarray(crops).data.cast("B")
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                written = os.pwrite(file, data, self.offset)
            finally:
                os.close(file)
        except OSError as error:
            raise ArtifactError(_advice(self.path, error.strerror)) from error
        if written != len(data):
            raise ArtifactError(_advice(self.path, "the disk is full"))
        return checksum(crops)

    def read(self) -> Crops:
        """Map a record into memory, for the lifetime of the array.

        Raises:
            OSError: the file does not exist.
            ValueError: the file is truncated.
        """
        return np.memmap(self.path, np.uint8, "r", self.offset, self.shape)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A journal line: a checksum, or the reason why there is none."""

    slot: int
    checksum: str = ""
    unreadable: str = ""


class CropStore:
    """The crops of one clip set under one protocol."""

    def __init__(self, root: Path, protocol: InputProtocol, clip_set: ClipSet) -> None:
        self.protocol = protocol
        self.about = about(protocol, clip_set)
        self.folder = root / digest_from_json(self.about)
        ids = sorted(clip.id for clip in clip_set.clips)
        self._slots = {clip_id: slot for slot, clip_id in enumerate(ids)}
        self._entries: dict[int, Entry] = {}
        self._position = 0
        self._guard = threading.Lock()
        self.is_writable = True

    @contextlib.contextmanager
    def filling(self) -> Iterator[bool]:
        """Hold the write lock if it is free; yield whether it was.

        Raises:
            OSError: the folder is not writable.
        """
        make_private(self.folder.parent.parent)
        self.folder.mkdir(parents=True, exist_ok=True)
        with try_hold(self.folder / "lock") as is_mine:
            if is_mine:
                self._prepare()
            yield is_mine

    def place(self, clip: Clip) -> Place:
        """Return the place of a clip's record, written or not."""
        shape = record_shape(self.protocol)
        per_shard = max(1, SHARD_BYTES // math.prod(shape))
        shard, index = divmod(self._slots[clip.id], per_shard)
        return Place(self.folder / f"shard-{shard:05d}.u8", index * math.prod(shape), shape)

    def entry(self, clip: Clip) -> Entry | None:
        """Return the journal's line for a clip; None if the clip is not done."""
        slot = self._slots[clip.id]
        if slot not in self._entries:
            self.refresh()
        return self._entries.get(slot)

    def lacks(self, clip: Clip) -> bool:
        """Whether to decode a clip: it never was, or could not be read the last time."""
        entry = self.entry(clip)
        return entry is None or not entry.checksum

    def commit(self, clip: Clip, checksum: str, unreadable: str = "") -> None:
        """Enter a clip into the journal: its record counts, or why there is none.

        Raises:
            ArtifactError: the disk cannot take it.
        """
        entry = Entry(self._slots[clip.id], checksum, unreadable)
        line = json.dumps({k: v for k, v in dataclasses.asdict(entry).items() if v != ""}) + "\n"
        try:
            with self._guard, (self.folder / JOURNAL).open("ab") as file:
                file.write(line.encode())
                self._entries[entry.slot] = entry
        except OSError as error:
            raise ArtifactError(_advice(self.folder, error.strerror)) from error

    def read(self, clip: Clip) -> Crops | None:
        """Return the crops of a clip; None if they are missing or not as written."""
        entry = self.entry(clip)
        if entry is None or not entry.checksum:
            return None
        with contextlib.suppress(OSError, ValueError):
            crops = self.place(clip).read()
            if checksum(crops) == entry.checksum:
                return crops
        return None

    def refresh(self) -> None:
        """Read the lines added to the journal since; an incomplete last line waits.

        Raises:
            ArtifactError: the journal is there but cannot be read.
        """
        with self._guard, contextlib.suppress(FileNotFoundError):
            added = self._added()
            whole = added[: added.rfind(b"\n") + 1]
            self._position += len(whole)
            self._entries |= {entry.slot: entry for entry in journal_entries(whole)}

    def _added(self) -> bytes:
        try:
            with open_file(self.folder / JOURNAL, TEXT_BYTES) as file:
                file.seek(self._position)
                return file.read()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ArtifactError(
                f"cannot read {self.folder / JOURNAL}: {error.strerror}; remove its folder: the clips "
                "are decoded again"
            ) from error

    def nbytes(self) -> int:
        """Return the size on disk in bytes."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())

    def _prepare(self) -> None:
        """Cut the half-written line of a killed writer, and write ``about.json``."""
        path = self.folder / JOURNAL
        with path.open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        target = self.folder / "about.json"
        if not target.exists():
            temp = target.with_name(f".about.{os.getpid()}")
            temp.write_text(json.dumps(self.about, indent=1), encoding="utf-8")
            temp.replace(target)


@functools.lru_cache(maxsize=2)
def opened_store(root: Path, protocol: InputProtocol, clip_set: ClipSet) -> CropStore:
    """Return this process's store of a clip set, which has read the lines of its journal once."""
    return CropStore(root, protocol, clip_set)


def journal_entries(lines: bytes) -> Iterator[Entry]:
    """Yield what whole lines of a journal say; the clip of a damaged line is decoded again."""
    for line in lines.splitlines():
        with contextlib.suppress(ValueError, TypeError):
            entry = Entry(**json_from_text(line))
            if type(entry.slot) is int:
                yield entry


def record_shape(protocol: InputProtocol) -> tuple[int, ...]:
    """Return the shape of the crops of one clip: crop, frame, height, width, channel."""
    side = protocol.crop_size
    return (protocol.crop_count, protocol.frames_per_crop, side, side, 3)


def about(protocol: InputProtocol, clip_set: ClipSet) -> Mapping[str, object]:
    """Return everything that determines the bytes of a store."""
    fields = plain_fields(protocol)
    modules = (sampling, skipping, transforms, video, whole)
    return {
        "format": FORMAT,
        "clips": clip_set.digest,
        # A subset may carry the digest of the whole set, but its records lie elsewhere.
        "ids": digest_from_json(sorted(clip.id for clip in clip_set.clips)),
        "protocol": {name: fields[name] for name in CROP_FIELDS if name in fields},
        "decoders": package_versions(*video.decoders()),
        "code": code_digest(*modules),
    }


def checksum(crops: Crops) -> str:
    """Return the checksum of a record's bytes."""
    return f"{zlib.crc32(np.ascontiguousarray(crops).data):08x}"


def _advice(path: Path, reason: str | None) -> str:
    return (
        f"cannot write decoded clips to {path}: {reason}; make room, or set another cache as "
        "cache_dir in site.toml; what was decoded is kept"
    )
