"""Class names and their ids: in alphabetical order of the names, never by first appearance."""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from harness.errors import ClipError
from harness.host.reading import json_from_text, text_from_file

KINETICS400 = "kinetics400"
KINETICS400_COUNT = 400
# sha256 of the sorted names of Kinetics-400, joined by newlines.
KINETICS400_SHA256 = "a8dafb93a1204d4e"
NAMES_FILE = "models/_meta.py"
NAMES_VARIABLE = "_KINETICS400_CATEGORIES"


@functools.cache
def kinetics400_names() -> tuple[str, ...]:
    """Return the 400 names by id, read from torchvision's source without importing it.

    mmaction2's wheel lacks its label map. Both are in alphabetical order.

    Raises:
        ClipError: the installed torchvision lacks them.
    """
    found = importlib.util.find_spec("torchvision")
    folders = [] if found is None else found.submodule_search_locations or []
    for path in (Path(folder) / NAMES_FILE for folder in folders):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == NAMES_VARIABLE:
                return tuple(ast.literal_eval(node.value))
    raise ClipError(
        f"torchvision, whose {NAMES_FILE} carries the Kinetics-400 class names as "
        f"{NAMES_VARIABLE}, is not installed or is another version; run the README's set-up "
        "command, or give a label map"
    )


def names_from_map(path: Path) -> tuple[str, ...]:
    """Read a label map: one name a line, whose line number is the id, or JSON of ids by name.

    Raises:
        ClipError: it cannot be read, lists a class twice or leaves out an id.
    """
    try:
        text = text_from_file(path, encoding="utf-8-sig")
        names = _from_json(text) if text.lstrip().startswith("{") else _from_lines(text)
    except (OSError, ValueError, TypeError) as error:
        raise ClipError(f"cannot read label map {path}: {error}") from error
    known = {canonical(name) for name in names}
    if not names or len(known) != len(names):
        raise ClipError(f"label map {path} lists no class, or one class twice")
    return names


def name_notes(names: Sequence[str]) -> list[str]:
    """Return how the names differ from those of Kinetics-400; empty if they are the same."""
    notes = []
    if len(names) != KINETICS400_COUNT:
        notes.append(f"there are {len(names)} class names, Kinetics-400 has {KINETICS400_COUNT}")
    digest = names_digest(names)
    if not digest.startswith(KINETICS400_SHA256):
        notes.append(
            f"the sha256 of the sorted class names is {digest[:16]}, that of Kinetics-400 "
            f"begins {KINETICS400_SHA256}"
        )
    if list(names) != sorted(names):
        notes.append("the ids do not follow the alphabetical order of the class names")
    return notes


def names_digest(names: Sequence[str]) -> str:
    """Return the sha256 of the sorted names, joined by newlines."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def canonical(name: str) -> str:
    """Return the form of a name that folders and lists share: no quotes, no underscores, lower case."""
    return " ".join(name.replace('"', "").replace("_", " ").split()).casefold()


def ids_by_name(names: Sequence[str]) -> dict[str, int]:
    """Return the ids by canonical name."""
    return {canonical(name): label for label, name in enumerate(names)}


def _from_lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.split("\n") if line.strip())


def _from_json(text: str) -> tuple[str, ...]:
    # Something-Something publishes its ids in quotes.
    ids = {name: int(str(label)) for name, label in json_from_text(text).items()}
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"its ids are not 0 to {len(ids) - 1}, each once")
    return tuple(name.replace('"', "") for name, _ in sorted(ids.items(), key=lambda pair: pair[1]))
