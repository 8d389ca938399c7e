"""Clips made on purpose, and mmaction2's own pipelines as the oracle."""

import importlib.util
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from harness.data.transforms import Frame
from harness.spec import InputProtocol

NMS_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@pytest.fixture(scope="session")
def nonlocal_protocol() -> InputProtocol:
    return InputProtocol(
        sampling="uniform",
        frame_count=8,
        frame_interval=1,
        short_side=256,
        crop_size=224,
        crop_count=1,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        layout="TCHW",
    )


@pytest.fixture(scope="session")
def timesformer_protocol() -> InputProtocol:
    return InputProtocol(
        sampling="strided",
        frame_count=8,
        frame_interval=32,
        short_side=224,
        crop_size=224,
        crop_count=3,
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        layout="MCTHW",
        source="rawframes",
        rawframe_short_side=320,
    )


@pytest.fixture(scope="session")
def make_frames() -> Callable[..., list[Frame]]:
    """A texture that slides: every frame and every pixel row differs."""

    def make(count: int, width: int = 128, height: int = 96, seed: int = 0) -> list[Frame]:
        cells = (height // 8 + 2, width // 8 + 2, 3)
        noise = np.random.default_rng(seed).integers(0, 256, cells, dtype=np.uint8)
        scene = cv2.resize(noise, (width + 40, height + 20), interpolation=cv2.INTER_CUBIC)
        corners = ((2 * index % 40, index % 20) for index in range(count))
        return [np.ascontiguousarray(scene[y : y + height, x : x + width]) for x, y in corners]

    return make


@pytest.fixture(scope="session")
def write_clip(make_frames: Callable[..., list[Frame]]) -> Callable[..., Path]:
    """Encode ``count`` frames into a file; the extension chooses the container."""
    import av

    def write(
        path: Path,
        count: int,
        size: tuple[int, int] = (128, 96),
        pixels: str = "yuv420p",
        codec: str = "h264",
        **options: str,
    ) -> Path:
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height = size
            stream.pix_fmt = pixels
            for frame in make_frames(count, *size):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(
    scope="session",
    params=["b_frames", "no_b_frames", "odd", "portrait", "one", "five", "kinetics", "mkv", "avi"],
)
def clip_path(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    write_clip: Callable[..., Path],
) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    makers: dict[str, Callable[[], Path]] = {
        "b_frames": lambda: write_clip(folder / "b.mp4", 60, bf="3", g="12"),
        "no_b_frames": lambda: write_clip(folder / "ip.mp4", 40, bf="0"),
        "odd": lambda: write_clip(folder / "odd.mp4", 20, (97, 75), "yuv444p"),
        "portrait": lambda: write_clip(folder / "portrait.mp4", 30, (90, 134)),
        "one": lambda: write_clip(folder / "one.mp4", 1),
        "five": lambda: write_clip(folder / "five.mp4", 5, bf="2"),
        "kinetics": lambda: write_clip(folder / "long.mp4", 290, (340, 256), bf="3", crf="35"),
        "mkv": lambda: write_clip(folder / "clip.mkv", 30, (130, 94), bf="2"),
        "avi": lambda: write_clip(folder / "clip.avi", 30, codec="mpeg4"),
    }
    return makers[request.param]()


@pytest.fixture
def rotated_clip(tmp_path: Path, write_clip: Callable[..., Path]) -> Path:
    """A clip that its file asks to turn by 90 degrees, as phones write them."""
    path = write_clip(tmp_path / "rotated.mp4", 20)
    data = path.read_bytes()
    # The matrix of a version 0 tkhd box lies 44 bytes behind its type.
    start = data.index(b"tkhd") + 44
    turn = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data[:start] + turn + data[start + len(turn) :])
    return path


def _define_missing_ops() -> None:
    # torchvision's compiled operators do not load beside a CPU build of torch.
    import torch

    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", NMS_SCHEMA)


@pytest.fixture(scope="module")
def mmaction() -> Iterator[ModuleType]:
    # mmaction2 0.24.1 still says np.int, which numpy 1.24 removed.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "int", int, raising=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _define_missing_ops()
            import mmaction.datasets.pipelines
        yield mmaction


@pytest.fixture(scope="module")
def mmcv(mmaction: ModuleType) -> ModuleType:
    import mmcv

    module: ModuleType = mmcv
    return module


def _shipped(mmaction: ModuleType) -> Path:
    assert mmaction.__file__ is not None
    return Path(mmaction.__file__).parent / ".mim"


@pytest.fixture(scope="module")
def oracle(mmaction: ModuleType) -> Callable[..., dict[str, Any]]:
    """Run the test pipeline of a shipped configuration on a video or a folder of raw frames."""
    from mmcv import Config

    configs = _shipped(mmaction) / "configs/recognition"

    def steps_from(name: str) -> list[dict[str, Any]]:
        steps = Config.fromfile(str(configs / name)).data.test.pipeline
        return [dict(step) for step in steps if step.type not in ("Collect", "ToTensor")]

    def run(name: str, source: dict[str, Any]) -> dict[str, Any]:
        steps = steps_from(name)
        if "filename" in source:
            where = [step["type"] for step in steps].index("RawFrameDecode")
            steps[where] = {"type": "DecordDecode"}
            steps.insert(0, {"type": "DecordInit", "num_threads": 1})
        compose = mmaction.datasets.pipelines.Compose(steps)
        given = {"modality": "RGB", "start_index": 0, **source}
        result: dict[str, Any] = compose(given)
        return result

    return run


@pytest.fixture(scope="module")
def extract_frames(mmaction: ModuleType) -> Callable[..., dict[str, Any]]:
    """Run mmaction2's build_rawframes.py and return what its raw-frame data set would say."""
    path = _shipped(mmaction) / "tools/data/build_rawframes.py"

    def extract(clip: Path, folder: Path, short_side: int) -> dict[str, Any]:
        spec = importlib.util.spec_from_file_location("build_rawframes", path)
        assert spec is not None
        assert spec.loader is not None
        tool: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        tool.args = Namespace(
            out_dir=str(folder), use_opencv=True, new_short=short_side, new_width=0, new_height=0
        )
        tool.lock = Lock()
        tool.extract_frame((str(clip), clip.name, 0, "tvl1", "rgb", str(folder / "report.txt")))
        frames = folder / clip.stem
        return {
            "frame_dir": str(frames),
            "filename_tmpl": "img_{:05}.jpg",
            "start_index": 1,
            "total_frames": len(list(frames.glob("img_*.jpg"))),
        }

    return extract
