"""A clip through mmaction2's own pipeline: the oracle for what a model is fed.

The steps are those of the model's configuration for testing. A model that is smaller than its
configuration brings its sizes, and the kind of the clip decides how it is decoded.
"""

import contextlib
import importlib.util
import io
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from harness.build.torch_model import mmaction_config, quiet_mmaction
from harness.clips import Clip
from harness.data.known_inputs import KnownInput, known_input_from_steps
from harness.data.loading import InputSteps
from harness.errors import ClipError, MissingInput, first_line
from harness.host.provenance import package_versions
from harness.spec import InputProtocol, ModelSpec

Step = dict[str, Any]
DECODING = {"DecordInit", "DecordDecode", "PyAVInit", "PyAVDecode", "OpenCVInit", "OpenCVDecode"}
VIDEO_STEPS = ({"type": "DecordInit", "num_threads": 1}, {"type": "DecordDecode"})
FRAME_NAME = "img_{:05}.jpg"
LAST_STEPS = ("Normalize", "FormatShape")


def mmaction_inputs(spec: ModelSpec, clips: Sequence[Clip]) -> list[KnownInput]:
    """Return what mmaction2 makes of some clips; runs in a process of its own.

    Raises:
        MissingInput: mmaction2 cannot be imported, or has no configuration for the model.
        ClipError: mmaction2 cannot read a clip.
    """
    with _mmaction():
        return [known_input_from_steps(clip.id, _steps_of(spec, clip)) for clip in clips]


def mmaction_name() -> str:
    """Return what reads, and its version."""
    return f"mmaction2 {package_versions('mmaction2')['mmaction2']}"


def pipeline_steps(spec: ModelSpec, *, is_video: bool) -> list[Step]:
    """Return the steps of a model's test pipeline, up to its tensor."""
    config = mmaction_config(spec).data.test.pipeline
    kept = [dict(step) for step in config if step.type not in {"Collect", "ToTensor", *DECODING}]
    steps = [_sized(step, spec.protocol) for step in kept if step["type"] != "RawFrameDecode"]
    after = 1 + next(at for at, step in enumerate(steps) if "SampleFrames" in step["type"])
    if not is_video:
        return [*steps[:after], {"type": "RawFrameDecode"}, *steps[after:]]
    start, decode = VIDEO_STEPS
    return [start, *steps[:after], decode, *steps[after:]]


def _sized(step: Step, protocol: InputProtocol) -> Step:
    """Return a step with the sizes of the model, which may be a small relative of its configuration."""
    if step["type"] == "Resize":
        return {**step, "scale": (-1, protocol.short_side)}
    if step["type"].endswith("Crop"):
        return {**step, "crop_size": protocol.crop_size}
    if "SampleFrames" in step["type"]:
        return {**step, "frame_interval": protocol.frame_interval}
    return step


def _steps_of(spec: ModelSpec, clip: Clip) -> InputSteps:
    from mmaction.datasets.builder import PIPELINES
    from mmcv.utils import build_from_cfg

    is_video = spec.protocol.source == "video"
    with _described(clip, spec.protocol) as result:
        images: dict[str, Any] = {}
        try:
            for step in pipeline_steps(spec, is_video=is_video):
                if step["type"] in LAST_STEPS:
                    images.setdefault("crops", np.stack(result["imgs"]))
                result = build_from_cfg(step, PIPELINES)(result)
                if step["type"].endswith("Decode"):
                    images["frames"] = np.stack(result["imgs"])
        except (OSError, ValueError, LookupError, RuntimeError, AttributeError) as error:
            raise ClipError(f"mmaction2 cannot read {clip.path}: {first_line(error)}") from error
    indices = np.asarray(result["frame_inds"]).reshape(-1) - result["start_index"]
    crops = images["crops"].reshape(-1, len(images["frames"]), *images["crops"].shape[1:])
    return InputSteps(tuple(map(int, indices)), images["frames"], crops, result["imgs"])


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
    count = len(list(folder.glob("img_*.jpg")))
    named = {"filename_tmpl": FRAME_NAME, "start_index": 1}
    return {"frame_dir": str(folder), "total_frames": count, **named}


def _extracted(video: Path, folder: Path, short_side: int) -> Step:
    """Run mmaction2's build_rawframes.py on a video."""
    import mmaction

    path = Path(mmaction.__file__).parent / ".mim/tools/data/build_rawframes.py"
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
def _mmaction() -> Iterator[None]:
    """Let mmaction2's pipelines be imported and run.

    Raises:
        MissingInput: they cannot.
    """
    # mmaction2 0.24.1 says np.int, which NumPy 1.24 removed.
    is_old = "int" in vars(np)
    vars(np).setdefault("int", int)
    try:
        with quiet_mmaction():
            import mmaction.datasets.pipelines  # noqa: F401

            yield
    except ImportError as error:
        raise MissingInput(f"mmaction2 cannot be imported: {first_line(error)}") from error
    finally:
        if not is_old:
            del vars(np)["int"]
