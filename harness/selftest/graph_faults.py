"""Faults of the exported, the simplified and the built model: nodes, attributes, constants, weights."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from harness.build import onnx_export, simplify
from harness.device import Device
from harness.selftest.device_faults import on_device
from harness.selftest.faults import MODEL, Fault, NotApplicable, Plant, in_a_run
from harness.selftest.graph_changes import (
    ChangeFile,
    another,
    attribute,
    channel,
    cut,
    dimension,
    dropped,
    graph,
    inputs_swapped,
    largest,
    noise_operator,
    opset,
    renamed,
    scalar,
)
from harness.selftest.setting import BATCH, Setting
from harness.spec import Check, OnnxModel
from harness.testing import FaultyDevice

_STAGES = {"onnx": (onnx_export, "write_onnx"), "simplified": (simplify, "write_simplified")}


def stage_leaves(kind: str, change: ChangeFile) -> Plant:
    """Return what changes the file that a stage leaves; ``kind`` is ``onnx`` or ``simplified``."""
    module, function = _STAGES[kind]

    @contextlib.contextmanager
    def plant(setting: Setting) -> Iterator[None]:
        bench, cell = setting.bench(), setting.cell(MODEL)
        built = (bench.exported if kind == "onnx" else bench.simplified)(cell)
        clean = built.artifact.path.read_bytes()
        setting.without(kind)

        def write(*args: Any) -> Mapping[str, object]:
            target: Path = args[-1]
            target.write_bytes(clean)
            change(target)
            return {}

        with patch.object(module, function, write):
            yield

    return plant


@dataclasses.dataclass
class _SpoiltBuild(FaultyDevice):
    """A device whose compiler changes the model; only where what it writes is an ONNX file."""

    change: ChangeFile = dataclasses.field(default=lambda path: None)

    def build(self, onnx: OnnxModel, target: Path) -> Mapping[str, Any]:
        """Build, and change what was built."""
        facts = self.device.build(onnx, target)
        self.change(target)
        return facts


def build_leaves(change: ChangeFile) -> Plant:
    """Return what changes the file that the device's compiler leaves."""

    def spoilt(device: Device) -> Device:
        if device.model_suffix != ".onnx":
            raise NotApplicable("what its compiler writes cannot be read")
        return _SpoiltBuild(device, change=change)

    @contextlib.contextmanager
    def plant(setting: Setting) -> Iterator[None]:
        setting.without("device")
        with on_device(spoilt)(setting):
            yield

    return plant


@contextlib.contextmanager
def _of_another_batch(setting: Setting) -> Iterator[None]:
    """Put the model of half the batch size in place of the one that is built."""
    cell = dataclasses.replace(setting.cell(MODEL), batch=BATCH // 2)
    other = setting.bench().device_model(cell).artifact.path.read_bytes()
    with build_leaves(lambda path: path.write_bytes(other))(setting):
        yield


FIRST_CONV = "backbone.conv1.conv.weight"
# What the exporter does to a graph, the check that must catch it, and what it must say.
_EXPORTED: tuple[tuple[str, Check, str, ChangeFile], ...] = (
    ("an activation dropped", "parity", "torch_to_onnx", graph(dropped("Relu", 5))),
    (
        "a normalisation dropped",
        "parity",
        "torch_to_onnx",
        graph(dropped("BatchNormalization", 9)),
    ),
    (
        "logarithms in place of probabilities",
        "parity",
        "invalid: .* gives NaN or Inf, before it is simplified",
        graph(another("Softmax", 0, "LogSoftmax")),
    ),
    (
        "another epsilon",
        "parity",
        "torch_to_onnx",
        graph(attribute("BatchNormalization", 3, "epsilon", 0.1)),
    ),
    (
        "other padding of a pool",
        "parity",
        "torch_to_onnx",
        graph(attribute("MaxPool", 0, "pads", [0, 0, 2, 2])),
    ),
    (
        "rounded up where it rounds down",
        "parity",
        "run: ONNX Runtime could not run",
        graph(attribute("MaxPool", 0, "ceil_mode", 1)),
    ),
    (
        "a maximum where a mean belongs",
        "parity",
        "torch_to_onnx",
        graph(another("GlobalAveragePool", 0, "GlobalMaxPool")),
    ),
    ("a constant 10 % larger", "parity", "torch_to_onnx", graph(scalar("Div", 1.1))),
    ("opset 13 in the header", "export", "simplify: onnxsim refused", graph(opset(13))),
    ("opset 10 in the header", "export", "opset is 10 instead|onnx.checker", graph(opset(10))),
    ("its input renamed", "export", "inputs are", graph(renamed("input"))),
    ("its output renamed", "export", "outputs are", graph(renamed("output"))),
    ("a batch of any size", "export", r"input video is .*-1", graph(dimension("input", 0, "n"))),
    ("another batch in the header", "export", "output class is", graph(dimension("output", 0, 8))),
    ("the end of the file missing", "export", "onnx.checker|onnxsim refused", cut),
)
_SIMPLIFIED: tuple[tuple[str, Check, str, ChangeFile], ...] = (
    ("an activation dropped", "parity", "onnx_to_simplified", graph(dropped("Relu", 11))),
    (
        "a residual sum that subtracts",
        "parity",
        "onnx_to_simplified",
        graph(another("Add", 6, "Sub")),
    ),
    (
        "a product in the other order",
        "parity",
        "onnx_to_simplified|ONNX Runtime cannot",
        graph(inputs_swapped("MatMul", 0)),
    ),
    ("a constant 1 % larger", "parity", "onnx_to_simplified", graph(scalar("Div", 1.01))),
    (
        "another axis of the softmax",
        "parity",
        "onnx_to_simplified",
        graph(attribute("Softmax", 0, "axis", 0)),
    ),
    (
        "one channel 1.1 times as large",
        "parity",
        "onnx_to_simplified",
        graph(largest(lambda w: channel(w, 1.1))),
    ),
    (
        "an operator that draws numbers",
        "export",
        "RandomNormalLike .* is not in the allow list",
        graph(noise_operator),
    ),
    ("opset 12 in the header", "export", "opset is 12 instead of 11", graph(opset(12))),
    ("the end of the file missing", "export", "is not a whole ONNX file", cut),
)
_BUILT: tuple[tuple[str, Check, str, ChangeFile], ...] = (
    (
        "a convolution's weights 1 % larger",
        "parity",
        "simplified_to_device",
        graph(largest(lambda w: w * 1.01)),
    ),
    (
        "one channel zero",
        "accuracy",
        "of every clip|top-1",
        graph(largest(lambda w: channel(w, 0.0))),
    ),
    (
        "a layer in half precision",
        "parity",
        "simplified_to_device",
        graph(largest(lambda w: w.astype(np.float16))),
    ),
    (
        "an overflow of half precision",
        "parity",
        "simplified_to_device",
        graph(largest(lambda w: w * 1e6)),
    ),
)


def graph_faults() -> Iterable[Fault]:
    """Return the faults of the three files that stages leave."""
    for family, kind, table in (
        ("export", "onnx", _EXPORTED),
        ("simplify", "simplified", _SIMPLIFIED),
    ):
        for name, check, finding, change in table:
            yield Fault(family, name, check, finding, in_a_run(check, stage_leaves(kind, change)))
    for name, check, finding, change in _BUILT:
        yield Fault("build", name, check, finding, in_a_run(check, build_leaves(change)))
    trial = in_a_run("parity", _of_another_batch)
    yield Fault(
        "build", "the model of another batch", "parity", "run: ONNX Runtime could not run", trial
    )
