"""The values that flow through the suite: models, tensors, cells and artifacts."""

import dataclasses
import enum
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy.typing as npt

from harness.precision import Precision

Feed = Mapping[str, npt.NDArray[Any]]

ITEM_BYTES = {"float32": 4, "float16": 2, "int64": 8, "int32": 4, "uint8": 1}

# Marks a field that digests leave out at its default: what was made before it keeps its digest.
LATER = {"later": True}
# Marks a field that no digest has: nothing is made of it but what names it.
ASIDE = {"aside": True}

Placement = Literal["segments", "twice", "dense"]
Averaging = Literal["prob", "score", "none"]
Check = Literal["export", "parity", "accuracy", "throughput", "startup", "soak"]
ALL_CHECKS: tuple[Check, ...] = get_args(Check)
# Of every cell; it has the others where its contract limits what they measure.
CHECKS: tuple[Check, ...] = ALL_CHECKS[:4]


def shown_checks(seen: Iterable[Check]) -> tuple[Check, ...]:
    """Return the columns of a table of checks: those of every cell, and whatever else was seen."""
    wanted = {*CHECKS, *seen}
    return tuple(check for check in ALL_CHECKS if check in wanted)


Weights = Literal["checkpoint", "seeded"]
# What a device is compared with.
Reference = Literal["PyTorch", "the ONNX file"]
PYTORCH: Reference = "PyTorch"
ONNX_FILE: Reference = "the ONNX file"


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
        """Return the tensor for ``batch`` samples, given the spec of one sample; -1: for any number."""
        size = -1 if batch == -1 else self.shape[0] * batch
        return dataclasses.replace(self, shape=(size, *self.shape[1:]))


@dataclasses.dataclass(frozen=True)
class InputProtocol:
    """How a video becomes the input of a model: mmaction2's test pipelines of RGB frames.

    A sample has ``crop_count`` crops of each of ``clips_per_crop`` clips of ``frame_count`` frames.

    Attributes:
        sampling: ``uniform`` clips take a frame of each of ``frame_count`` equal segments; the
            frames of ``strided`` clips are ``frame_interval`` apart.
        frame_count: frames of a clip.
        short_side: to which frames are resized; 0 keeps their size.
        crop_count: 1: centre; 3: along the long side; 10: corners and centre, each also mirrored.
        mean, std: of red, green and blue, from 0 to 255; 0 and 1 leave the pixels as they are.
        layout: ``TCHW`` joins the frames of all crops and clips; ``MCTHW`` keeps them apart, the
            clips of the first crop first.
        source: ``rawframes`` passes every frame through the JPEG file that the guide's extraction
            writes, with its short side resized to ``rawframe_short_side`` first (0: not resized).
        clip_count: strided clips spread over the video.
        placement: ``segments`` takes the middle of each segment; ``twice`` also its start, as
            mmaction2's ``twice_sample``; ``dense`` takes ``clip_count`` clips, or one uniform one,
            within ``dense_range`` frames from each of ``dense_positions`` starts.
        long_side: if not 0, resized frames also fit within it.
        averaging: over the rows of a sample: class probabilities, scores, or none of a single row.
    """

    sampling: Literal["uniform", "strided"]
    frame_count: int
    frame_interval: int
    short_side: int
    crop_size: int
    crop_count: Literal[1, 3, 10]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: Literal["TCHW", "MCTHW"]
    source: Literal["video", "rawframes"] = "video"
    rawframe_short_side: int = 0
    clip_count: int = dataclasses.field(default=1, metadata=LATER)
    placement: Placement = dataclasses.field(default="segments", metadata=LATER)
    dense_range: int = dataclasses.field(default=64, metadata=LATER)
    dense_positions: int = dataclasses.field(default=10, metadata=LATER)
    long_side: int = dataclasses.field(default=0, metadata=LATER)
    averaging: Averaging = dataclasses.field(default="prob", metadata=LATER)

    @property
    def clips_per_crop(self) -> int:
        """Clips that are taken of a video."""
        times = {"segments": 1, "twice": 2, "dense": self.dense_positions}
        return self.clip_count * times[self.placement]

    @property
    def frames_per_crop(self) -> int:
        """Frames of all clips of a crop."""
        return self.clips_per_crop * self.frame_count

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of the tensor of one sample, without the batch."""
        frame = (self.crop_size, self.crop_size)
        if self.layout == "TCHW":
            return (self.crop_count * self.frames_per_crop, 3, *frame)
        return (self.crop_count * self.clips_per_crop, 3, self.frame_count, *frame)


ATC = (
    *("--model={model}", "--framework=5", "--output={output}", "--input_format=ND"),
    *("--input_shape={input_shape}", "--log=error", "--soc_version={soc_version}"),
)


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The declaration of a model: architecture, weights, tensors and input protocol.

    Attributes:
        name: the name of the file that defines it.
        config: path of the mmaction2 configuration, absolute or below ``mmaction/.mim/configs``;
            of an ONNX file, the one whose test pipeline makes its inputs, or empty.
        overrides: entries merged into the ``model`` of that configuration.
        checkpoint: file name of the weights, ending in ``-<first hex digits of their sha256>.pth``;
            or of an ONNX file, ending so in ``.onnx``, that is the whole model.
        dataset: name of the data set, as site.toml and the clip sets of the contract have it.
        class_count: number of classes.
        input: the input of one sample; a tuple where the model takes several, in the order of its file.
        output: the output of one sample; its rows are the views, or one row sums them up.
        softmax_in_graph: whether the graph ends in a softmax, so that its output is probabilities.
        protocol: how a clip becomes the input.
        frozen_batch: the only batch size that the guide supports, or None.
        atc: the words of the guide's atc command line, in order, with placeholders for ``model``,
            ``output``, ``input_shape`` and ``soc_version``.
        calibrated: whether seeded weights get batch norm statistics of their own activations.
        precisions: of cells that name one, beyond those that every model has.
        frames: of several inputs, which frames of each clip each of them takes.
        gears: batch sizes of one file that serves them all, where a cell asks for it.
    """

    name: str
    config: str
    overrides: Mapping[str, Any]
    checkpoint: str
    dataset: str
    class_count: int
    input: TensorSpec | tuple[TensorSpec, ...]
    output: TensorSpec
    softmax_in_graph: bool
    protocol: InputProtocol
    opset: int = 11
    frozen_batch: int | None = None
    atc: tuple[str, ...] = ATC
    calibrated: bool = dataclasses.field(default=False, metadata=LATER)
    precisions: Mapping[str, Precision] = dataclasses.field(default_factory=dict, metadata=ASIDE)
    frames: tuple[tuple[int, ...], ...] = dataclasses.field(default=(), metadata=LATER)
    gears: tuple[int, ...] = dataclasses.field(default=(), metadata=LATER)

    @property
    def reference(self) -> Reference:
        """What the device is compared with."""
        return ONNX_FILE if self.checkpoint.endswith(".onnx") else PYTORCH

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs of one sample, in the order of the file."""
        return self.input if isinstance(self.input, tuple) else (self.input,)

    def batched_inputs(self, batch: int) -> tuple[TensorSpec, ...]:
        """Return the inputs for ``batch`` samples."""
        return tuple(one.batched(batch) for one in self.inputs)

    def traced_inputs(self, batch: int) -> tuple[TensorSpec, ...]:
        """Return the inputs that a file is traced with: of one with gears, the largest.

        Traced with one sample, an operator could take its batch for a dimension to broadcast.
        """
        return self.batched_inputs(max(self.gears, default=batch))

    @property
    def crop_count(self) -> int:
        """Number of output rows per sample."""
        return self.output.shape[0]

    @property
    def clips_per_crop(self) -> int:
        """Number of output rows per crop of a sample: one, or one for each of its clips."""
        return max(1, self.crop_count // self.protocol.crop_count)

    def tensors_of_file(self, batch: int) -> tuple[tuple[TensorSpec, ...], TensorSpec]:
        """Return inputs and output as the file declares them; -1 is the batch of one with gears."""
        size = -1 if self.gears else batch
        return self.batched_inputs(size), self.output.batched(size)

    def label_of_file(self, batch: int) -> str:
        """Return what tells the file from others of the model."""
        return f"gears{'_'.join(map(str, self.gears))}" if self.gears else f"bs{batch}"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One (model, device, batch size), and a precision where it is not the compiler's own choice."""

    model: str
    device: str
    batch: int
    precision: str = ""

    @property
    def id(self) -> str:
        """The name in reports and on the command line."""
        return f"{self.pair}-{self.row}"

    @property
    def row(self) -> str:
        """The name of its row in the contract: ``bs4``, or ``bs4-origin`` with a precision."""
        return f"bs{self.batch}" + (f"-{self.precision}" if self.precision else "")

    @classmethod
    def of_row(cls, model: str, device: str, row: str) -> "Cell":
        """Return the cell of a row of the contract."""
        batch, _, precision = row.removeprefix("bs").partition("-")
        return cls(model, device, int(batch), precision)

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
    """An ONNX file, exported or simplified, and the batch size that it is run with."""

    spec: ModelSpec
    batch: int
    weights: Weights
    artifact: Artifact

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs of one run."""
        return self.spec.batched_inputs(self.batch)

    @property
    def output(self) -> TensorSpec:
        """The output of one run."""
        return self.spec.output.batched(self.batch)

    @property
    def gear(self) -> int | None:
        """The batch size to set before a run; None where the file has only this one."""
        return self.inputs[0].shape[0] if self.spec.gears else None


@dataclasses.dataclass(frozen=True)
class DeviceModel:
    """A file that the device runs: on Ascend, an offline model (.om)."""

    onnx: OnnxModel
    device: str
    artifact: Artifact
