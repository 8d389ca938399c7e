"""Folders, annotations and lists, as Kinetics users have them -> a manifest.

Labels come from a list (``path label``, or ``folder frames label`` for raw frames), from the
annotations of the data set (``val.csv``), or from the names of the folders that the clips are in.
Clips may be called ``<id>_000010_000020`` or ``<id>``. Whatever does not match is reported by name.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.data.clip_files import clip_id, clip_paths, frame_count
from harness.data.kinetics import INTEGER
from harness.data.labels import KINETICS400, KINETICS400_COUNT, canonical, ids_by_name, name_notes
from harness.data.manifest import UNREADABLE, ClipEntry, Manifest, fingerprint, size_of_clip
from harness.errors import ClipError, is_plain_name, printable
from harness.host.reading import bytes_from_file, text_from_file

PROBLEM_KINDS = ("missing", "unreadable", "duplicate", "unlabelled", "contradicted", "misnamed")
RAWFRAME_LINE = re.compile(r"(.+?)\s+([0-9]{1,18})\s+(-?[0-9]{1,18})")
VIDEO_LINE = re.compile(r"(.+?)\s+(\S+)")
NewCounter = Callable[[int], Callable[[int], None]]
COLUMNS = ("label", "youtube_id", "time_start", "time_end")
CVDF = (("annotations/val.csv", "val"), ("val.csv", "val"), ("kinetics_val.csv", "val"))


@dataclasses.dataclass(frozen=True)
class Source:
    """What to scan.

    Attributes:
        root: folder of the clips.
        class_names: by id.
        name: of the data set.
        annotations: path of ``val.csv``, or None.
        listing: path of an mmaction2 list, or None.
        is_content: whether the digest covers the clips' bytes rather than their sizes.
    """

    root: Path
    class_names: tuple[str, ...]
    name: str = "kinetics400"
    annotations: Path | None = None
    listing: Path | None = None
    is_content: bool = False


class _Findings:
    """The findings so far: labelled clips by id, and problems by kind."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.labels: dict[str, int] = {}
        self.paths: dict[str, Path] = {}
        self.problems: dict[str, list[str]] = {kind: [] for kind in PROBLEM_KINDS}

    def add(self, path: Path, label: int) -> None:
        """Add a clip, unless it is already there or its label is not a class."""
        name = clip_id(path, self.source.root)
        if not is_plain_name(name):
            self.tell("misnamed", f"{name}: it has a control character")
        elif name in self.labels:
            self.tell("duplicate", f"{name}: {path} beside {self.paths[name]}")
        elif not 0 <= label < len(self.source.class_names):
            self.tell("unlabelled", f"{name}: label {label} of {len(self.source.class_names)}")
        else:
            self.labels[name], self.paths[name] = label, path

    def tell(self, kind: str, text: str) -> None:
        """Record a problem."""
        self.problems[kind].append(printable(text))


def source_from_folder(source: Source) -> Source:
    """Return the source with annotations and clips located as CVDF lays them out."""
    if source.annotations is None and source.listing is None:
        for annotations, folder in CVDF:
            path = source.root / annotations
            if path.is_file() and (source.root / folder).is_dir():
                return dataclasses.replace(source, root=source.root / folder, annotations=path)
    return source


def scan(source: Source, progress: NewCounter = lambda total: lambda done: None) -> Manifest:
    """Scan every clip of a source and return the manifest of those that have a label.

    ``progress`` takes the number of clips and returns what is called with the number done.

    Raises:
        ClipError: the source itself cannot be read, or holds no labelled clip.
    """
    source = source_from_folder(source)
    findings = _Findings(source)
    if source.listing is not None:
        _take_listed(source.listing, findings)
    elif source.annotations is not None:
        _take_annotated(source.annotations, findings)
    else:
        _take_foldered(findings)
    entries, count = [], progress(len(findings.labels))
    for done, name in enumerate(sorted(findings.labels), start=1):
        entries.append(_entry(name, findings))
        count(done)
    if not entries:
        found = (f"{kind}: {line}" for kind, lines in findings.problems.items() for line in lines)
        first = next(found, "")
        raise ClipError(
            f"{source.root} holds no clip with a label"
            + (f" ({first}); correct the root, the list or the label map" if first else "")
            + "; give its annotations or its list, or sort the clips into one folder per class"
        )
    _tell_same_content(entries, findings)
    problems = {kind: tuple(lines) for kind, lines in findings.problems.items() if lines}
    return Manifest(
        source.name,
        source.root.absolute(),
        source.class_names,
        tuple(entries),
        tuple(_notes(source, entries)),
        problems,
    )


def _entry(name: str, findings: _Findings) -> ClipEntry:
    path, root = findings.paths[name], findings.source.root
    frames, size_bytes, mark, reason = None, 0, UNREADABLE, None
    try:
        frames = frame_count(path)
    except ClipError as error:
        reason = str(error)
    # A clip that cannot be decoded still has a size, unless it is gone or unreachable.
    try:
        size_bytes = size_of_clip(path)[1]
        mark = fingerprint(path, findings.source.is_content)
    except (OSError, ClipError) as error:
        reason = reason or f"cannot read clip {path}: {error}"
    if reason:
        findings.tell("unreadable", reason)
    return ClipEntry(
        id=name,
        path=path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path),
        label=findings.labels[name],
        frames=frames,
        bytes=size_bytes,
        fingerprint=mark,
        unreadable=reason,
    )


def _notes(source: Source, entries: Sequence[ClipEntry]) -> Iterator[str]:
    """Say how a set differs from the one whose name it has."""
    if source.name != KINETICS400:
        return
    yield from name_notes(source.class_names)
    classes = len({entry.label for entry in entries})
    if classes != KINETICS400_COUNT:
        yield (
            f"there are clips of {classes} classes, {KINETICS400} has {KINETICS400_COUNT}: if this is "
            "another data set, give its --name and --label-map"
        )


def _tell_same_content(entries: Sequence[ClipEntry], findings: _Findings) -> None:
    first: dict[str, str] = {}
    for entry in entries:
        if entry.fingerprint.startswith("sha256:") and not entry.unreadable:
            other = first.setdefault(entry.fingerprint, entry.id)
            if other != entry.id:
                findings.tell("duplicate", f"{entry.id} has the same content as {other}")


def _take_foldered(findings: _Findings) -> None:
    ids = ids_by_name(findings.source.class_names)
    root = findings.source.root
    for path in clip_paths(root):
        label = _label_of_folder(path, root, ids)
        if label is None:
            findings.tell("unlabelled", clip_id(path, root))
        else:
            findings.add(path, label)


def _label_of_folder(path: Path, root: Path, ids: dict[str, int]) -> int | None:
    parents = (canonical(name) for name in reversed(path.relative_to(root).parts[:-1]))
    return next((ids[name] for name in parents if name in ids), None)


def _take_annotated(annotations: Path, findings: _Findings) -> None:
    ids, root = ids_by_name(findings.source.class_names), findings.source.root
    files: dict[str, list[Path]] = {}
    for path in clip_paths(root):
        files.setdefault(Path(clip_id(path, root)).name, []).append(path)
    used: set[str] = set()
    for row in _rows(annotations):
        name = f"{row['youtube_id']}_{_segment(row, annotations)}"
        found = name if name in files else row["youtube_id"]
        if found not in files:
            findings.tell("missing", f"{name} ({row['label']})")
        elif found in used:
            findings.tell("duplicate", f"{name} is annotated twice")
        elif canonical(row["label"] or "") not in ids:
            findings.tell("unlabelled", f"{name}: {row['label']!r} is not a class")
        else:
            _take_annotated_clip(files[found], ids, canonical(row["label"]), findings)
        used.add(found)
    for stem in sorted(files.keys() - used):
        findings.tell("unlabelled", f"{stem}: not in {annotations.name}")


def _take_annotated_clip(
    paths: Sequence[Path], ids: dict[str, int], label: str, findings: _Findings
) -> None:
    first, *others = paths
    folder = _label_of_folder(first, findings.source.root, ids)
    if folder not in (None, ids[label]):
        findings.tell("contradicted", f"{first}: annotated as {label}")
    findings.add(first, ids[label])
    for other in others:
        findings.tell("duplicate", f"{first.stem}: {other} beside {first}")


def _rows(annotations: Path) -> Iterator[dict[str, str]]:
    try:
        text = text_from_file(annotations, encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise ClipError(f"{annotations} needs the columns {', '.join(COLUMNS)}")
        yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClipError(f"cannot read annotations {annotations}: {error}") from error


def _segment(row: dict[str, str], annotations: Path) -> str:
    try:
        return "_".join(f"{int(float(row[key])):06d}" for key in ("time_start", "time_end"))
    except (TypeError, ValueError, OverflowError) as error:
        raise ClipError(f"{annotations}: {row['youtube_id']} has no times: {error}") from error


def _take_listed(listing: Path, findings: _Findings) -> None:
    try:
        text = bytes_from_file(listing).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ClipError(f"cannot read clip list {listing}: {error}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            _take_line(line.strip(), f"line {number}", findings)


def _take_line(line: str, where: str, findings: _Findings) -> None:
    root = findings.source.root
    frames = RAWFRAME_LINE.fullmatch(line)
    video = VIDEO_LINE.fullmatch(line)
    if frames and _is_there(root / frames[1], Path.is_dir):
        _take_folder(root / frames[1], int(frames[2]), int(frames[3]), findings)
    elif video is None:
        findings.tell("unlabelled", f"{where}: {line}")
    elif not _is_there(root / video[1]):
        findings.tell("missing", f"{where}: {frames[1] if frames else video[1]}")
    elif INTEGER.fullmatch(video[2]):
        findings.add(root / video[1], int(video[2]))
    else:
        findings.tell("unlabelled", f"{where}: {line}")


def _take_folder(path: Path, listed: int, label: int, findings: _Findings) -> None:
    count = size_of_clip(path)[0]
    if listed != count:
        findings.tell("contradicted", f"{path}: the list says {listed} frames, there are {count}")
    findings.add(path, label)


def _is_there(path: Path, look: Callable[[Path], bool] = Path.exists) -> bool:
    try:
        return look(path)
    except (OSError, ValueError):
        return False
