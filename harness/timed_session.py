"""One timed session: a process that opens a device model, times it by three definitions and ends."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from harness import pytorch
from harness.data.loading import Unreadable, sample_from_clip
from harness.errors import ClipError
from harness.run import declared_output, feed_from_tensors
from harness.scores import crop_mean, scores_from_output
from harness.spec import Clip, Device, DeviceModel, Feed, LoopSettings, ModelSpec, Session
from harness.stages import keep_freed_memory
from harness.throughput import SessionTiming, interleaved, measure_session, session_timing

# A device repeats itself up to the rounding of sums in another order.
SAME_OUTPUT_RELATIVE = 1e-3
# Queries from clip to class take longest and vary least.
E2E_SHARE = 4


def time_session(
    device: Device,
    model: DeviceModel,
    clips: Sequence[Clip],
    settings: LoopSettings,
    beside_pytorch: tuple[Path | None] | None,
) -> SessionTiming:
    """Time one session; runs in a process of its own.

    Args:
        device: where it runs.
        model: what runs.
        clips: inputs, taken in turn.
        settings: how long each definition is timed.
        beside_pytorch: the checkpoint, to time PyTorch in turns with the device; None for not.

    Raises:
        RunError: the device failed.
        ClipError: a clip cannot be read.
        InvalidMeasurement: the clock is broken.
    """
    keep_freed_memory()
    spec, batch = model.onnx.spec, model.onnx.batch
    batches = _batches(spec, batch, clips)
    feed = next(batches)
    session = device.open(model)
    try:
        expected = session.run(feed)
        loop = session.loop(feed, settings)
        device_io_ms, pytorch_ms = loop.device_io_ms, tuple[float, ...]()
        if beside_pytorch is not None:
            query = _pytorch_query(spec, beside_pytorch[0], feed)
            block = min(settings.min_queries, 5)
            # The loop before has warmed the session.
            device_io_ms, pytorch_ms = interleaved(
                lambda: session.run(feed), query, settings, block_queries=block, is_a_warm=True
            )
        e2e_ms = measure_session(_e2e_query(session, spec, batch, batches), _fewer(settings))
    finally:
        session.close()
    is_same = _is_same(loop.output, expected)
    timing = session_timing(loop.device_ms, device_io_ms, e2e_ms, pytorch_ms, is_same)
    return timing.model_copy(update={"problems": loop.problems, "notes": loop.notes})


def _batches(spec: ModelSpec, batch: int, clips: Sequence[Clip]) -> Iterator[Feed]:
    """Decode batch after batch, for ever, one clip after the other as a serving host would."""
    forever = itertools.cycle(clips)
    while True:
        tensors = []
        for clip in itertools.islice(forever, batch):
            item = sample_from_clip(clip, spec.protocol)
            if isinstance(item, Unreadable):
                raise ClipError(f"timing needs clip {item.clip_id}: {item.reason}")
            tensors.append(item.tensor)
        yield feed_from_tensors(spec, batch, tensors)


def _e2e_query(
    session: Session, spec: ModelSpec, batch: int, batches: Iterator[Feed]
) -> Callable[[], object]:
    def query() -> object:
        output = declared_output(spec, batch, session.run(next(batches)))
        scores = scores_from_output(output, spec.softmax_in_graph)
        return crop_mean(scores.reshape(-1, spec.crop_count, spec.class_count)).argmax(axis=1)

    return query


def _pytorch_query(spec: ModelSpec, checkpoint: Path | None, feed: Feed) -> Callable[[], object]:
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = pytorch.torch_model_from_spec(spec, checkpoint)
    return lambda: pytorch.run_torch(model, spec, feed)


def _fewer(settings: LoopSettings) -> LoopSettings:
    return LoopSettings(
        warmup_queries=0,  # by then the session is warm
        min_queries=max(2, settings.min_queries // E2E_SHARE),
        min_seconds=settings.min_seconds / E2E_SHARE,
    )


def _is_same(actual: Feed | None, expected: Feed) -> bool | None:
    """Whether the timed queries computed what the device computes of the same input untimed."""
    if actual is None:
        return None
    if actual.keys() != expected.keys():
        return False
    return all(
        actual[name].shape == expected[name].shape
        and np.allclose(actual[name], expected[name], rtol=SAME_OUTPUT_RELATIVE, atol=1e-6)
        for name in expected
    )
