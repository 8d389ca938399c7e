"""Predictions that survive a kill: all but the last half second of them are on disk.

A journal holds a record of fixed size for each clip: its slot among the sorted ids, a checksum and
its scores. A half-written or damaged record does not count. A journal belongs to one device model
and one clip set, and is removed once the predictions are complete: the next night measures again.
"""

import contextlib
import dataclasses
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.clips import Clip, Predictions, Sample
from harness.data.loading import Source, Unreadable
from harness.errors import RunError
from harness.host.digests import digest_from_json
from harness.host.locks import try_hold
from harness.host.progress import Counter
from harness.host.reading import ARRAY_BYTES, bytes_from_file
from harness.measure.scores import FLOAT32_SMALLEST_NORMAL
from harness.predict.run import Stream, scored_batches
from harness.spec import ModelSpec

# Yesterday's scores are not resumed: the device may have changed since.
MAX_AGE_S = 86400.0


class Journal:
    """The scores of the finished clips."""

    def __init__(self, path: Path, spec: ModelSpec, clips: Sequence[Clip]) -> None:
        self.path = path
        self._ids = sorted(clip.id for clip in clips)
        self._slots = {clip_id: slot for slot, clip_id in enumerate(self._ids)}
        shape = (spec.crop_count, spec.class_count)
        self._record = np.dtype([("slot", "<i4"), ("crc", "<u4"), ("scores", "<f4", shape)])

    def scores(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the scores [crop, class] by clip id."""
        return {
            self._ids[row["slot"]]: row["scores"]
            for row in self._rows()
            if 0 <= row["slot"] < len(self._ids) and row["crc"] == _crc(row["scores"])
        }

    def append(self, clip_ids: Sequence[str], scores: npt.NDArray[np.float32]) -> None:
        """Add some clips; once this returns, they survive the death of this process."""
        rows = np.zeros(len(clip_ids), self._record)
        rows["slot"] = [self._slots[clip_id] for clip_id in clip_ids]
        rows["scores"] = scores
        rows["crc"] = [_crc(row) for row in rows["scores"]]
        try:
            with self.path.open("ab") as file:
                file.write(rows.tobytes())
        except OSError as error:
            raise RunError(
                f"cannot keep predictions in {self.path}: {error.strerror}; make room, or set "
                "another cache as cache_dir in site.toml; what was predicted is kept"
            ) from error

    def count(self) -> int:
        """Return the number of records, complete or damaged: a quick look from outside."""
        with contextlib.suppress(OSError):  # its owner may remove it at any moment
            return self.path.stat().st_size // self._record.itemsize
        return 0

    def cut(self) -> None:
        """Cut the half-written record of a killed process; drop records that are too old."""
        if not self.path.exists():
            return
        status = self.path.stat()
        is_old = time.time() - status.st_mtime > MAX_AGE_S
        size_bytes = 0 if is_old else status.st_size - status.st_size % self._record.itemsize
        with self.path.open("ab") as file:
            file.truncate(size_bytes)

    def _rows(self) -> npt.NDArray[np.void]:
        if not self.path.exists():
            return np.zeros(0, self._record)
        try:
            data = bytes_from_file(self.path, ARRAY_BYTES)
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {error.strerror}; remove it") from error
        return np.frombuffer(data, self._record, count=len(data) // self._record.itemsize)


def journal_path(folder: Path, key: Mapping[str, object], clips: Sequence[Clip]) -> Path:
    """Return the path of the journal for ``key``."""
    ids = sorted(clip.id for clip in clips)
    return folder / f"{digest_from_json({**key, 'ids': ids})}.scores"


@contextlib.contextmanager
def journal_at(
    folder: Path, key: Mapping[str, object], spec: ModelSpec, clips: Sequence[Clip]
) -> Iterator[Journal]:
    """Yield the journal for ``key``; it is removed when the block succeeds.

    If the folder is not writable, or another process works on the same predictions, the journal is
    temporary.
    """
    path = journal_path(folder, key, clips)
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_mine = stack.enter_context(try_hold(path.with_name(path.name + ".lock")))
        except OSError:
            is_mine = False
        if not is_mine:
            passing = stack.enter_context(tempfile.TemporaryDirectory(prefix="predictions-"))
            path = Path(passing) / path.name
        journal = Journal(path, spec, clips)
        journal.cut()
        yield journal
        path.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class Work:
    """The clips, the function that turns them into samples, and the journal for their scores.

    ``stop`` makes the samples end early.
    """

    clips: Sequence[Clip]
    samples: Source
    journal: Journal
    stop: Callable[[], None] = lambda: None


def predict_resumed(
    stream: Stream,
    spec: ModelSpec,
    batch: int,
    work: Work,
    progress: Counter = lambda done: None,
    smallest: float = FLOAT32_SMALLEST_NORMAL,
) -> Predictions:
    """Run every clip that the journal lacks, and return the scores of all.

    Raises:
        RunError: the device failed, or its output is not as declared.
    """
    known = work.journal.scores().keys()
    left = [clip for clip in work.clips if clip.id not in known]
    done = len(work.clips) - len(left)
    unreadable: dict[str, str] = {}
    with contextlib.closing(work.samples(left)) as items:
        samples = _readable(items, unreadable)
        # The run closes before the items do: a thread may be using them.
        scored = scored_batches(stream, spec, batch, samples, smallest, work.stop)
        with contextlib.closing(scored) as batches:
            for names, scores in batches:
                work.journal.append(names, scores)
                done += len(names)
                progress(done + len(unreadable))
    return _predictions(work, unreadable, spec)


def _readable(items: Iterable[Sample | Unreadable], unreadable: dict[str, str]) -> Iterator[Sample]:
    """Yield the samples; record unreadable clips by id."""
    for item in items:
        if isinstance(item, Unreadable):
            unreadable[item.clip_id] = item.reason
        else:
            yield item


def _predictions(work: Work, unreadable: dict[str, str], spec: ModelSpec) -> Predictions:
    scores = work.journal.scores()
    ids = tuple(clip.id for clip in work.clips if clip.id in scores)
    table = np.empty((len(ids), spec.crop_count, spec.class_count), np.float32)
    for row, clip_id in enumerate(ids):
        table[row] = scores[clip_id]
    return Predictions(ids, table, unreadable, spec.protocol.averaging)


def _crc(scores: npt.NDArray[np.float32]) -> int:
    return zlib.crc32(np.ascontiguousarray(scores).tobytes())
