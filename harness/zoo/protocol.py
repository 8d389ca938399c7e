"""The test pipeline of a configuration -> InputProtocol."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import InputError
from harness.spec import InputProtocol
from harness.zoo.config import Config

Step = Mapping[str, Any]
SAMPLERS = ("SampleFrames", "DenseSampleFrames")
CROPS = {"CenterCrop": 1, "ThreeCrop": 3, "TenCrop": 10}
LAYOUTS = {"NCHW": "TCHW", "NCTHW": "MCTHW"}
VIDEO_DECODERS = ("DecordDecode", "PyAVDecode", "OpenCVDecode")
DECODERS = {"RawFrameDecode": "rawframes", **dict.fromkeys(VIDEO_DECODERS, "video")}
# Steps that do not change pixels, and those of the video decoders.
NEUTRAL = ("Collect", "ToTensor", "DecordInit", "PyAVInit", "OpenCVInit")
HOOK = "GPUNormalize"
DENSE_RANGE, DENSE_POSITIONS = 64, 10


def protocol_from_config(config: Config) -> InputProtocol:
    """Return how a configuration tests its clips.

    Raises:
        InputError: it does not test RGB frames, or tests them in a way that no protocol describes.
    """
    test = config.part("data", "test")
    if test.get("modality", "RGB") != "RGB":
        raise InputError(
            f"{config.path} takes {test['modality']} input; this suite takes RGB frames"
        )
    steps = {step["type"]: step for step in config.part("data", "test", "pipeline")}
    _require_known(config, steps)
    sampler = _one(config, steps, SAMPLERS)
    crop = _one(config, steps, CROPS)
    mean, std = _normalisation(config, steps)
    short_side, long_side = _resize(config, steps.get("Resize"))
    layout = steps.get("FormatShape", {}).get("input_format")
    if layout not in LAYOUTS:
        told = (
            "tests with FormatShape without input_format" if layout is None else f"gives {layout}"
        )
        raise InputError(f"{config.path} {told}; this suite takes {' and '.join(LAYOUTS)}")
    # Literals of the spec, which mypy does not see in what a configuration says.
    literals: dict[str, Any] = {
        "layout": LAYOUTS[layout],
        "crop_count": CROPS[crop["type"]],
        "source": DECODERS[_one(config, steps, DECODERS)["type"]],
        "averaging": config.part("model").get("test_cfg", {}).get("average_clips") or "none",
        **_sampling(config, sampler, layout),
    }
    return InputProtocol(
        short_side=short_side,
        long_side=long_side,
        crop_size=_square(config, crop["crop_size"]),
        mean=mean,
        std=std,
        **literals,
    )


def _require_known(config: Config, steps: Mapping[str, Step]) -> None:
    known = {*SAMPLERS, *CROPS, *DECODERS, *NEUTRAL, "Resize", "Normalize", "FormatShape"}
    unknown = [name for name in steps if name not in known]
    if unknown:
        raise InputError(
            f"{config.path} tests with {', '.join(unknown)}, which no protocol describes: this suite takes "
            "the RGB frames of a clip as mmaction2's recognizers do"
        )


def _one(
    config: Config, steps: Mapping[str, Step], names: Sequence[str] | Mapping[str, Any]
) -> Step:
    found = [steps[name] for name in names if name in steps]
    if len(found) != 1:
        raise InputError(
            f"{config.path} tests with {len(found)} of {', '.join(names)}; it needs exactly one"
        )
    return found[0]


def _sampling(config: Config, step: Step, layout: str) -> dict[str, Any]:
    if step.get("out_of_bound_opt", "loop") != "loop" or not step.get("test_mode"):
        raise InputError(f"{config.path} does not sample in test mode, with short clips looped")
    length, count = step["clip_len"], step.get("num_clips", 1)
    is_dense, is_twice = step["type"] == "DenseSampleFrames", step.get("twice_sample", False)
    is_uniform = length == 1 and layout == "NCHW"
    return {
        "sampling": "uniform" if is_uniform else "strided",
        "frame_count": count if is_uniform else length,
        "frame_interval": step.get("frame_interval", 1),
        "clip_count": 1 if is_uniform else count,
        "placement": "dense" if is_dense else "twice" if is_twice else "segments",
        "dense_range": step.get("sample_range", DENSE_RANGE),
        "dense_positions": step.get("num_sample_positions", DENSE_POSITIONS),
    }


def _resize(config: Config, step: Step | None) -> tuple[int, int]:
    """Return the short side, 0 to keep the size, and the long side, 0 for any."""
    if step is None:
        return 0, 0
    scale = step["scale"]
    if not isinstance(scale, Sequence) or not step.get("keep_ratio", True):
        raise InputError(
            f"{config.path} resizes frames to {scale}, which changes their proportions"
        )
    small, large = sorted(scale)
    return (large, 0) if small == -1 else (small, large)


def _square(config: Config, size: int | Sequence[int]) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise InputError(f"{config.path} crops {size}; this suite takes square crops")
    return sides.pop()


def _normalisation(config: Config, steps: Mapping[str, Step]) -> tuple[Any, Any]:
    """Return mean and std, even if mmaction2 normalises in a hook before the backbone."""
    hooks = [hook for hook in config.content.get("module_hooks", []) if hook["type"] == HOOK]
    step = steps.get("Normalize", hooks[0] if hooks else {"mean": (0, 0, 0), "std": (1, 1, 1)})
    if step.get("to_bgr", False):
        raise InputError(f"{config.path} swaps red and blue; this suite gives red, green, blue")
    return tuple(map(float, step["mean"])), tuple(map(float, step["std"]))
