"""A content-addressed store: what it holds was built once, written whole, and is verified.

``<root>/<kind>/<key[:2]>/<key>/`` holds one payload file and its ``provenance.json``. The key is
the digest of everything that shapes the artifact, which the caller names as inputs. A build happens
under a lock of its key, in a hidden folder beside the entry, which becomes the entry by one rename;
what a killed build leaves is swept by the next one. A hit takes no lock and writes nothing that it
needs, so that a cache on a read-only disk serves what it holds.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import ArtifactError
from harness.host.artifact_errors import CANNOT_WRITE, explained
from harness.host.locks import hold, try_hold, wait_notice
from harness.host.ownership import foreign_writer_below, make_private
from harness.host.provenance import (
    LAST_USED,
    PROVENANCE,
    Entry,
    Parcel,
    Request,
    entry_from_folder,
    read_entry,
    request_from_inputs,
    write_provenance,
)
from harness.spec import Artifact

_LOG = logging.getLogger(__name__)
_KEY_LENGTH = 64

Build = Callable[[Path], Mapping[str, object]]


@dataclasses.dataclass(frozen=True)
class StoreEvent:
    """One call of ``get_or_build``: whether the artifact was there, and the seconds it took.

    ``facts`` are those of the build, now or then.
    """

    kind: str
    key: str
    hit: bool
    seconds: float
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class ArtifactStore:
    """The store below one folder; ``events`` lists the hits and misses of this process.

    Unless it ``is_trusted``, what other users can write to is not taken from it. One that ``only_reads``
    raises ArtifactError in place of building.
    """

    def __init__(self, root: Path, is_trusted: bool = False, *, only_reads: bool = False) -> None:
        self.root = root
        self._is_trusted = is_trusted
        self._only_reads = only_reads
        self.events: list[StoreEvent] = []

    def only_reading(self) -> "ArtifactStore":
        """Return a store of the same folder that builds nothing."""
        return ArtifactStore(self.root, self._is_trusted, only_reads=True)

    def get_or_build(
        self, kind: str, filename: str, inputs: Mapping[str, object], build: Build
    ) -> Artifact:
        """Return the artifact that ``inputs`` describe, building it when it is absent or damaged.

        Args:
            kind: such as ``onnx``; a folder of the store.
            filename: of the payload.
            inputs: everything that shapes the artifact: digests, versions, options.
            build: writes the payload to the path that it is given and returns facts for the
                provenance. It leaves no other files beside it.

        Raises:
            ArtifactError: the store cannot be written, others can write to the entry, the build left
                no payload, or the artifact is not there and the store only reads.
        """
        start_s = time.perf_counter()
        request = request_from_inputs(kind, filename, inputs)
        folder = self._folder(request)
        self._refuse_foreign(request, folder)
        artifact = read_entry(folder, request).artifact
        is_hit = artifact is not None
        if artifact is None:
            if self._only_reads:
                raise ArtifactError(f"{request} is not in the cache, which is only read here")
            artifact, is_hit = self._build_once(folder, request, build)
        if is_hit:
            # A read-only cache still serves its hits; it only forgets when.
            with contextlib.suppress(OSError):
                (folder / LAST_USED).touch()
        seconds = time.perf_counter() - start_s
        facts = artifact.provenance["facts"]
        self.events.append(StoreEvent(kind, request.key, is_hit, seconds, facts))
        return artifact

    def adopt(self, parcel: Parcel) -> Artifact:
        """Keep an artifact that another host built, in place of an own build.

        Raises:
            ArtifactError: it changed on its way, or the store cannot be written.
        """
        request = request_from_inputs(parcel.kind, parcel.filename, parcel.inputs)
        folder = self._folder(request)

        def write(target: Path) -> Mapping[str, object]:
            if hashlib.sha256(parcel.content).hexdigest() != parcel.sha256:
                raise ArtifactError(f"{request} changed on its way to {socket.gethostname()}")
            target.write_bytes(parcel.content)
            return parcel.facts

        with self._held(folder, request):
            artifact = read_entry(folder, request).artifact
            if artifact is not None and artifact.sha256 == parcel.sha256:
                return artifact
            return _built(folder, request, write)

    def entries(self) -> list[Entry]:
        """Return the entries, least recently used first."""
        folders = (folder for folder in self._folders() if not folder.name.startswith("."))
        entries = [entry for folder in folders if (entry := entry_from_folder(folder))]
        return sorted(entries, key=lambda entry: (entry.last_used, entry.key))

    def prune(
        self,
        older_than_days: float | None = None,
        max_bytes: int | None = None,
        kinds: Collection[str] | None = None,
        dry_run: bool = False,
    ) -> list[Entry]:
        """Remove entries, least recently used first, and return them; those being built stay.

        Args:
            older_than_days: remove what has not been used for this many days.
            max_bytes: remove until no more than this is left.
            kinds: look at these kinds only; without any limit, all their entries are removed.
            dry_run: only say what would be removed.

        Raises:
            ArtifactError: an entry cannot be removed.
        """
        entries = [entry for entry in self.entries() if kinds is None or entry.kind in kinds]
        cutoff = _cutoff(older_than_days, is_everything=kinds is not None and max_bytes is None)
        left_bytes = sum(entry.bytes for entry in entries)
        removed = []
        for entry in entries:
            is_excess = max_bytes is not None and left_bytes > max_bytes
            if (is_excess or entry.last_used < cutoff) and self._remove(entry, dry_run):
                removed.append(entry)
                left_bytes -= entry.bytes
        if not dry_run:
            self._sweep_all()
        return removed

    def _folder(self, request: Request) -> Path:
        return self.root / request.kind / request.key[:2] / request.key

    def _refuse_foreign(self, request: Request, folder: Path) -> None:
        if self._is_trusted:
            return
        for name in (request.filename, PROVENANCE):
            if writer := foreign_writer_below(self.root, folder / name):
                raise ArtifactError(
                    f"{request} in the cache is refused: {writer}, and so choose what is run; take "
                    f"that right away (chmod -R go-w {self.root}), and set umask 022"
                )

    def _folders(self) -> Iterator[Path]:
        return (path for path in self.root.glob("*/??/*") if path.is_dir())

    def _build_once(self, folder: Path, request: Request, build: Build) -> tuple[Artifact, bool]:
        with self._held(folder, request):
            reading = read_entry(folder, request)
            if reading.artifact is not None:
                return reading.artifact, True
            if reading.damage:
                _LOG.warning("%s is damaged and will be built again: %s", folder, reading.damage)
            _sweep(folder)
            return _built(folder, request, build), False

    @contextlib.contextmanager
    def _held(self, folder: Path, request: Request) -> Iterator[None]:
        """Hold the lock of an entry until the block ends, waiting for as long as it takes."""
        with contextlib.ExitStack() as stack:
            with explained(request, folder):
                make_private(self.root)
                notice = wait_notice(str(request), _LOG.warning)
                stack.enter_context(hold(_lock_path(folder), notice))
            yield

    def _remove(self, entry: Entry, dry_run: bool) -> bool:
        try:
            with try_hold(_lock_path(entry.path)) as is_free:
                if is_free and not dry_run:
                    # Renamed first, so that a reader sees the whole entry or none.
                    _discard(entry.path)
                return is_free
        except OSError as error:
            raise ArtifactError(f"cannot remove {entry.path} from the cache: {error}") from error

    def _sweep_all(self) -> None:
        for stale in [path for path in self._folders() if path.name.startswith(".")]:
            folder = stale.with_name(stale.name[1 : 1 + _KEY_LENGTH])
            with contextlib.suppress(OSError), try_hold(_lock_path(folder)) as is_free:
                if is_free:
                    _sweep(folder)


def _built(folder: Path, request: Request, build: Build) -> Artifact:
    temp = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    start_s = time.perf_counter()
    try:
        with explained(request, temp):
            temp.mkdir()
        with explained(request, temp, only=CANNOT_WRITE):
            facts = build(temp / request.filename)
        _require_payload(temp, request)
        with explained(request, temp):
            artifact = write_provenance(temp, request, facts, time.perf_counter() - start_s)
            _swap(temp, folder)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return dataclasses.replace(artifact, path=folder / request.filename)


def _require_payload(temp: Path, request: Request) -> None:
    names = sorted(path.name for path in temp.iterdir())
    if names != [request.filename] or not (temp / request.filename).is_file():
        raise ArtifactError(
            f"the build of {request} should have left the file {request.filename} and nothing "
            f"else; it left {', '.join(names) or 'nothing'}"
        )


def _swap(temp: Path, folder: Path) -> None:
    if folder.exists():
        _discard(folder)
    temp.replace(folder)


def _discard(folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    folder.replace(old)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(folder: Path) -> None:
    for stale in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(stale, ignore_errors=True)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def _cutoff(older_than_days: float | None, is_everything: bool) -> datetime.datetime:
    if older_than_days is None:
        edge = datetime.datetime.max if is_everything else datetime.datetime.min
        return edge.replace(tzinfo=datetime.UTC)
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=older_than_days)
