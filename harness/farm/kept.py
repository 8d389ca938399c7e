"""Parts of an unfinished check that hosts have sent: a rerun asks only for the others."""

import contextlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from harness.farm.orders import Part
from harness.host.digests import digest_from_json
from harness.host.reading import ARRAY_BYTES, bytes_from_file, json_from_text
from harness.predict.journal import MAX_AGE_S
from harness.record.raw import write_atomically


class KeptParts:
    """A folder of the parts of one check.

    Args:
        cache: of the driver.
        key: everything that decides what the parts are.
    """

    def __init__(self, cache: Path, key: Mapping[str, object]) -> None:
        self._folder = cache / "farm" / digest_from_json(key)

    def parts(self, what: str) -> dict[int, Part]:
        """Return the parts by number; those older than a day do not count, since devices change."""
        found = {}
        for path in self._folder.glob(f"{what}-*.part"):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                if time.time() - path.stat().st_mtime < MAX_AGE_S:
                    number = int(path.stem.removeprefix(f"{what}-"))
                    found[number] = _part_from_bytes(bytes_from_file(path, ARRAY_BYTES))
        return found

    def keep(self, what: str, number: int, part: Part) -> None:
        """Keep a part; if that is impossible, a rerun asks for it again."""
        head = {"host": part.host, "notes": part.notes, "subjects": dict(part.subjects)}
        head["decoder"] = part.decoder
        content = json.dumps(head).encode() + b"\n" + part.predictions
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / f"{what}-{number}.part", content)

    def drop(self) -> None:
        """Forget all parts: the check is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _part_from_bytes(content: bytes) -> Part:
    head, _, predictions = content.partition(b"\n")
    values = json_from_text(head)
    notes, subjects = tuple(values["notes"]), dict(values["subjects"])
    return Part(values["host"], predictions, notes, subjects, values["decoder"])
