"""Session x samples -> scores by clip id, the next batches prepared while the device is at one."""

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from harness.clips import Sample
from harness.data.inputs import inputs_from_tensor
from harness.errors import RunError
from harness.host.progress import Counter
from harness.measure.scores import FLOAT32_SMALLEST_NORMAL, scores_from_output
from harness.spec import Feed, ModelSpec

# Takes batches and gives as many outputs in the same order.
Stream = Callable[[Iterable[Feed]], Iterable[Feed]]
Item = TypeVar("Item")

# Scores of quick batches are processed together: Python code that runs every 20 ms is slow,
# because the model evicts it from the processor's caches. A crash loses at most this much work.
GROUP_S = 0.5
# Batches prepared at once: waking a thread for each would cost the device more time.
AHEAD = 2


def stream_from_runner(run: Callable[[Feed], Feed]) -> Stream:
    """Return a stream that passes batch after batch to ``run``."""
    return lambda feeds: map(run, feeds)


def scored_batches(
    stream: Stream,
    spec: ModelSpec,
    batch: int,
    samples: Iterable[Sample],
    smallest: float = FLOAT32_SMALLEST_NORMAL,
    stop: Callable[[], None] = lambda: None,
) -> Generator[tuple[list[str], npt.NDArray[Any]], None, None]:
    """Yield clip ids and scores of batches, grouping those that arrive within ``GROUP_S``.

    The last batch is filled with copies of its first sample, whose results are dropped. ``smallest`` is the
    lowest probability that the device's precision can represent.

    A thread reads the samples. When the run ends early, ``stop`` ends them, so that the run
    does not wait for the clip in progress.

    Raises:
        RunError: the device failed, or its output is not as declared.
    """
    with contextlib.closing(_ahead(_batches(spec, batch, samples), stop)) as prepared:
        for group in _groups(_answers(stream, spec, batch, prepared)):
            clip_ids = [clip_id for names, _ in group for clip_id in names]
            outputs = np.concatenate([output for _, output in group])
            # Only the very last batch is ever padded.
            rows = outputs.reshape(-1, spec.crop_count, spec.class_count)[: len(clip_ids)]
            yield clip_ids, scores_from_output(rows, spec.softmax_in_graph, smallest)


def _answers(
    stream: Stream, spec: ModelSpec, batch: int, prepared: Iterable[tuple[list[str], Feed]]
) -> Iterator[tuple[list[str], npt.NDArray[Any]]]:
    """Pass batch after batch to the device; yield the clip ids and the output of each."""
    sent: deque[list[str]] = deque()
    done = 0

    def feeds() -> Iterator[Feed]:
        for names, feed in prepared:
            sent.append(names)
            yield feed

    given = feeds()
    for output in stream(given):
        if not sent:
            raise RunError(
                "the device gave more answers than it got batches, so their clips are unknown"
            )
        names = sent.popleft()
        yield names, declared_output(spec, batch, output)
        done += len(names)
    if sent:
        raise RunError(f"the device did not answer {len(sent)} of its batches")
    if next(given, None) is not None:
        raise RunError(f"the device stopped after {done} clips and did not run the others")


def _groups(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Yield the items of each ``GROUP_S`` together; before an error, those that precede it.

    The first is yielded immediately, so that a person sees progress.
    """
    group: list[Item] = []
    due_s = time.monotonic()
    try:
        for item in items:
            group.append(item)
            if time.monotonic() >= due_s:
                yield group
                group, due_s = [], time.monotonic() + GROUP_S
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def _batches(
    spec: ModelSpec, batch: int, samples: Iterable[Sample]
) -> Iterator[tuple[list[str], Feed]]:
    waiting = iter(samples)
    while part := list(itertools.islice(waiting, batch)):
        feed = feed_from_samples(spec, batch, part)
        yield [sample.clip_id for sample in part], feed


def _ahead(items: Iterator[Item], stop: Callable[[], None]) -> Generator[Item, None, None]:
    """Prepare the next ``AHEAD`` items in a thread while the device runs the previous ones."""
    # Plain queues: a future for each item costs three times as much.
    asked: SimpleQueue[bool] = SimpleQueue()
    ready: SimpleQueue[Item | None] = SimpleQueue()

    def prepare() -> None:
        while asked.get():
            for _ in range(AHEAD):
                ready.put(next(items, None))

    with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
        try:
            asked.put(True)
            preparing = pool.submit(prepare)
            # However the thread ends, nothing may wait for it.
            preparing.add_done_callback(lambda _: ready.put(None))
            for taken in itertools.count(1):
                item = ready.get()
                if item is None:
                    break
                if taken % AHEAD == 0:
                    asked.put(True)
                yield item
            asked.put(False)
            preparing.result()
        except BaseException:
            stop()
            raise
        finally:
            asked.put(False)


def run_tensors(
    stream: Stream,
    spec: ModelSpec,
    batch: int,
    tensors: Sequence[npt.NDArray[np.float32]],
    smallest: float = FLOAT32_SMALLEST_NORMAL,
    progress: Counter = lambda done: None,
) -> npt.NDArray[np.float64]:
    """Run single-sample tensors and return their scores [sample x crop, class] in float64.

    Raises:
        RunError: the device failed, or its output is not as declared.
    """
    samples = (Sample(str(number), tensor) for number, tensor in enumerate(tensors))
    rows, done = [np.empty((0, spec.class_count))], 0
    for names, scores in scored_batches(stream, spec, batch, samples, smallest):
        rows.append(scores.reshape(-1, spec.class_count))
        progress(done := done + len(names))
    return np.concatenate(rows, dtype=np.float64)


def feed_from_samples(spec: ModelSpec, batch: int, samples: Sequence[Sample]) -> Feed:
    """Join samples into one full batch, repeating the first if there are too few.

    If they already are the rows of a batch, in order, that batch is returned without a copy.
    """
    whole = None if samples[0].row is None else samples[0].row.batch
    if (
        whole is not None
        and len(spec.inputs) == 1
        and len(whole) == len(samples) == batch
        and all(
            sample.row is not None and sample.row.batch is whole and sample.row.index == index
            for index, sample in enumerate(samples)
        )
    ):
        (only,) = spec.batched_inputs(batch)
        return {only.name: whole.reshape(only.shape)}
    return feed_from_tensors(spec, batch, [sample.tensor for sample in samples])


def feed_from_tensors(
    spec: ModelSpec, batch: int, tensors: Sequence[npt.NDArray[np.float32]]
) -> Feed:
    """Stack single-sample tensors into one full batch, repeating the first if there are too few."""
    full = [*tensors, *[tensors[0]] * (batch - len(tensors))]
    fed = [inputs_from_tensor(spec, tensor) for tensor in full]
    return {one.name: np.concatenate([each[one.name] for each in fed]) for one in spec.inputs}


def declared_output(spec: ModelSpec, batch: int, outputs: Feed) -> npt.NDArray[Any]:
    """Return the output of one batch, which must exist in the declared shape.

    Reshaping an array of another shape into the declared one could mix up the numbers of different
    clips.

    Raises:
        RunError: it is missing or has a different shape.
    """
    name, shape = spec.output.name, spec.output.batched(batch).shape
    if name not in outputs:
        given = ", ".join(sorted(outputs)) or "nothing"
        raise RunError(
            f"the model has no output {name}, which {spec.name} declares: it gave {given}"
        )
    output = outputs[name]
    if output.shape != shape:
        raise RunError(
            f"the model gave {name} of shape {output.shape} for a batch of {batch}; {spec.name} "
            f"declares {shape}: wrong shape, so no clip can be scored"
        )
    return output
