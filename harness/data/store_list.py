"""List and remove the tensor stores of this machine."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.data.store import JOURNAL
from harness.errors import ArtifactError
from harness.host.locks import try_hold


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
        journal = folder / JOURNAL
        # A clip that could not be read has one line per attempt.
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
        done = len({json.loads(line)["slot"] for line in lines})
        nbytes = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
        clips = json.loads(about.read_text(encoding="utf-8"))["clips"]
        yield KeptStore(folder, clips, done, nbytes)
