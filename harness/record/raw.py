"""The raw files of a run, ``raw/<digest>``: arrays, times and frames that its verdicts rest on.

The digest is the sha256 of the run's nonce and the content, so that a file of another run does not
fit. Runs of suites that had no nonce have an empty one: there it is the sha256 of the file.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from harness.errors import RecordError
from harness.host.reading import ARRAY_BYTES, bytes_from_file

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class RawFiles:
    """The folder of a run's raw files; ``nonce`` is that of the run, in hexadecimal."""

    folder: Path
    nonce: str = ""

    def keep(self, content: bytes, suffix: str) -> str:
        """Store a file and return its digest.

        Raises:
            RecordError: it cannot be written.
        """
        digest = self.digest(content)
        with writing(path := self.folder / f"{digest}{suffix}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        return digest

    def read(self, digest: str) -> bytes:
        """Return the content of a file, as it was when the run stored it.

        Raises:
            RecordError: it is missing, cannot be read, was changed, or is of another run.
        """
        # What a record names is another's word: it may be a pattern, or lead out of the folder.
        found = sorted(self.folder.glob(f"{digest}.*")) if _DIGEST.fullmatch(digest) else []
        if not found:
            raise RecordError(f"raw file {digest} is missing in {self.folder}")
        try:
            content = bytes_from_file(found[0], ARRAY_BYTES)
        except OSError as error:
            raise RecordError(f"{found[0]} cannot be read: {error.strerror}") from error
        if self.digest(content) != digest:
            raise RecordError(f"{found[0]} changed since the run, or is from another run")
        return content

    def digest(self, content: bytes) -> str:
        """Return the sha256 of the nonce and a content."""
        found = hashlib.sha256(bytes.fromhex(self.nonce))
        found.update(content)
        return found.hexdigest()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a RecordError that says what to do where a file of a run cannot be written."""
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"{path} cannot be written: {error.strerror}; make room, or name another folder for runs: "
            "run_root in site.toml, or --run-dir"
        ) from error


def append_whole(path: Path, line: bytes) -> None:
    """Add a line to a file; then all of it is on disk, or nothing.

    Raises:
        RecordError: it cannot be written.
    """
    with writing(path), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            # A disk that fills up takes a part of it.
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file at once, as another process may read it at any time; all of it or nothing."""
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temp.write_bytes(content)
        temp.replace(path)
    except OSError:
        temp.unlink(missing_ok=True)
        raise
