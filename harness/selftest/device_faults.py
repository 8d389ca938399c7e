"""Faults of the device: what it answers, and what it makes of its input."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np

from harness.build.workbench import Workbench
from harness.check import repeats
from harness.device import Device
from harness.predict.run import run_tensors
from harness.selftest.faults import VIEWED, Fault, Plant, fault_of_run
from harness.selftest.setting import Setting
from harness.spec import Check, Feed, ModelSpec
from harness.testing import Change, FaultyDevice, unchanged

Rows = Any
ChangeRows = Callable[[Rows], Rows]
DEVICE = "simplified_to_device"


def always(change: ChangeRows) -> Callable[[], Change]:
    """Return what makes a fault, which changes the rows of every batch."""

    def changed(feed: Feed) -> Feed:
        return {name: np.ascontiguousarray(change(rows), np.float32) for name, rows in feed.items()}

    return lambda: changed


def _from(number: int, change: ChangeRows, last: float = math.inf) -> Callable[[], Change]:
    """Return what changes the batches of a session from a number on, or to a last one; 0 is the first."""

    def make() -> Change:
        fault, numbers = always(change)(), itertools.count()
        return lambda feed: fault(feed) if number <= next(numbers) <= last else feed

    return make


def _once(number: int, change: ChangeRows) -> Callable[[], Change]:
    return _from(number, change, last=number)


def _earlier(*, is_first: bool = False) -> Callable[[], Change]:
    """Return what answers with the previous output, or always with the first."""

    def make() -> Change:
        kept: list[Feed] = []

        def change(feed: Feed) -> Feed:
            kept.append(feed)
            return kept[0] if is_first else kept[max(0, len(kept) - 2)]

        return change

    return make


def _noise() -> Change:
    """Scale every number by fresh noise of 1 %."""
    rng = np.random.default_rng(1)
    return always(lambda rows: rows * rng.normal(1.0, 0.01, rows.shape))()


def faulty_device(
    make_fault: Callable[[], Change] = unchanged, make_feed_fault: Callable[[], Change] = unchanged
) -> Plant:
    """Return what puts a faulty device in place of the tested one."""
    return on_device(lambda device: FaultyDevice(device, make_fault, make_feed_fault))


def on_device(change: Callable[[Device], Device]) -> Plant:
    """Return what changes the tested device."""
    find = Workbench.device

    @contextlib.contextmanager
    def plant(setting: Setting) -> Iterator[None]:
        def found(bench: Workbench, name: str) -> Device:
            device = find(bench, name)
            return change(device) if name == setting.device else device

        with patch.object(Workbench, "device", found):
            yield

    return plant


def _swap(*order: int) -> ChangeRows:
    return lambda rows: rows[[*order, *range(len(order), len(rows))]]


def _classes(first: int, second: int) -> ChangeRows:
    def change(rows: Rows) -> Rows:
        swapped = rows.copy()
        swapped[:, [first, second]] = rows[:, [second, first]]
        return swapped

    return change


def _value(value: float) -> ChangeRows:
    def change(rows: Rows) -> Rows:
        spoilt = rows.copy()
        spoilt[0, 0] = value
        return spoilt

    return change


def _half_batch(rows: Rows) -> Rows:
    return np.concatenate([rows[: len(rows) // 2]] * 2)


def _sharpened(rows: Rows) -> Rows:
    return rows**2 / (rows**2).sum(axis=1, keepdims=True)


def _softmax(rows: Rows) -> Rows:
    powers = np.exp(rows)
    return powers / powers.sum(axis=1, keepdims=True)


def _brain_floats(rows: Rows) -> Rows:
    return (np.ascontiguousarray(rows, np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def _mean_of_batch(rows: Rows) -> Rows:
    return np.broadcast_to(rows.mean(axis=0), rows.shape)


_WRONG = "of every clip|top-1"
# What a device answers: the check, what it must say, and the fault.
_ANSWERS: tuple[tuple[str, Check, str, Callable[[], Change]], ...] = (
    ("noise on every score", "parity", DEVICE, _noise),
    ("noise on every score of a long run", "accuracy", "abs error of every clip", _noise),
    ("scores 1 % too large", "parity", DEVICE, always(lambda r: r * np.float32(1.01))),
    ("two rows of a batch swapped", "parity", DEVICE, always(_swap(1, 0))),
    ("two rows of a batch swapped in a long run", "accuracy", "top-1 is", always(_swap(1, 0))),
    ("all rows of a batch reversed", "accuracy", "top-1 is", always(lambda rows: rows[::-1])),
    ("every class the next one", "accuracy", "top-1 is", always(lambda r: np.roll(r, 1, axis=1))),
    ("two classes swapped", "accuracy", "top-1 is", always(_classes(2, 3))),
    ("half a batch computed, twice", "parity", DEVICE, always(_half_batch)),
    ("half a batch computed in a long run", "accuracy", "top-1 is", always(_half_batch)),
    ("the mean of a batch for every clip", "accuracy", "top-1 is", always(_mean_of_batch)),
    ("the answer of the batch before", "parity", DEVICE, _earlier()),
    ("the answer of the batch before in a long run", "accuracy", "top-1 is", _earlier()),
    ("the first answer for ever", "accuracy", "top-1 is|constant output", _earlier(is_first=True)),
    ("one batch swapped late, once", "accuracy", "of every clip", _once(100, _swap(1, 0))),
    ("one clip answered as its neighbour", "accuracy", "of every clip", _once(90, _swap(0, 0))),
    ("one clip with two classes swapped", "accuracy", "of every clip", _once(110, _classes(0, 1))),
    ("everything wrong late in the run", "accuracy", _WRONG, _from(105, _swap(1, 0))),
    ("NaN in every batch", "parity", "non-finite output", always(_value(np.nan))),
    ("NaN in the last batch", "accuracy", "non-finite output", _once(119, _value(np.nan))),
    ("infinity in every batch", "parity", "non-finite output", always(_value(np.inf))),
    ("a negative probability", "parity", "non-finite output", always(_value(-0.1))),
    ("all classes alike", "parity", "constant output", always(lambda rows: rows * 0 + 0.125)),
    ("all zeros", "accuracy", "constant|non-finite", always(lambda rows: rows * 0)),
    ("zeros for one batch", "accuracy", "of every clip|non-finite", _once(60, lambda r: r * 0)),
    ("softmax applied twice", "parity", DEVICE, always(_softmax)),
    ("probabilities sharpened, the order kept", "parity", DEVICE, always(_sharpened)),
    ("only the best class", "parity", DEVICE, always(lambda r: r == r.max(axis=1, keepdims=True))),
    ("scores in 7 bits", "parity", DEVICE, always(lambda r: np.round(r * 2**7) / 2**7)),
    ("scores cut to bfloat16", "parity", DEVICE, always(_brain_floats)),
    ("one class missing", "parity", "wrong shape", always(lambda rows: rows[:, :-1])),
    ("one clip missing", "accuracy", "wrong shape", always(lambda rows: rows[:-1])),
    ("classes by clips", "accuracy", "wrong shape|top-1", always(lambda rows: rows.T)),
)


def _frames_of(rows: Rows) -> Rows:
    """Return a batch of ``nonlocal_tiny`` as clip, frame, channel, row and column."""
    return rows.reshape(len(rows), 8, 3, *rows.shape[-2:])


def _by_frames(change: ChangeRows) -> Callable[[], Change]:
    return always(lambda rows: change(_frames_of(rows)).reshape(rows.shape))


def _shifted(rows: Rows) -> Rows:
    return np.roll(rows, 1, axis=-1)


# In the numbers of the protocol: a step of one in the pixels, and another mean.
_PIXEL, _MEAN_OFF = 1 / 57.0, 5 / 57.0

# What a device makes of its input, where it prepares that itself, as AIPP on a chip does.
_FEEDS: tuple[tuple[str, Callable[[], Change]], ...] = (
    ("red and blue swapped", _by_frames(lambda clips: clips[:, :, ::-1])),
    ("another mean", always(lambda rows: rows - _MEAN_OFF)),
    ("another standard deviation", always(lambda rows: rows * 1.02)),
    ("neither mean nor deviation", always(lambda rows: rows * 57.0 + 118.0)),
    ("every pixel one higher", always(lambda rows: rows + _PIXEL)),
    ("a crop one pixel to the side", always(_shifted)),
    ("mirrored", always(lambda rows: rows[..., ::-1])),
    ("upside down", always(lambda rows: rows[..., ::-1, :])),
    ("every frame one later", _by_frames(lambda clips: np.roll(clips, -1, axis=1))),
    ("frames reversed", _by_frames(lambda clips: clips[:, ::-1])),
    ("two frames swapped", _by_frames(lambda clips: clips[:, [0, 1, 2, 4, 3, 5, 6, 7]])),
    ("one frame twice", _by_frames(lambda clips: clips[:, [0, 1, 2, 3, 3, 5, 6, 7]])),
    ("the middle frame eight times", _by_frames(lambda clips: clips[:, [4] * 8])),
    ("pixels in 16 steps", always(lambda rows: np.round(rows * 4) / 4)),
    ("cut to half precision and back", always(lambda rows: rows.astype(np.float16) + 0.01)),
    ("the clip before in the batch", always(lambda rows: np.roll(rows, 1, axis=0))),
)


def _view_of_neighbour(rows: Rows) -> Rows:
    changed = rows.copy()
    changed[:, 1] = np.roll(rows[:, 1], 1, axis=0)
    return changed


# A row is a clip and holds its views. Their order does not count: the model takes their mean.
_OF_VIEWS: tuple[tuple[str, ChangeRows], ...] = (
    ("one view three times", lambda rows: rows[:, [0, 0, 0]]),
    ("one view of the clip before", _view_of_neighbour),
)


@contextlib.contextmanager
def _padding_counted(setting: Setting) -> Iterator[None]:
    """End the inputs in the middle of a batch, and count the clips that fill it as answers."""
    setting.contract = setting.contract.replace("{ default = 64 }", "{ default = 62 }")

    def padded(stream: Any, spec: ModelSpec, batch: int, tensors: Any, *rest: Any) -> Any:
        filling = [tensors[0]] * (-len(tensors) % batch)
        return run_tensors(stream, spec, batch, [*tensors, *filling], *rest)

    with patch.object(repeats, "run_tensors", padded):
        yield


def device_faults() -> Iterable[Fault]:
    """Return the faults of a device's answers and of what it does to its input."""
    for name, check, finding, make in _ANSWERS:
        yield fault_of_run("device", name, check, finding, faulty_device(make))
    for name, make in _FEEDS:
        yield fault_of_run(
            "device input", name, "parity", DEVICE, faulty_device(make_feed_fault=make)
        )
    for name, change in _OF_VIEWS:
        plant = faulty_device(make_feed_fault=always(change))
        yield fault_of_run("device input", name, "parity", DEVICE, plant, VIEWED)
    name = "clips that fill a batch counted"
    yield fault_of_run("device", name, "parity", "wrong shape", _padding_counted)
