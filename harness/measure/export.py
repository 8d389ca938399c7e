"""What the export check saw of an ONNX file, and what it found wrong."""

from collections.abc import Mapping
from typing import Literal

from harness.measure.measurement import Measurement
from harness.measure.passport import Passport


class TensorFacts(Measurement):
    """Name, shape and dtype of an input or output; a dynamic dimension is its name."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


class MultiplyAdds(Measurement):
    """How many a model has in PyTorch and in its files; None: it has no PyTorch, or a size is not known."""

    torch: int | None
    exported: int | None
    simplified: int | None


class ExportMeasurement(Measurement):
    """The facts of one ONNX file; ``problems`` are sentences, each naming what to mend.

    ``ops_checked`` is the number of nodes held against the device's allow list: none means that
    nothing was looked at. ``multiply_adds`` is None in runs of suites that did not count them.
    ``passport`` is of the model that the device's compiler made of it.
    """

    kind: Literal["export"] = "export"
    problems: tuple[str, ...]
    ops_checked: int
    opset: int
    op_counts: Mapping[str, int]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    onnx_bytes: int
    simplified_bytes: int | None = None
    multiply_adds: MultiplyAdds | None = None
    passport: Passport | None = None
