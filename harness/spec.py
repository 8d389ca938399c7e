"""The values that flow through the suite: models, tensors, cells and artifacts."""

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy.typing as npt

Feed = Mapping[str, npt.NDArray[Any]]

ITEM_BYTES = {"float32": 4, "float16": 2, "int64": 8, "int32": 4, "uint8": 1}

Check = Literal["export", "parity", "accuracy", "throughput"]
CHECKS: tuple[Check, ...] = get_args(Check)
Weights = Literal["checkpoint", "seeded"]


class Status(enum.StrEnum):
    """The outcomes of a check; only ``PASS`` is green."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"
    ERROR = "error"
    NOT_RUN = "not run"


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype of one tensor of a model; the first dimension scales with the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def batched(self, batch: int) -> "TensorSpec":
        """Return the tensor for ``batch`` samples, given the spec of one sample."""
        return dataclasses.replace(self, shape=self.batched_shape(batch))

    def batched_shape(self, batch: int) -> tuple[int, ...]:
        """Return the shape of ``batch`` samples."""
        return (self.shape[0] * batch, *self.shape[1:])


@dataclasses.dataclass(frozen=True)
class InputProtocol:
    """How a clip becomes the input of a model.

    ``uniform`` takes the middle frame of ``frame_count`` equal segments; ``strided`` takes
    ``frame_count`` frames ``frame_interval`` apart from the middle of the clip. Both are mmaction2's
    SampleFrames in test mode. A ``rawframes`` source passes every frame through the JPEG file that
    the guide's extraction writes, with its short side resized to ``rawframe_short_side`` first
    (0: not resized). One sample has ``crop_count`` crops (1: centre; 3: along the long side).
    """

    sampling: Literal["uniform", "strided"]
    frame_count: int
    frame_interval: int
    short_side: int
    crop_size: int
    crop_count: Literal[1, 3]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: Literal["TCHW", "MCTHW"]
    source: Literal["video", "rawframes"] = "video"
    rawframe_short_side: int = 0


ATC = (
    *("--model={model}", "--framework=5", "--output={output}", "--input_format=ND"),
    *("--input_shape={input_shape}", "--log=error", "--soc_version={soc_version}"),
)


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The declaration of a model: architecture, weights, tensors and input protocol.

    Attributes:
        name: the name of the file that defines it.
        config: path of the mmaction2 configuration below ``mmaction/.mim/configs``.
        overrides: entries merged into the ``model`` of that configuration.
        checkpoint: file name of the weights, ending in ``-<first hex digits of their sha256>.pth``.
        dataset: ``kinetics400`` or ``motion8``.
        class_count: number of classes.
        input: the input of one sample.
        output: the output of one sample; its rows are the crops.
        softmax_in_graph: whether the graph ends in a softmax, so that its output is probabilities.
        protocol: how a clip becomes the input.
        frozen_batch: the only batch size that the guide supports, or None.
        atc: the words of the guide's atc command line, in order, with placeholders for ``model``,
            ``output``, ``input_shape`` and ``soc_version``.
    """

    name: str
    config: str
    overrides: Mapping[str, Any]
    checkpoint: str
    dataset: Literal["kinetics400", "motion8"]
    class_count: int
    input: TensorSpec
    output: TensorSpec
    softmax_in_graph: bool
    protocol: InputProtocol
    opset: int = 11
    frozen_batch: int | None = None
    atc: tuple[str, ...] = ATC

    @property
    def crop_count(self) -> int:
        """Number of output rows per sample."""
        return self.output.shape[0]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One (model, device, batch size)."""

    model: str
    device: str
    batch: int

    @property
    def id(self) -> str:
        """The name in reports and on the command line."""
        return f"{self.pair}-bs{self.batch}"

    @property
    def pair(self) -> str:
        """The name of model and device, without the batch size."""
        return f"{self.model}-{self.device}"


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A stored file with its hash and its provenance."""

    kind: str
    path: Path
    sha256: str
    provenance: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class OnnxModel:
    """An ONNX file for one batch size, exported or simplified."""

    spec: ModelSpec
    batch: int
    weights: Weights
    artifact: Artifact

    @property
    def input(self) -> TensorSpec:
        """The input of the file."""
        return self.spec.input.batched(self.batch)

    @property
    def output(self) -> TensorSpec:
        """The output of the file."""
        return self.spec.output.batched(self.batch)


@dataclasses.dataclass(frozen=True)
class DeviceModel:
    """A file that the device runs: on Ascend, an offline model (.om)."""

    onnx: OnnxModel
    device: str
    artifact: Artifact


def digest_from_json(value: object) -> str:
    """Return the sha256 of a JSON-like value in its canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no canonical form: {value!r}")
