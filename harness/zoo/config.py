"""mmaction2's configuration files, read as mmcv reads them, in milliseconds instead of seconds."""

import dataclasses
import functools
import importlib.util
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line

BASE, DELETE = "_base_", "_delete_"


@dataclasses.dataclass(frozen=True)
class Config:
    """The content of a configuration, and the files that it was read from, itself first."""

    path: Path
    content: Mapping[str, Any]
    files: tuple[Path, ...]

    def part(self, *keys: str) -> Any:
        """Return a part of the content.

        Raises:
            InputError: there is none.
        """
        found: Any = self.content
        for key in keys:
            if not isinstance(found, Mapping) or found.get(key) is None:
                raise InputError(
                    f"{self.path} has no {'.'.join(keys)}; give a configuration of mmaction2 that "
                    "trains and tests a recognizer"
                )
            found = found[key]
        return found


@functools.cache
def mmaction2_folder() -> Path:
    """Return the folder of the installed mmaction2 with its configurations, without importing it.

    Raises:
        InputError: it is not installed.
    """
    found = importlib.util.find_spec("mmaction")
    if found is None or found.origin is None:
        raise InputError("mmaction2 is not installed; set the suite up as the README says")
    return Path(found.origin).parent / ".mim"


def config_path(name: str) -> Path:
    """Return the path of a configuration, given absolute or below mmaction2's own folder."""
    return mmaction2_folder() / "configs" / name


@functools.cache
def config_from_file(path: Path) -> Config:
    """Read a configuration and those that it is based on.

    Like mmcv, this runs them: they are Python.

    Raises:
        InputError: one is missing or cannot be read.
    """
    content = _run(path)
    bases = content.pop(BASE, [])
    read = [
        config_from_file((path.parent / base).resolve())
        for base in ([bases] if isinstance(bases, str) else bases)
    ]
    merged: dict[str, Any] = {}
    for base in read:
        merged |= base.content
    files = (path, *dict.fromkeys(file for base in read for file in base.files))
    return Config(path, _merged(content, merged), files)


def merge(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with some entries changed, as mmcv merges them."""
    return _merged(changes, content)


def _run(path: Path) -> dict[str, Any]:
    names: dict[str, Any] = {"__file__": str(path)}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)  # noqa: S102
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; name a configuration"
        ) from error
    # A configuration is a program, which can fail in any way.
    except Exception as error:
        raise InputError(
            f"{path} is not a configuration of mmaction2: {first_line(error)}"
        ) from error
    return {
        name: value
        for name, value in names.items()
        if not name.startswith("__")
        and not isinstance(value, types.ModuleType | types.FunctionType)
    }


def _merged(changes: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(content)
    for name, value in changes.items():
        if not isinstance(value, Mapping):
            merged[name] = value
            continue
        own = {key: one for key, one in value.items() if key != DELETE}
        base = {} if value.get(DELETE) else merged.get(name)
        merged[name] = _merged(own, base if isinstance(base, Mapping) else {})
    return merged
