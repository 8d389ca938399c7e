"""List and remove the tensor stores of this machine."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.data.store import JOURNAL, journal_entries
from harness.errors import ArtifactError
from harness.host.locks import try_hold
from harness.host.reading import bytes_from_file, json_from_text


@dataclasses.dataclass(frozen=True)
class KeptStore:
    """One store: its folder, its clip set, the number of finished clips and the bytes on disk."""

    folder: Path
    clips: str
    done: int
    nbytes: int

    def remove(self) -> None:
        """Remove the store, unless a process is filling it.

        Raises:
            ArtifactError: it is in use, or cannot be removed.
        """
        try:
            with try_hold(self.folder / "lock") as is_free:
                if not is_free:
                    raise ArtifactError(f"{self.folder} is being filled; remove it later")
                shutil.rmtree(self.folder)
        except OSError as error:
            raise ArtifactError(f"cannot remove {self.folder}: {error.strerror}") from error


def kept_stores(root: Path) -> Iterator[KeptStore]:
    """Yield the stores below a folder."""
    for about in sorted(root.glob("*/about.json")):
        folder = about.parent
        # A clip that could not be read has one line per attempt.
        done = len({entry.slot for entry in journal_entries(_content(folder / JOURNAL))})
        nbytes = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
        yield KeptStore(folder, _clips(_content(about)), done, nbytes)


def _content(path: Path) -> bytes:
    try:
        return bytes_from_file(path)
    except OSError:
        return b""


def _clips(about: bytes) -> str:
    try:
        return str(json_from_text(about)["clips"])
    except (ValueError, LookupError, TypeError):
        return "unknown"
