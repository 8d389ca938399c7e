"""Clips in, samples out, through the tensor store: worker processes decode ahead of the device.

Clips in the store are read; the others are decoded by worker processes, which write their records
into the store themselves, so no tensor is pickled. One process fills a store at a time; others
follow it clip by clip and take over when it ends. At most a few clips are in flight.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from harness.clips import Clip, Row, Sample
from harness.data.loading import Unreadable, crops_from_clip, sample_from_crops
from harness.data.store import CropStore, Place
from harness.data.transforms import Crops, batch_rows
from harness.errors import ClipError, DecodeError
from harness.host.child_process import follow_parent
from harness.spec import InputProtocol

_LOG = logging.getLogger(__name__)
POLL_S = 0.05
LOADERS = 2
# Clips in flight per worker: one being decoded, one waiting to be taken.
QUEUE_PER_WORKER = 2

Item = Sample | Unreadable
# The result for a decoded clip: its checksum, or why there is none.
Outcome = tuple[str, str]


def stored_samples(
    store: CropStore,
    clips: Sequence[Clip],
    workers: int | None = None,
    batch: int = 1,
    stopped: threading.Event | None = None,
) -> Generator[Item, None, None]:
    """Yield one item per clip, in order.

    The tensors of a batch are the rows of one array, so that ``feed_from_samples`` need not copy.

    Args:
        store: store of the clip set that the clips belong to.
        clips: the clips wanted, in order.
        workers: number of decoding processes; by default one per processor. With 0, threads of
            this process decode, which is quicker for a few clips: no process must start.
        batch: clips that the device takes at once. As many are prepared beyond those that the
            workers decode, so that the device need not wait for its next batch.
        stopped: setting it, from any thread, ends the items.

    Raises:
        DecodeError: a worker process died, or a decoder hangs.
        ArtifactError: the store cannot be written.
    """
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(contextlib.ExitStack())
        loader = _Loader(store, held, stopped or threading.Event())
        decode = _Decoder(store, usable_processors() if workers is None else workers)
        stack.callback(decode.close)
        pool = ThreadPoolExecutor(LOADERS, thread_name_prefix="load")
        stack.callback(pool.shutdown, cancel_futures=True)
        stack.callback(loader.stopped.set)
        window = decode.workers * QUEUE_PER_WORKER + LOADERS + batch
        pending: deque[tuple[Clip, Future[Item]]] = deque()
        rows = batch_rows(store.protocol, batch)
        for clip, row in zip(clips, rows, strict=False):
            if loader.stopped.is_set():
                return
            with _explained(pending):
                # A process that follows another decodes nothing until that one is gone.
                is_ours = decode.workers > 0 and loader.is_writer and store.lacks(clip)
                outcome = decode.submit(clip) if is_ours else None
                pending.append((clip, pool.submit(loader.load, clip, row, outcome)))
            if len(pending) >= window:
                yield _next_item(pending)
        while pending:
            yield _next_item(pending)


def usable_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def _next_item(pending: deque[tuple[Clip, Future[Item]]]) -> Item:
    """Wait for the first clip in flight, and take it out."""
    with _explained(pending):
        item = pending[0][1].result()
    pending.popleft()
    return item


@contextlib.contextmanager
def _explained(pending: Iterable[tuple[Clip, object]]) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        names = ", ".join(clip.id for clip, _ in pending)
        raise DecodeError(
            "a decoding process died, most likely from lack of memory or because of a clip "
            f"that crashes the decoder; in flight were {names}; what was decoded is kept, so "
            "run again, with fewer workers or without the clip"
        ) from error


def _may_fill(store: CropStore, held: contextlib.ExitStack) -> bool:
    store.is_writable = True
    try:
        return held.enter_context(store.filling())
    except OSError as error:
        # Existing records also serve from a read-only disk.
        _LOG.warning("decoded clips are not kept: %s", error)
        store.is_writable = False
        return False


class _Decoder:
    """Processes that decode clips into the store; they start at the first missing clip."""

    def __init__(self, store: CropStore, workers: int) -> None:
        self.workers = workers
        self._store = store
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, clip: Clip) -> Future[Outcome]:
        """Have a process decode a clip."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, initializer=_start_worker)
        return self._pool.submit(decode_into, self._store.place(clip), clip, self._store.protocol)

    def close(self) -> None:
        """End the processes once they finish their current clips."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class _Loader:
    """Takes clips from the store, in threads, waiting until they are decoded."""

    def __init__(
        self, store: CropStore, held: contextlib.ExitStack, stopped: threading.Event
    ) -> None:
        self.stopped = stopped
        self.is_writer = _may_fill(store, held)
        self._store = store
        self._held = held
        self._guard = threading.Lock()

    def load(self, clip: Clip, row: Row, outcome: Future[Outcome] | None) -> Item:
        """Return a clip as the model's input, written to ``row``, or why there is none."""
        if outcome is not None:
            self._store.commit(clip, *outcome.result())
        crops = self._crops(clip)
        if isinstance(crops, Unreadable):
            return crops
        return sample_from_crops(clip.id, crops, self._store.protocol, row)

    def _crops(self, clip: Clip) -> Crops | Unreadable:
        while not self.stopped.is_set():
            entry = self._store.entry(clip)
            if entry is not None and entry.unreadable:
                return Unreadable(clip.id, entry.unreadable)
            crops = self._store.read(clip)
            if crops is not None:
                return crops
            if entry is not None:
                _LOG.warning("the record of clip %s is damaged; it is decoded again", clip.id)
            if entry is not None or self._may_decode():
                return self._decoded_here(clip)
            self.stopped.wait(POLL_S)
        return Unreadable(clip.id, "the stream was closed")

    def _may_decode(self) -> bool:
        """Whether no other process will: the store is ours, became ours, or cannot be written."""
        with self._guard:
            if not self.is_writer and self._store.is_writable:
                self.is_writer = _may_fill(self._store, self._held)
            return self.is_writer or not self._store.is_writable

    def _decoded_here(self, clip: Clip) -> Crops | Unreadable:
        try:
            crops = crops_from_clip(clip, self._store.protocol)
        except ClipError as error:
            return Unreadable(clip.id, str(error))
        if self.is_writer:
            self._store.commit(clip, self._store.place(clip).write(crops))
        return crops


def decode_into(place: Place, clip: Clip, protocol: InputProtocol) -> Outcome:
    """Decode a clip and write its record; runs in a worker process."""
    try:
        crops = crops_from_clip(clip, protocol)
    except ClipError as error:
        return "", str(error)
    return place.write(crops), ""


def _start_worker() -> None:
    import cv2

    # Ctrl-C reaches the whole process group: the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_parent()
    # One processor per worker.
    cv2.setNumThreads(1)
