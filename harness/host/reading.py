"""Files from outside, read within bounds.

A path may lead to a pipe that nobody writes to, to a device without an end, or to a file larger than
memory; text may nest deeper than Python recurses. Each is an ``OSError`` or a ``ValueError`` here, at
once, so that a reader maps it to its own error as it maps any other.
"""

import contextlib
import errno
import io
import json
import os
import stat
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from harness.errors import first_line

if TYPE_CHECKING:
    import numpy.typing as npt

TEXT_BYTES = 64 << 20
TOML_BYTES = 1 << 20
ARRAY_BYTES = 1 << 30
CLIP_BYTES = 512 << 20
DEPTH_MAX = 64
# tomllib takes time in the square of the length of a dotted key.
TOML_LINE_MAX = 10_000
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_TOO_DEEP = f"it nests more than {DEPTH_MAX} levels deep"


@contextlib.contextmanager
def open_file(
    path: Path, limit: int | None = None, *, follow: bool = True
) -> Iterator[io.BufferedReader]:
    """Open a plain file for reading, without waiting for anything; ``follow`` a link to it, or not.

    Raises:
        OSError: it cannot be opened, is not a plain file, or has more than ``limit`` bytes.
    """
    file = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    try:
        _require_plain(os.fstat(file), path, limit)
    except OSError:
        os.close(file)
        raise
    with os.fdopen(file, "rb") as stream:
        yield stream


def nameable(path: Path) -> Path:
    """Return a path that this process can name in its locale.

    Raises:
        ValueError: it has a NUL, or characters that the locale lacks.
    """
    if "\0" in str(path):
        raise ValueError(f"{str(path)!a} has a NUL, which the name of a file cannot have")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{str(path)!a} has characters that this locale ({error.encoding}) lacks in the names of files:"
            " set LC_ALL=C.UTF-8"
        ) from error
    return path


def bytes_from_file(path: Path, limit: int = TEXT_BYTES, *, follow: bool = True) -> bytes:
    """Return the bytes of a plain file.

    Raises:
        OSError: it cannot be read, is not a plain file, or has more than ``limit`` bytes.
    """
    with open_file(path, limit, follow=follow) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        # A file that grows meanwhile is read as far as it was long.
        return stream.read(size_bytes)


def text_from_file(path: Path, limit: int = TEXT_BYTES, encoding: str = "utf-8") -> str:
    """Return the text of a plain file; line ends stay as they are.

    Raises:
        OSError: as ``bytes_from_file``.
        ValueError: it is not in that encoding.
    """
    return bytes_from_file(path, limit).decode(encoding)


def kernel_text(path: Path) -> str:
    """Return what a file of /proc, /sys or /etc says; empty where it cannot be read.

    The kernel does not say how long its files are, so ``text_from_file`` would read nothing.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def number_from_text(text: str) -> float | None:
    """Return a number; None for whatever else stands in its place, such as ``NA``."""
    try:
        return float(text)
    except ValueError:
        return None


def json_from_text(source: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is not JSON, or nests too deep.
    """
    try:
        return _shallow(json.loads(source))
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def toml_from_text(source: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: it is not TOML, nests too deep, or has a line of more than 10,000 characters.
    """
    longest = max(map(len, source.split("\n")))
    if longest > TOML_LINE_MAX:
        raise ValueError(f"it has a line of {longest} characters; {TOML_LINE_MAX} may be")
    try:
        found: dict[str, Any] = _shallow(tomllib.loads(source))
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    return found


def arrays_from_npz(source: Path | BinaryIO) -> "dict[str, npt.NDArray[Any]]":
    """Read the arrays of an ``.npz`` archive by name; it holds no more than 1 GiB once unpacked.

    Raises:
        OSError: the file cannot be read, or is not a plain one.
        ValueError: it is not such an archive, is damaged, holds objects, or unpacks to more.
    """
    if not isinstance(source, Path):
        return _arrays(source)
    with open_file(source, ARRAY_BYTES) as stream:
        return _arrays(stream)


def array_from_npy(content: bytes) -> "npt.NDArray[Any]":
    """Read the array of an ``.npy`` file.

    Raises:
        ValueError: it is not one, is damaged, or holds objects.
    """
    import numpy as np

    with _damage_is_named():
        array = np.load(io.BytesIO(content), allow_pickle=False)
    if isinstance(array, np.ndarray):
        return array
    raise ValueError("it is an archive of arrays, not one array")


def _arrays(stream: BinaryIO) -> "dict[str, npt.NDArray[Any]]":
    import numpy as np

    with _damage_is_named():
        # NumPy takes anything else for a pickle, and says so at length.
        with zipfile.ZipFile(stream) as archive:
            unpacked_bytes = sum(member.file_size for member in archive.infolist())
        if unpacked_bytes > ARRAY_BYTES:
            raise ValueError(f"it unpacks to {unpacked_bytes} bytes, and {ARRAY_BYTES} may be")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as arrays:
            found = dict(arrays)
        if not all(isinstance(array, np.ndarray) for array in found.values()):
            raise ValueError("it holds something other than arrays")
    return found


@contextlib.contextmanager
def _damage_is_named() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError):
        raise
    # The unpickler aside, damage can break NumPy's reader and zipfile anywhere.
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {first_line(error)}") from error


def _require_plain(status: os.stat_result, path: Path, limit: int | None) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    if limit is not None and status.st_size > limit:
        reason = f"it has {status.st_size} bytes, and no more than {limit} are read"
        raise OSError(errno.EFBIG, reason, str(path))


def _shallow(value: Any) -> Any:
    """Return a parsed value that nests no deeper than what later walks it may recurse."""
    layer, depth = [value], 0
    while layer := [inner for outer in layer for inner in _inner(outer)]:
        depth += 1
        if depth > DEPTH_MAX:
            raise ValueError(_TOO_DEEP)
    return value


def _inner(value: Any) -> list[Any]:
    values = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return []
    return [inner for inner in values if isinstance(inner, dict | list)]
