"""Parts of a check that hosts have sent, in files: a rerun asks only for the others.

PyTorch's parts serve every cell of a model that would get the same ones; each keeps the name of its host.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from harness.clips import Predictions
from harness.errors import RunError
from harness.farm.orders import Part, Shard
from harness.host.digests import digest_from_json
from harness.host.locks import OnWait, hold, try_hold
from harness.host.reading import ARRAY_BYTES, bytes_from_file, json_from_text
from harness.predict.journal import MAX_AGE_S
from harness.record.raw import write_atomically

# Begins the name of each folder of PyTorch's parts.
_SHARED = "reference-"


class KeptParts:
    """A folder of the parts of one check.

    Args:
        folder: of this check alone. What lies there does not change.
        shared: a folder of PyTorch's parts, for every check with the same ones.
        hosts: names of those that take part now; parts that others have made for other checks do not count.
    """

    def __init__(
        self, folder: Path, shared: Path | None = None, hosts: Collection[str] = ()
    ) -> None:
        self.folder, self._shared, self._hosts = folder, shared, hosts

    def part(self, shard: Shard) -> Part | None:
        """Return the part of a shard, which another check may have left; None if it is missing or damaged."""
        found = self._read(shard) or self._adopted(shard)
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
        if (shared := self._shared_path(shard)) is not None:
            # A new name for the same file: what another check has taken stays as it was.
            temp = shared.with_name(f".{shared.name}.{os.getpid()}")
            with contextlib.suppress(OSError):
                temp.hardlink_to(self._path(shard))
                temp.replace(shared)

    def forget_old(self) -> None:
        """Remove parts of more than a day ago, also PyTorch's that nobody asks for again: devices change."""
        shared = self._shared.parent.glob(f"{_SHARED}*/*.part") if self._shared else ()
        for path in (*self.folder.glob("*.part"), *shared):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > MAX_AGE_S:
                    path.unlink()

    @contextlib.contextmanager
    def reference_turn(self) -> Iterator[bool]:
        """Hold the right to have PyTorch run on these clips, if no other check holds it; yield whether."""
        with contextlib.ExitStack() as stack:
            is_ours = True
            if self._shared is not None:
                is_ours = stack.enter_context(try_hold(self._shared.with_suffix(".lock")))
            yield is_ours

    @contextlib.contextmanager
    def reference_wait(self, on_wait: OnWait) -> Iterator[None]:
        """Hold the same right, and wait for it."""
        with contextlib.ExitStack() as stack:
            if self._shared is not None:
                stack.enter_context(hold(self._shared.with_suffix(".lock"), on_wait))
            yield

    def _adopted(self, shard: Shard) -> tuple[Part, Predictions] | None:
        """Take over what another check has left, if the hosts that made it still take part."""
        if (shared := self._shared_path(shard)) is None:
            return None
        with contextlib.suppress(OSError):
            self._path(shard).unlink(missing_ok=True)
            self._path(shard).hardlink_to(shared)
            found = self._read(shard)
            if found and {found[0].host, found[0].decoder or found[0].host} <= set(self._hosts):
                return found
            self._path(shard).unlink()
        return None

    def _shared_path(self, shard: Shard) -> Path | None:
        if self._shared is None or shard.what != "reference":
            return None
        return self._shared / f"{shard.index}.part"

    def _read(self, shard: Shard) -> tuple[Part, Predictions] | None:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            part = _part_from_bytes(bytes_from_file(self._path(shard), ARRAY_BYTES))
            return part, part.unpacked()
        return None

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.what}-{shard.index}.part"


@contextlib.contextmanager
def kept_parts(
    cache: Path,
    key: Mapping[str, object],
    reference: Mapping[str, object],
    hosts: Collection[str] = (),
) -> Iterator[KeptParts]:
    """Yield the parts of a check that an earlier run has left; they are removed when the block succeeds.

    PyTorch's parts stay for other checks, for a day.

    If the folder is not writable, or another run works on the same check, they last as long as the block.

    Args:
        cache: of the driver.
        key: everything that decides what the parts are.
        reference: everything that decides what PyTorch's parts are.
        hosts: names of those that take part.
    """
    folder = cache / "farm" / digest_from_json(key)
    shared = folder.with_name(_SHARED + digest_from_json(reference))
    with contextlib.ExitStack() as stack:
        try:
            is_mine = stack.enter_context(try_hold(folder.with_suffix(".lock")))
            folder.mkdir(exist_ok=True)
            shared.mkdir(exist_ok=True)
            beside: Path | None = shared.parent
        except OSError:
            is_mine, beside = False, None
        if not is_mine:
            # Beside the others, where files can have a second name.
            passing = tempfile.TemporaryDirectory(prefix="acceptance-farm-", dir=beside)
            folder = Path(stack.enter_context(passing), "parts")
            folder.mkdir()
        kept = KeptParts(folder, shared if beside else None, hosts)
        kept.forget_old()
        yield kept
        shutil.rmtree(folder, ignore_errors=True)


def _part_from_bytes(content: bytes) -> Part:
    head, _, predictions = content.partition(b"\n")
    values = json_from_text(head)
    notes, subjects = tuple(values["notes"]), dict(values["subjects"])
    return Part(values["host"], predictions, notes, subjects, values["decoder"])
