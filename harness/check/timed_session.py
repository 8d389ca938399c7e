"""One timed session: a process that opens a device model, times it by three definitions and ends."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.check.host_timing import HostWatch, time_turns
from harness.check.sessions import is_same_output
from harness.clips import Clip, ClipSet, Predictions, Sample
from harness.data.loading import Unreadable, crops_from_clip, sample_from_clip
from harness.data.store import CropStore
from harness.data.transforms import Crops, batch_rows
from harness.device import Device, Session
from harness.errors import ClipError
from harness.host.child_process import keep_freed_memory
from harness.host.clocks import read_clocks
from harness.judge.limits import ParityLimits
from harness.measure.scores import FLOAT32_SMALLEST_NORMAL as SMALLEST
from harness.measure.scores import crop_mean, scores_from_output
from harness.measure.throughput import SessionTiming, session_timing
from harness.measure.timing import measure_session
from harness.predict.run import declared_output, feed_from_samples
from harness.spec import Averaging, DeviceModel, Feed, InputProtocol, ModelSpec
from harness.timings import LoopSettings

Scores = npt.NDArray[Any]

# Of queries and time, for what is not judged.
SHARE = 4


@dataclasses.dataclass(frozen=True)
class TimedClips:
    """Clips to time on, taken in turn, the set that they are from, and where it may be decoded."""

    clips: tuple[Clip, ...]
    clip_set: ClipSet
    store_root: Path


@dataclasses.dataclass(frozen=True)
class Expected:
    """The accuracy run's answers by clip id, scores [crop, class], and how close is equal.

    A timed answer may be as far from it as ``limits`` let a stage of the chain be: ``relative_l2``
    and ``max_abs_error``. ``smallest`` is the least probability that the device can represent.
    """

    scores: Mapping[str, Scores]
    limits: ParityLimits
    smallest: float

    def allows(self, clip_id: str, actual: Scores) -> bool:
        """Whether an answer is the expected one; one of another shape, or with NaN, is not."""
        expected = self.scores[clip_id].astype(np.float64)
        if actual.shape != expected.shape:
            return False
        error = actual - expected
        size = float(np.linalg.norm(expected))
        is_near = bool(np.abs(error).max() <= self.limits.max_abs_error)
        return is_near and float(np.linalg.norm(error)) <= self.limits.relative_l2 * size


def expected_answers(
    preds: Predictions | None, clips: Sequence[Clip], limits: ParityLimits, smallest: float
) -> Expected | None:
    """Return the accuracy run's answers for clips; None if it has not run."""
    if preds is None:
        return None
    rows = {name: row for row, name in enumerate(preds.clip_ids)}
    scores = {clip.id: preds.scores[rows[clip.id]] for clip in clips if clip.id in rows}
    return Expected(scores, limits, smallest)


class _Answers:
    """The latest timed scores [crop, class] of each clip."""

    def __init__(self, spec: ModelSpec, batch: int, smallest: float) -> None:
        self._spec = spec
        self._batch = batch
        self._smallest = smallest
        self.scores: dict[str, Scores] = {}

    def add(self, ids: Sequence[str], output: Feed) -> Scores:
        """Keep the scores of a batch and return them, [clip, crop, class]."""
        spec = self._spec
        declared = declared_output(spec, self._batch, output)
        scores = scores_from_output(declared, spec.softmax_in_graph, self._smallest)
        rows = scores.reshape(-1, spec.crop_count, spec.class_count)
        self.scores.update(zip(ids, rows, strict=True))
        return rows


def time_session(
    device: Device,
    model: DeviceModel,
    timed: TimedClips,
    settings: LoopSettings,
    exported: Path | None,
    expected: Expected | None = None,
) -> SessionTiming:
    """Time one session; runs in a process of its own.

    Args:
        device: where it runs.
        model: what runs.
        timed: inputs. One batch serves the device alone and with copies, and comes from the tensor
            store where it is; from clip to class, each is decoded from its file.
        settings: how long each definition is timed.
        exported: of a host, the exported graph, which is timed beside it without
            optimisation; None of a device with processors of its own.
        expected: the accuracy run's answers for the clips; None if it has not run.

    Raises:
        RunError: the device failed.
        ClipError: a clip cannot be read.
        InvalidMeasurement: the clock is broken.
    """
    keep_freed_memory()
    watch = HostWatch(read_clocks)
    spec, batch = model.onnx.spec, model.onnx.batch
    batches = _batches(spec, batch, timed)
    ids, feed = next(batches)
    answers = _Answers(spec, batch, SMALLEST if expected is None else expected.smallest)
    # A host is judged by the turns; what the wall clock says is shown, and need not take long.
    wall = settings if exported is None else _fewer(settings, settings.warmup_queries)
    session = device.open(model)
    try:
        untimed = session.run(feed) if exported is None else {}
        start = read_clocks()
        loop = session.loop(feed, wall)
        used = read_clocks().since(start)
        query = _e2e_query(session, answers, batches, model.onnx.spec.protocol.averaging)
        e2e_ms = measure_session(query, _fewer(settings, 0))
    finally:
        session.close()
    turns, host_use, last = None, None, loop.output
    if exported is not None:
        turns, query = time_turns(device, model, exported, feed, settings, read_clocks)
        untimed, last, host_use = query.first, query.last, watch.host_use(used)
    looks = [is_same_output(output, untimed) for output in (loop.output, last)]
    if loop.output is not None and all(looks):
        answers.add(ids, loop.output)
    timing = session_timing(loop.device_ms, loop.device_io_ms, e2e_ms, turns, _all_known(looks))
    timing = timing.model_copy(
        update={
            "host_use": host_use,
            "problems": (*loop.problems, *watch.problems()),
            "notes": tuple(filter(None, (*loop.notes, watch.note()))),
        }
    )
    return timing if expected is None else _held_against(timing, answers.scores, expected)


def _batches(
    spec: ModelSpec, batch: int, timed: TimedClips
) -> Iterator[tuple[tuple[str, ...], Feed]]:
    """Yield batches for ever; all but the first are decoded, clip after clip as a host serves."""
    store = CropStore(timed.store_root, spec.protocol, timed.clip_set)

    def stored(clip: Clip, protocol: InputProtocol) -> Crops:
        crops = store.read(clip)
        return crops_from_clip(clip, protocol) if crops is None else crops

    forever, rows = itertools.cycle(timed.clips), batch_rows(spec.protocol, batch)
    for read in itertools.chain([stored], itertools.repeat(crops_from_clip)):
        taken: list[Sample] = []
        for clip, row in zip(itertools.islice(forever, batch), rows, strict=False):
            item = sample_from_clip(clip, spec.protocol, read, row)
            if isinstance(item, Unreadable):
                raise ClipError(f"timing needs clip {item.clip_id}: {item.reason}")
            taken.append(item)
        ids = tuple(sample.clip_id for sample in taken)
        yield ids, feed_from_samples(spec, batch, taken)


def _e2e_query(
    session: Session,
    answers: _Answers,
    batches: Iterator[tuple[tuple[str, ...], Feed]],
    averaging: Averaging,
) -> Callable[[], object]:
    def query() -> object:
        ids, feed = next(batches)
        return crop_mean(answers.add(ids, session.run(feed)), averaging).argmax(axis=1)

    return query


def _held_against(
    timing: SessionTiming, scores: Mapping[str, Scores], expected: Expected
) -> SessionTiming:
    """Say of which clips the timed answers are not those of the accuracy run."""
    common = sorted(scores.keys() & expected.scores.keys())
    differing = tuple(name for name in common if not expected.allows(name, scores[name]))
    looks = [timing.is_output_same, not differing if common else None]
    return timing.model_copy(
        update={
            "is_output_same": _all_known(looks),
            "clips_compared": len(common),
            "differing_clips": differing,
        }
    )


def _all_known(looks: Sequence[bool | None]) -> bool | None:
    known = [look for look in looks if look is not None]
    return all(known) if known else None


def _fewer(settings: LoopSettings, warmup_queries: int) -> LoopSettings:
    return LoopSettings(
        warmup_queries=warmup_queries,
        min_queries=max(1, settings.min_queries // SHARE),
        min_seconds=settings.min_seconds / SHARE,
    )
