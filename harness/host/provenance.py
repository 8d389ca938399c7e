"""One entry of the artifact store: a payload, its provenance, and what is wrong with them."""

import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import ArtifactError
from harness.host.digests import digest_from_json, plain_fields
from harness.host.reading import bytes_from_file, json_from_text, open_file
from harness.spec import Artifact

PROVENANCE = "provenance.json"
LAST_USED = "last_used"


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of the store: the inputs shape the artifact, and ``key`` is their digest."""

    kind: str
    filename: str
    inputs: Mapping[str, Any]
    key: str

    def __str__(self) -> str:
        """Return the request as text for a person."""
        return f"{self.kind} {self.filename} ({self.key[:12]})"


@dataclasses.dataclass(frozen=True)
class Reading:
    """What an entry holds: an artifact, damage, or neither when it is absent."""

    artifact: Artifact | None = None
    damage: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of the store as ``harness cache list`` shows it; ``path`` is its folder."""

    kind: str
    key: str
    bytes: int
    created: datetime.datetime
    last_used: datetime.datetime
    path: Path


@dataclasses.dataclass(frozen=True)
class Parcel:
    """An artifact as one store sends it to another; ``facts`` are those of its build."""

    kind: str
    filename: str
    inputs: Mapping[str, Any]
    content: bytes
    sha256: str
    facts: Mapping[str, Any]


def parcel_from_artifact(artifact: Artifact) -> Parcel:
    """Return an artifact of a store as it is sent to another."""
    made = artifact.provenance
    return Parcel(
        kind=artifact.kind,
        filename=artifact.path.name,
        inputs=made["inputs"],
        content=artifact.path.read_bytes(),
        sha256=artifact.sha256,
        facts=made["facts"],
    )


def request_from_inputs(kind: str, filename: str, inputs: Mapping[str, object]) -> Request:
    """Return the request with its key.

    Raises:
        ArtifactError: a name is not a plain file name, or the inputs change when stored as JSON.
    """
    for name in (kind, filename):
        if Path(name).name != name or name in {"", ".", "..", PROVENANCE, LAST_USED}:
            raise ArtifactError(f"{name!r} cannot name a kind or a file of the artifact store")
    key = digest_from_json({"kind": kind, "filename": filename, "inputs": inputs})
    stored = _stored(inputs)
    if digest_from_json({"kind": kind, "filename": filename, "inputs": stored}) != key:
        raise ArtifactError(
            f"the inputs of {kind} {filename} change when they are stored as JSON, so that the "
            "entry would never be found again; use strings as keys"
        )
    return Request(kind, filename, stored, key)


def write_provenance(
    folder: Path, request: Request, facts: Mapping[str, object], duration_s: float
) -> Artifact:
    """Write the provenance of the payload in ``folder`` beside it and return the artifact."""
    payload = folder / request.filename
    provenance = {
        "kind": request.kind,
        "filename": request.filename,
        "inputs": request.inputs,
        "facts": _stored(facts),
        "sha256": sha256_from_file(payload),
        "bytes": payload.stat().st_size,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "duration_s": round(duration_s, 3),
    }
    text = json.dumps(provenance, indent=2, sort_keys=True) + "\n"
    (folder / PROVENANCE).write_text(text, encoding="utf-8")
    return Artifact(request.kind, payload, str(provenance["sha256"]), provenance)


def read_entry(folder: Path, request: Request) -> Reading:
    """Return the artifact in ``folder``, checked against its provenance and the request."""
    try:
        if not folder.is_dir():
            return Reading()
        provenance = json_from_text(bytes_from_file(folder / PROVENANCE))
        damage = _damage(folder, request, provenance)
    except (OSError, ValueError) as error:
        return Reading(damage=f"{PROVENANCE} or {request.filename} cannot be read: {error}")
    if damage:
        return Reading(damage=damage)
    payload = folder / request.filename
    return Reading(Artifact(request.kind, payload, provenance["sha256"], provenance))


def entry_from_folder(folder: Path) -> Entry | None:
    """Return what is in ``folder``, damaged or not; None when it vanished meanwhile."""
    try:
        created = _created(folder)
        marker = folder / LAST_USED
        used = _modified(marker) if marker.exists() else created
        size = bytes_below(folder)
    except FileNotFoundError:
        return None
    return Entry(folder.parent.parent.name, folder.name, size, created, used, folder)


def bytes_below(folder: Path) -> int:
    """Return the size of the files in a folder; 0 when it does not exist."""
    return sum(path.stat().st_size for path in folder.glob("*"))


def sha256_from_file(path: Path, limit: int | None = None) -> str:
    """Return the sha256 of a plain file.

    Raises:
        OSError: it cannot be read, is something else, or has more than ``limit`` bytes.
    """
    with open_file(path, limit) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damage(folder: Path, request: Request, provenance: object) -> str:
    if not isinstance(provenance, dict) or not {"inputs", "sha256"} <= provenance.keys():
        return f"{PROVENANCE} does not say inputs and sha256"
    names = {"kind": request.kind, "filename": request.filename}
    key = digest_from_json({**names, "inputs": provenance["inputs"]})
    if key != request.key:
        return f"its inputs have the digest {key}, not {request.key}"
    payload = folder / request.filename
    stat = payload.stat()
    sha256 = _sha256_once(payload, stat.st_size, stat.st_mtime_ns, stat.st_ino)
    if sha256 != provenance["sha256"]:
        return f"its sha256 is {sha256}, and {PROVENANCE} says {provenance['sha256']}"
    return ""


@functools.cache
def _sha256_once(path: Path, _size: int, _mtime_ns: int, _inode: int) -> str:
    # The other arguments are the cache's key: a file that was not touched is hashed once a process.
    return sha256_from_file(path)


def _created(folder: Path) -> datetime.datetime:
    try:
        text = json_from_text(bytes_from_file(folder / PROVENANCE))["created"]
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (OSError, ValueError, KeyError, TypeError):
        return _modified(folder)


def _modified(path: Path) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)


def _stored(value: Mapping[str, object]) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(json.dumps(value, default=_plain))
    return stored


def _plain(value: object) -> object:
    # Facts come back after hours of work: an odd type becomes text rather than an error.
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_fields(value)
    return dict(value) if isinstance(value, Mapping) else str(value)


@functools.cache
def package_versions(*packages: str) -> dict[str, str]:
    """Return the installed versions, which shape what the packages make."""
    return {package: importlib.metadata.version(package) for package in packages}


def code_digest(*modules: Any) -> dict[str, str]:
    """Return the sha256 of the source of modules, which shape what they make."""
    return {module.__name__: sha256_from_file(Path(module.__file__)) for module in modules}
