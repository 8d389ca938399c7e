"""Clip lists in the form that Kinetics users have: mmaction2's ``path label`` files."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from harness.clips import Clip, ClipSet
from harness.errors import ClipError, refusal
from harness.host.provenance import sha256_from_file
from harness.host.reading import CLIP_BYTES, text_from_file

SHOWN_PROBLEMS = 10
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")

Fingerprint = Callable[[Path], str]


def size_fingerprint(path: Path) -> str:
    """Return the size of a file: quick, and enough to notice a replaced or truncated file."""
    return f"size:{path.stat().st_size}"


def content_fingerprint(path: Path) -> str:
    """Return the sha256 of a file: for sets small enough to read in full."""
    try:
        return f"sha256:{sha256_from_file(path, CLIP_BYTES)}"
    except OSError as error:
        raise ClipError(f"cannot read clip {path}: {error.strerror}") from error


def clip_set_from_list(
    path: Path,
    class_names: Sequence[str],
    root: Path | None = None,
    name: str = "kinetics400",
) -> ClipSet:
    """Read a list of videos in UTF-8: a path and a label on each line, the label last.

    Paths are relative to ``root``, by default the list's own folder.

    Raises:
        ClipError: the list cannot be read, is empty, or has unusable lines; the
            message shows the first few.
    """
    root = path.parent if root is None else root
    clips: dict[str, Clip] = {}
    problems: list[str] = []
    for number, text in _lines(path):
        try:
            clip = _clip(text, root, len(class_names))
            if clip.id in clips:
                raise ClipError(f"clip {clip.id} is listed twice, first as {clips[clip.id].path}")
        except ClipError as error:
            problems.append(f"line {number}: {error}")
        else:
            clips[clip.id] = clip
    if problems:
        noun = "unusable line" if len(problems) == 1 else "unusable lines"
        title = f"clip list {path} has {len(problems)} {noun}; correct or remove them"
        raise ClipError(refusal(title, problems, SHOWN_PROBLEMS))
    if not clips:
        raise ClipError(f"clip list {path} lists no clips; write lines of the form 'path label'")
    found = tuple(clips.values())
    return ClipSet(name, found, tuple(class_names), digest_from_clips(found))


def digest_from_clips(clips: Sequence[Clip], fingerprint: Fingerprint = size_fingerprint) -> str:
    """Return the sha256 over the clips, regardless of order: id, label and fingerprint of each."""
    return digest_from_lines(
        f"{clip.id}\t{clip.label}\t{fingerprint(clip.path)}\n" for clip in clips
    )


def digest_from_lines(lines: Iterable[str]) -> str:
    """Return the sha256 over lines, regardless of their order."""
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = text_from_file(path, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"cannot read clip list {path}: {error}") from error
    # Not splitlines(): a file name may hold other separators, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def _clip(text: str, root: Path, class_count: int) -> Clip:
    name, _, label = text.replace("\t", " ").rpartition(" ")
    if not name:
        raise ClipError(f"expected 'path label', got {text!r}")
    if not INTEGER.fullmatch(label):
        raise ClipError(f"label {label!r} is not an integer")
    if not 0 <= int(label) < class_count:
        raise ClipError(f"label {label} is out of range; there are {class_count} classes")
    path = root / text[: len(name)].strip()
    _require_file(path)
    return Clip(_clip_id(path, root), path, int(label))


def _require_file(path: Path) -> None:
    try:
        is_file = path.is_file()
    except OSError as error:
        raise ClipError(f"cannot access {path}: {error.strerror}") from error
    if not is_file:
        raise ClipError(f"no such file: {path}")


def _clip_id(path: Path, root: Path) -> str:
    stem = path.with_suffix("")
    return (stem.relative_to(root) if stem.is_relative_to(root) else stem).as_posix()
