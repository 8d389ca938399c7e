"""A clip through mmaction2's own pipeline: the oracle for what a model is fed.

The steps are those of the model's configuration for testing. Where the model's protocol differs from
its configuration's, as a small relative's does, the sizes are the model's; the kind of the clip
decides how it is decoded.
"""

import contextlib
import importlib.metadata
import importlib.util
import io
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.build.torch_model import quiet_mmaction
from harness.clips import Clip
from harness.data.known_inputs import KnownInput, known_input_from_steps
from harness.data.loading import InputSteps
from harness.data.manifest import frame_path, size_of_clip
from harness.data.video import decoders
from harness.errors import ClipError, MissingInput, first_line
from harness.host.provenance import package_versions
from harness.spec import InputProtocol, ModelSpec
from harness.zoo.config import Config, config_from_file, config_path, mmaction2_folder
from harness.zoo.protocol import CROPS, DECODERS, HOOK, NEUTRAL, SAMPLERS, protocol_from_config

Step = dict[str, Any]
FRAME_NAME, PLAIN_FRAME_NAME = "img_{:05}.jpg", "{:05}.jpg"
LAST_STEPS = ("Normalize", "FormatShape")


def mmaction_inputs(spec: ModelSpec, clips: Sequence[Clip]) -> list[KnownInput]:
    """Return what mmaction2 makes of some clips; runs in a process of its own.

    Raises:
        MissingInput: mmaction2 cannot be imported, or has no configuration for the model.
        ClipError: mmaction2 cannot read a clip.
    """
    if not spec.config:
        raise MissingInput(f"{spec.name} names no configuration of mmaction2")
    if not config_path(spec.config).is_file():
        raise MissingInput(f"mmaction2 has no configuration {spec.config} for {spec.name}")
    with mmaction2_pipelines():
        return [known_input_from_steps(clip.id, _steps_of(spec, clip)) for clip in clips]


def mmaction_name() -> str:
    """Return what reads, and its version.

    Raises:
        MissingInput: it is not installed.
    """
    try:
        return f"mmaction2 {package_versions('mmaction2')['mmaction2']}"
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingInput("mmaction2 is not installed") from error


def pipeline_steps(spec: ModelSpec, *, is_video: bool) -> list[Step]:
    """Return the steps of a model's test pipeline, up to its tensor."""
    import mmcv

    pipeline = mmcv.Config.fromfile(str(config_path(spec.config))).data.test.pipeline
    kept = [dict(step) for step in pipeline if step.type not in (*NEUTRAL, *DECODERS)]
    steps = [{**step, **_own_sizes(step["type"], spec)} for step in kept]
    after = 1 + next(at for at, step in enumerate(steps) if step["type"] in SAMPLERS)
    start, decode = _video_steps() if is_video else ([], [{"type": "RawFrameDecode"}])
    return [*start, *steps[:after], *decode, *steps[after:]]


def _own_sizes(kind: str, spec: ModelSpec) -> Step:
    """Return in what a step differs, as the model's protocol differs from its configuration's."""
    given, own = protocol_from_config(config_from_file(config_path(spec.config))), spec.protocol
    if kind in SAMPLERS and own.frame_interval != given.frame_interval:
        return {"frame_interval": own.frame_interval}
    if kind == "Resize" and own.short_side != given.short_side:
        return {"scale": (-1, own.short_side)}
    if kind in CROPS and own.crop_size != given.crop_size:
        return {"crop_size": own.crop_size}
    return {}


def _video_steps() -> tuple[list[Step], list[Step]]:
    """Return what opens a video and what decodes it; decord has no wheel for aarch64."""
    if "decord" in decoders():
        return [{"type": "DecordInit", "num_threads": 1}], [{"type": "DecordDecode"}]
    return [{"type": "PyAVInit"}], [{"type": "PyAVDecode"}]


def _steps_of(spec: ModelSpec, clip: Clip) -> InputSteps:
    from mmaction.datasets.builder import PIPELINES
    from mmcv.utils import build_from_cfg

    protocol, images = spec.protocol, dict[str, Any]()
    with _described(clip, protocol) as result:
        try:
            for step in pipeline_steps(spec, is_video="filename" in result):
                if step["type"] in LAST_STEPS:
                    images.setdefault("crops", np.stack(result["imgs"]))
                result = build_from_cfg(step, PIPELINES)(result)
                if step["type"] in SAMPLERS:
                    _take_every_clip(result, protocol)
                if step["type"] in DECODERS:
                    images["frames"] = np.stack(result["imgs"])
        except (OSError, ValueError, LookupError, RuntimeError, AttributeError) as error:
            raise ClipError(f"mmaction2 cannot read {clip.path}: {first_line(error)}") from error
    indices = np.asarray(result["frame_inds"]).reshape(-1) - result["start_index"]
    crops = images["crops"].reshape(protocol.crop_count, -1, *images["crops"].shape[1:])
    tensor = hooked(config_from_file(config_path(spec.config)), result["imgs"])
    return InputSteps(tuple(map(int, indices)), images["frames"], crops, tensor)


def _take_every_clip(result: Step, protocol: InputProtocol) -> None:
    # Of a video that is too short for ``twice``, mmaction2 takes each clip once; the suite, twice.
    result["frame_inds"] = np.resize(result["frame_inds"], protocol.frames_per_crop)
    result["num_clips"] = protocol.frames_per_crop // result["clip_len"]


def hooked(config: Config, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return images as the model sees them, normalised where mmaction2 leaves that to a hook."""
    plain = images.astype(np.float32)
    for hook in config.content.get("module_hooks", []):
        if hook["type"] == HOOK:
            shape = (3, 1, 1) if hook["input_format"] == "NCHW" else (3, 1, 1, 1)
            mean, std = np.array([hook["mean"], hook["std"]], np.float32).reshape(2, *shape)
            plain = (plain - mean) / std
    return plain


@contextlib.contextmanager
def _described(clip: Clip, protocol: InputProtocol) -> Iterator[Step]:
    """Give a clip as mmaction2's data sets describe it; raw frames are extracted if there are none."""
    start = {"modality": "RGB", "start_index": 0}
    if clip.path.is_dir():
        yield {**start, **_frame_folder(clip.path)}
    elif protocol.source == "video":
        yield {**start, "filename": str(clip.path)}
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield {**start, **_extracted(clip.path, Path(folder), protocol.rawframe_short_side)}


def _frame_folder(folder: Path) -> Step:
    is_guides = frame_path(folder, 1).name.startswith("img_")
    named = {"filename_tmpl": FRAME_NAME if is_guides else PLAIN_FRAME_NAME, "start_index": 1}
    return {"frame_dir": str(folder), "total_frames": size_of_clip(folder)[0], **named}


def _extracted(video: Path, folder: Path, short_side: int) -> Step:
    """Run mmaction2's build_rawframes.py on a video."""
    path = mmaction2_folder() / "tools/data/build_rawframes.py"
    spec = importlib.util.spec_from_file_location("build_rawframes", path)
    if spec is None or spec.loader is None:
        raise MissingInput(f"mmaction2 is there without its {path.name}, which extracts raw frames")
    tool: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    sizes = {"new_short": short_side, "new_width": 0, "new_height": 0}
    tool.args, tool.lock = Namespace(out_dir=str(folder), use_opencv=True, **sizes), Lock()
    report = str(folder / "report.txt")
    with contextlib.redirect_stdout(io.StringIO()):
        tool.extract_frame((str(video), video.name, 0, "tvl1", "rgb", report))
    return _frame_folder(folder / video.stem)


@contextlib.contextmanager
def mmaction2_pipelines() -> Iterator[None]:
    """Let mmaction2's pipelines be imported and run.

    Raises:
        MissingInput: they cannot.
    """
    try:
        with _numpy_int(), quiet_mmaction():
            import mmaction.datasets.pipelines  # noqa: F401

            yield
    except ImportError as error:
        raise MissingInput(f"mmaction2 cannot be imported: {first_line(error)}") from error


@contextlib.contextmanager
def _numpy_int() -> Iterator[None]:
    """Give NumPy back ``np.int``, which mmaction2 0.24.1 still says."""
    lacks = "int" not in vars(np)
    if lacks:
        vars(np)["int"] = int
    try:
        yield
    finally:
        if lacks:
            del vars(np)["int"]
