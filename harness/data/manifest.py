"""The manifest: the clips of a data set on this disk, one a line, with a digest of the set.

A JSON lines file in UTF-8. The first line describes the set:

    {"manifest": "clips", "version": 1, "name": "kinetics400", "root": "/data/k400/val",
     "digest": "<sha256>", "class_names": [...], "notes": [...], "problems": {"missing": [...]}}

and each further line one clip:

    {"id": "zumba/x_000010_000020", "path": "zumba/x_000010_000020.mp4", "label": 399,
     "frames": 300, "bytes": 812345, "fingerprint": "size:812345"}

``fingerprint`` is ``sha256:<hex>``, ``size:<bytes>`` or, for a folder of raw frames,
``frames:<count>:<bytes>``. A clip that could not be read during the scan says so in
``unreadable``; it stays in the set, so that it counts. ``digest`` is the sha256 over the sorted
lines ``id TAB label TAB fingerprint``, so it depends neither on the order nor on the folder.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from harness.clips import Clip, ClipSet
from harness.data.kinetics import content_fingerprint, digest_from_lines, size_fingerprint
from harness.errors import ClipError
from harness.host.reading import json_from_text, nameable, text_from_file

# Stands for the bytes of a clip that was unreachable during the scan.
UNREADABLE = "unreadable"
VERSION = 1
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class ClipEntry:
    """One clip of a manifest; ``frames`` is None if it could not be read."""

    id: str
    path: str
    label: int
    frames: int | None
    bytes: int
    fingerprint: str
    unreadable: str | None = None


_TYPES = get_type_hints(ClipEntry)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A scanned data set; ``problems`` lists, by kind, what is not among the clips."""

    name: str
    root: Path
    class_names: tuple[str, ...]
    clips: tuple[ClipEntry, ...]
    notes: tuple[str, ...] = ()
    problems: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return the sha256 that stands for the set."""
        return digest_from_lines(
            f"{clip.id}\t{clip.label}\t{clip.fingerprint}\n" for clip in self.clips
        )


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest completely or not at all.

    Raises:
        ClipError: the file cannot be written.
    """
    head = {
        "manifest": "clips",
        "version": VERSION,
        "name": manifest.name,
        "root": str(manifest.root.absolute()),
        "digest": manifest.digest,
        "class_names": manifest.class_names,
        "notes": manifest.notes,
        "problems": manifest.problems,
    }
    lines = [head, *(_plain(clip) for clip in manifest.clips)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temp.write_text(text, encoding="utf-8")
        temp.replace(path)
    except OSError as error:
        raise ClipError(f"cannot write manifest {path}: {error.strerror}") from error


def read_manifest(path: Path, root: Path | None = None) -> Manifest:
    """Read a manifest; ``root`` says where the clips are now.

    Raises:
        ClipError: it cannot be read, is not a manifest, or was changed by hand.
    """
    try:
        head, *rows = map(json_from_text, text_from_file(path).split("\n")[:-1])
        if (head["manifest"], head["version"]) != ("clips", VERSION):
            raise ClipError(f"{path} is not a clip manifest of version {VERSION}")
        manifest = Manifest(
            name=_texts([head["name"]])[0],
            root=root or Path(head["root"]),
            class_names=_texts(head["class_names"]),
            clips=tuple(map(_entry, rows)),
            notes=_texts(head["notes"]),
            problems={kind: _texts(lines) for kind, lines in head["problems"].items()},
        )
        declared, found = str(head["digest"]), manifest.digest
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClipError(
            f"cannot read manifest {path}: {error}; make one with `harness dataset scan`"
        ) from error
    if found != declared:
        raise ClipError(
            f"{path} was edited or cut: its clips have digest {found[:16]}, but "
            f"it declares {declared[:16]}; make it again with `harness dataset scan`"
        )
    return manifest


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ValueError(f"{json.dumps(values)[:80]} should be text, or a list of texts")
    return tuple(values)


def _entry(row: Mapping[str, Any]) -> ClipEntry:
    entry = ClipEntry(**row)
    for name, kind in _TYPES.items():
        if not isinstance(getattr(entry, name), kind):
            raise TypeError(f"the {name} of a clip is {json.dumps(row[name])[:80]}")
    return entry


def clip_set_from_manifest(manifest: Manifest) -> ClipSet:
    """Return the clips of a manifest, after checking each on disk.

    Raises:
        ClipError: it lists no clips, some are gone or changed since the scan, or the locale lacks their names.
    """
    if not manifest.clips:
        raise ClipError(f"the manifest of {manifest.name} lists no clips; scan another folder")
    changed = list(_changes(manifest))
    if changed:
        shown = "; ".join(changed[:SHOWN])
        raise ClipError(
            f"{len(changed)} clips of {manifest.name} changed since the scan: {shown}; scan again"
        )
    clips = tuple(
        Clip(entry.id, manifest.root / entry.path, entry.label) for entry in manifest.clips
    )
    return ClipSet(manifest.name, clips, manifest.class_names, manifest.digest)


def size_of_clip(path: Path) -> tuple[int, int]:
    """Return the number of raw frames of a folder, 0 for a file, and the bytes of either."""
    if not path.is_dir():
        return 0, path.stat().st_size
    with os.scandir(path) as entries:
        sizes = [entry.stat().st_size for entry in entries if is_frame_name(entry.name)]
    return len(sizes), sum(sizes)


def is_frame_name(name: str) -> bool:
    """Whether a file is named like a raw frame, as ``frame_path`` names it."""
    return name.endswith(".jpg") and name[:-4].removeprefix("img_").isdecimal()


def frame_path(folder: Path, number: int) -> Path:
    """Return the file of a raw frame, counted from 1.

    It is ``img_00001.jpg``, as the guides' extraction and UCF-101 have it, or ``00001.jpg``, as
    Something-Something and Jester are published.
    """
    guide, plain = folder / f"img_{number:05d}.jpg", folder / f"{number:05d}.jpg"
    return plain if plain.is_file() and not guide.exists() else guide


def fingerprint(path: Path, is_content: bool) -> str:
    """Return what represents a clip in the digest of its set."""
    if path.is_dir():
        count, size_bytes = size_of_clip(path)
        return f"frames:{count}:{size_bytes}"
    return content_fingerprint(path) if is_content else size_fingerprint(path)


def _changes(manifest: Manifest) -> Iterator[str]:
    for entry in manifest.clips:
        if entry.fingerprint == UNREADABLE:
            continue
        path = manifest.root / entry.path
        try:
            frames, size_bytes = size_of_clip(nameable(path))
        except OSError:
            yield f"{entry.id} is gone ({path})"
        except ValueError as error:
            raise ClipError(f"{manifest.name}: {error}") from error
        else:
            if size_bytes != entry.bytes or frames not in (0, entry.frames):
                yield f"{entry.id} has a different size"


def _plain(clip: ClipEntry) -> dict[str, Any]:
    row = dataclasses.asdict(clip)
    return row if clip.unreadable else {key: row[key] for key in row if key != "unreadable"}


def problem_count(problems: Mapping[str, Sequence[str]]) -> int:
    """Return the number of problems of all kinds."""
    return sum(len(lines) for lines in problems.values())
