"""Faults of the clips' list, labels and class names; and of what both sides read from the clips."""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from harness.data import datasets, loading, streaming, transforms
from harness.data.sampling import frame_indices
from harness.data.transforms import tensor_from_crops
from harness.data.video import decode_frames
from harness.host.site import FIXTURES
from harness.selftest.faults import MODEL, VIEWED, Fault, Plant, fault_of_run
from harness.selftest.setting import Setting
from harness.spec import InputProtocol

Lines = list[str]
Frames = list[npt.NDArray[np.uint8]]
# What catches a fault of what both sides read, before anything is judged.
_INPUT = "invalid: inputs of {} from clip .* are not those of mmaction2: ({}):"


def other_list(change: Callable[[Lines], Lines], file: str = "labels.txt") -> Plant:
    """Return what changes the lines of a file of motion8; its clips stay."""

    @contextlib.contextmanager
    def plant(setting: Setting) -> Iterator[None]:
        folder = setting.folder / "fixtures" / "motion8"
        folder.mkdir(parents=True)
        for path in (FIXTURES / "motion8").iterdir():
            (folder / path.name).symlink_to(path)
        text = (folder / file).read_text(encoding="utf-8")
        (folder / file).unlink()
        (folder / file).write_text("\n".join(change(text.splitlines())) + "\n", encoding="utf-8")
        datasets.motion8.cache_clear()
        try:
            with patch.object(datasets, "FIXTURES", folder.parent):
                yield
        finally:
            datasets.motion8.cache_clear()

    return plant


@contextlib.contextmanager
def other_clip(setting: Setting) -> Iterator[None]:
    """Replace the content of one clip by that of another."""
    with other_list(lambda lines: lines)(setting):
        clips = setting.folder / "fixtures" / "motion8" / "clips"
        source = clips.resolve()
        clips.unlink()
        shutil.copytree(source, clips)
        first, second, *_ = sorted(clips.iterdir())
        shutil.copyfile(second, first)
        yield


def _relabelled(change: Callable[[int], int], count: int | None = None) -> Callable[[Lines], Lines]:
    """Return what changes the labels of the first lines, or of all."""

    def changed(line: str) -> str:
        path, _, label = line.rpartition(" ")
        return f"{path} {change(int(label))}"

    return lambda lines: [*map(changed, lines[:count]), *lines[len(lines[:count]) :]]


def _next_label(label: int) -> int:
    return (label + 1) % 8


def _labels_moved(lines: Lines) -> Lines:
    paths = [line.rpartition(" ")[0] for line in lines]
    labels = [line.rpartition(" ")[2] for line in lines]
    return [f"{path} {label}" for path, label in zip(paths, labels[1:] + labels[:1], strict=True)]


_DIGEST = "invalid: clip set motion8 is not the contract's"
_WRONG = "accuracy (fail: top-1|invalid)"
_OTHER_COUNT = "clips, the contract says 480"
_LISTS: tuple[tuple[str, str, Callable[[Lines], Lines]], ...] = (
    ("every label one higher", _WRONG, _relabelled(_next_label)),
    ("labels of the line below", _WRONG, _labels_moved),
    ("two classes swapped", _WRONG, _relabelled(lambda label: {0: 1, 1: 0}.get(label, label))),
    ("one wrong label", _DIGEST, _relabelled(_next_label, count=1)),
    ("a label out of range", "label 8 is out of range", _relabelled(lambda _: 8, count=1)),
    ("a clip twice", "is listed twice", lambda lines: [*lines, lines[0]]),
    ("a clip in the place of another", "is listed twice", lambda lines: [lines[1], *lines[1:]]),
    ("a clip missing", f"has 479 {_OTHER_COUNT}", lambda lines: lines[1:]),
    ("half the list", f"has 240 {_OTHER_COUNT}", lambda lines: lines[:240]),
    ("only the easy classes", _OTHER_COUNT, lambda lines: [one for one in lines if one[-1] < "4"]),
    ("an empty list", "lists no clips", lambda _: []),
    ("a clip that is not there", "no such file", lambda lines: ["clips/none.mp4 0", *lines[1:]]),
)


def both_sides(owner: object, name: str, value: object) -> Plant:
    """Return what changes how clips are read, for PyTorch and the device alike."""

    @contextlib.contextmanager
    def plant(setting: Setting) -> Iterator[None]:
        setting.without("crops", "reference-predictions", "reference-scores")
        with (
            patch.object(owner, name, value),
            patch.object(streaming, "usable_processors", lambda: 0),
        ):
            yield

    return plant


def _of_frames(change: Callable[[Frames], Frames]) -> Plant:
    return both_sides(
        loading, "decode_frames", lambda path, choose: change(decode_frames(path, choose))
    )


def _of_indices(change: Callable[[tuple[int, ...], int], Iterable[int]]) -> Plant:
    def changed(protocol: InputProtocol, count: int) -> tuple[int, ...]:
        return tuple(
            min(max(0, one), count - 1) for one in change(frame_indices(protocol, count), count)
        )

    return both_sides(loading, "frame_indices", changed)


def _interpolated(name: str) -> Plant:
    def resized(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        import cv2

        changed = cv2.resize(frame, size, interpolation=getattr(cv2, name))
        return np.asarray(changed, np.uint8)

    return both_sides(transforms, "_resized", resized)


def _corners(change: Callable[[int, int], tuple[int, int]]) -> Plant:
    corners = transforms._crop_corners

    def changed(size: tuple[int, int], protocol: InputProtocol) -> list[tuple[int, int]]:
        return [change(x, y) for x, y in corners(size, protocol)]

    return both_sides(transforms, "_crop_corners", changed)


def _of_tensors(change: Callable[[Any], Any]) -> Plant:
    def changed(crops: Any, protocol: InputProtocol, place: Any = None) -> Any:
        made = tensor_from_crops(crops, protocol, place)
        made[...] = change(made.copy())
        return made

    return both_sides(loading, "tensor_from_crops", changed)


def _each(change: Callable[[npt.NDArray[np.uint8]], npt.ArrayLike]) -> Callable[[Frames], Frames]:
    return lambda frames: [np.ascontiguousarray(change(frame), np.uint8) for frame in frames]


def _grey(frame: npt.NDArray[np.uint8]) -> npt.ArrayLike:
    return np.repeat(frame.mean(axis=2, keepdims=True), 3, axis=2)


def _reordered(*order: int) -> Callable[[tuple[int, ...], int], Iterable[int]]:
    return lambda chosen, _: [chosen[place] for place in order]


def _views(corners: list[int]) -> Callable[[Any], Any]:
    return lambda tensor: tensor[corners]


_INPUTS: tuple[tuple[str, str, Plant], ...] = (
    ("red and blue swapped", "colour", _of_frames(_each(lambda frame: frame[..., ::-1]))),
    ("grey", "decode", _of_frames(_each(_grey))),
    ("every pixel one higher", "decode", _of_frames(_each(lambda f: np.minimum(f, 254) + 1))),
    ("mirrored", "decode", _of_frames(_each(lambda frame: frame[:, ::-1]))),
    ("without mean and deviation", "normalise", _of_tensors(lambda t: t * 57.0 + 118.0)),
    ("another mean", "normalise", _of_tensors(lambda t: t - 0.2)),
    ("another deviation", "normalise", _of_tensors(lambda t: t * 1.1)),
    ("pixels from 0 to 1", "normalise", _of_tensors(lambda t: (t * 57.0 + 118.0) / 255.0)),
    ("frames one later", "indices", _of_indices(lambda chosen, _: [one + 1 for one in chosen])),
    ("frames reversed", "indices", _of_indices(lambda chosen, _: chosen[::-1])),
    ("adjacent frames", "indices", _of_indices(lambda _, n: range(n // 2 - 4, n // 2 + 4))),
    ("two frames swapped", "indices", _of_indices(_reordered(0, 1, 2, 4, 3, 5, 6, 7))),
    ("one frame dropped, one twice", "indices", _of_indices(_reordered(0, 1, 2, 3, 3, 5, 6, 7))),
    ("the middle frame eight times", "indices", _of_indices(lambda _, n: [n // 2] * 8)),
    ("two decoded frames swapped", "order", _of_frames(lambda f: [f[1], f[0], *f[2:]])),
    ("cropped one pixel to the side", "crop", _corners(lambda x, y: (x + 1, y))),
    ("cropped in the corner", "crop|resize", _corners(lambda x, y: (0, 0))),
)
# Clips of motion8 have the size that the other model reads, so it resizes nothing and has one view.
_OF_VIEWS: tuple[tuple[str, str, Plant], ...] = (
    ("the nearest pixel in place of bilinear", "resize", _interpolated("INTER_NEAREST")),
    ("bicubic in place of bilinear", "resize", _interpolated("INTER_CUBIC")),
    ("one view three times", "layout|normalise", _of_tensors(_views([0, 0, 0]))),
    ("views in another order", "layout|normalise", _of_tensors(_views([2, 0, 1]))),
)


def list_faults() -> Iterable[Fault]:
    """Return the faults of lists and labels, and of what both sides read."""
    for name, finding, change in _LISTS:
        yield fault_of_run("list", name, "accuracy", finding, other_list(change))
    plant = other_list(lambda names: names[:-1], "classes.txt")
    yield fault_of_run(
        "list", "one class name missing", "accuracy", "label 7 is out of range", plant
    )
    name = "the content of one clip replaced"
    yield fault_of_run("list", name, "accuracy", _DIGEST, other_clip)
    for model, table in ((MODEL, _INPUTS), (VIEWED, _OF_VIEWS)):
        for name, step, plant in table:
            finding = _INPUT.format(model, step)
            yield fault_of_run("input", name, "parity", finding, plant, model)
