"""Parts of an unfinished check that hosts have sent, in files: a rerun asks only for the others."""

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.clips import Predictions
from harness.errors import RunError
from harness.farm.orders import Part, Shard
from harness.host.digests import digest_from_json
from harness.host.locks import try_hold
from harness.host.reading import ARRAY_BYTES, bytes_from_file, json_from_text
from harness.predict.journal import MAX_AGE_S
from harness.record.raw import write_atomically


class KeptParts:
    """A folder of the parts of one check."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def part(self, shard: Shard) -> Part | None:
        """Return the part of a shard; None if it is missing or damaged."""
        found = self._read(shard)
        return None if found is None else found[0]

    def predictions(self, shard: Shard) -> Predictions | None:
        """Return what the part of a shard holds; None if it is missing or damaged."""
        found = self._read(shard)
        return None if found is None else found[1]

    def keep(self, shard: Shard, part: Part) -> None:
        """Keep a part.

        Raises:
            RunError: it cannot be written.
        """
        head = {"host": part.host, "notes": part.notes, "subjects": dict(part.subjects)}
        head["decoder"] = part.decoder
        content = json.dumps(head).encode() + b"\n" + part.predictions
        try:
            write_atomically(self._path(shard), content)
        except OSError as error:
            raise RunError(
                f"cannot keep predictions in {self.folder}: {error.strerror}; make room, or set another "
                "cache as cache_dir in site.toml; what was predicted is kept"
            ) from error

    def forget_old(self) -> None:
        """Remove parts of more than a day ago: devices change."""
        for path in self.folder.glob("*.part"):
            if time.time() - path.stat().st_mtime > MAX_AGE_S:
                path.unlink()

    def _read(self, shard: Shard) -> tuple[Part, Predictions] | None:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            part = _part_from_bytes(bytes_from_file(self._path(shard), ARRAY_BYTES))
            return part, part.unpacked()
        return None

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.what}-{shard.index}.part"


@contextlib.contextmanager
def kept_parts(cache: Path, key: Mapping[str, object]) -> Iterator[KeptParts]:
    """Yield the parts of a check that an earlier run has left; they are removed when the block succeeds.

    If the folder is not writable, or another run works on the same check, they last as long as the block.

    Args:
        cache: of the driver.
        key: everything that decides what the parts are.
    """
    folder = cache / "farm" / digest_from_json(key)
    with contextlib.ExitStack() as stack:
        try:
            is_mine = stack.enter_context(try_hold(folder.with_suffix(".lock")))
            folder.mkdir(exist_ok=True)
        except OSError:
            is_mine = False
        if not is_mine:
            passing = stack.enter_context(tempfile.TemporaryDirectory(prefix="acceptance-farm-"))
            folder = Path(passing, "parts")
            folder.mkdir()
        kept = KeptParts(folder)
        kept.forget_old()
        yield kept
        shutil.rmtree(folder, ignore_errors=True)


def _part_from_bytes(content: bytes) -> Part:
    head, _, predictions = content.partition(b"\n")
    values = json_from_text(head)
    notes, subjects = tuple(values["notes"]), dict(values["subjects"])
    return Part(values["host"], predictions, notes, subjects, values["decoder"])
