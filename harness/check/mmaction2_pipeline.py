"""An input protocol compared with mmaction2's own test pipeline, on made-up frames."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.build.mmaction_inputs import hooked, mmaction2_pipelines
from harness.data.sampling import frame_indices
from harness.data.transforms import Frame, crops_from_frames, tensor_from_crops
from harness.errors import HarnessError
from harness.spec import InputProtocol
from harness.zoo.config import Config
from harness.zoo.protocol import CROPS, SAMPLERS

PIXEL_STEPS = ("Resize", *CROPS, "Normalize", "FormatShape")
# Shorter and longer than any protocol needs, and lengths at which rounding shows.
FRAME_COUNTS = (1, 2, 5, 13, 37, 64, 100, 129, 250, 299, 300, 1791)
TENSOR_FRAMES = 13
SIZE = (340, 256)


def protocol_problems(
    config: Config, protocol: InputProtocol, sizes: Sequence[tuple[int, int]] = (SIZE,)
) -> list[str]:
    """Return where a protocol gives other frames or pixels than mmaction2's test pipeline; empty if nowhere.

    ``sizes`` are the width and height of the frames. How clips are decoded is not compared.
    """
    with mmaction2_pipelines():
        from mmaction.datasets.pipelines import Compose

        problems = list(_index_problems(Compose, config, protocol))
        for size in sizes:
            problems += _pixel_problems(Compose, config, protocol, size)
    return problems


def _steps(config: Config, names: Sequence[str]) -> list[dict[str, Any]]:
    steps = config.part("data", "test", "pipeline")
    return [dict(step) for step in steps if step["type"] in names]


def _index_problems(compose: Any, config: Config, protocol: InputProtocol) -> Iterator[str]:
    sample = compose(_steps(config, SAMPLERS))
    for count in FRAME_COUNTS:
        given = sample({"total_frames": count, "start_index": 0})["frame_inds"]
        # mmaction2 takes each clip once where a video is too short for ``twice``.
        expected = tuple(np.resize(given, protocol.frames_per_crop).tolist())
        if frame_indices(protocol, count) != expected or protocol.frames_per_crop % len(given):
            yield f"of {count} frames, mmaction2 samples {_shown(expected)}, and this suite samples others"


def _pixel_problems(
    compose: Any, config: Config, protocol: InputProtocol, size: tuple[int, int]
) -> Iterator[str]:
    frames = _made_frames(TENSOR_FRAMES, size)
    sample = compose(_steps(config, SAMPLERS))({"total_frames": len(frames), "start_index": 0})
    shape = size[::-1]
    given = {
        "imgs": [frames[index] for index in sample["frame_inds"]],
        "img_shape": shape,
        "original_shape": shape,
        "modality": "RGB",
        "num_clips": sample["num_clips"],
        "clip_len": sample["clip_len"],
    }
    try:
        ours = _own_tensor(frames, protocol)
    except HarnessError as error:
        yield f"frames of {size[0]} x {size[1]} are refused: {error}"
        return
    expected = hooked(config, compose(_steps(config, PIXEL_STEPS))(given)["imgs"])
    if ours.shape != expected.shape:
        yield f"mmaction2 gives {expected.shape}, this suite {ours.shape}"
    elif not np.array_equal(ours, expected):
        worst = float(np.abs(ours - expected).max())
        yield f"pixels of {size[0]} x {size[1]} differ from mmaction2's by up to {worst:.3g}"


def _own_tensor(frames: Sequence[Frame], protocol: InputProtocol) -> npt.NDArray[np.float32]:
    chosen = [frames[index] for index in frame_indices(protocol, len(frames))]
    return tensor_from_crops(crops_from_frames(chosen, protocol), protocol)


def _made_frames(count: int, size: tuple[int, int]) -> list[Frame]:
    """Return frames of a texture that moves."""
    width, height = size
    scene = np.random.default_rng(0).integers(0, 256, (height, width + count, 3), dtype=np.uint8)
    return [np.ascontiguousarray(scene[:, step : step + width]) for step in range(count)]


def _shown(indices: Sequence[int]) -> str:
    return f"{', '.join(map(str, indices[:8]))}{', …' if len(indices) > 8 else ''}"
