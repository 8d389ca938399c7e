"""Faults of the exported, the simplified and the built model: nodes, attributes, constants, weights."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from harness.build import onnx_export, simplify
from harness.device import Device
from harness.selftest.device_faults import on_device
from harness.selftest.faults import MODEL, Fault, NotApplicable, Plant, fault_of_run
from harness.selftest.graph_changes import (
    ChangeFile,
    another,
    attribute,
    cut,
    dimension,
    dropped,
    first_channel,
    idle_twin,
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
            facts: Mapping[str, object] = built.artifact.provenance["facts"]
            return facts

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
_EXPORT, _SIMPLIFY, _BUILD = "torch_to_onnx", "onnx_to_simplified", "simplified_to_device"
_NAN = "invalid: .* gives NaN or Inf, before it is simplified"
_NO_RUN = "run: ONNX Runtime cannot run"
# What is done to a graph, the check that must catch it, and what it must say.
_EXPORTED: tuple[tuple[str, Check, str, ChangeFile], ...] = (
    ("an activation dropped", "parity", _EXPORT, dropped("Relu", 5)),
    ("a normalisation dropped", "parity", _EXPORT, dropped("BatchNormalization", 9)),
    ("logarithms in place of probabilities", "parity", _NAN, another("Softmax", 0, "LogSoftmax")),
    ("another epsilon", "parity", _EXPORT, attribute("BatchNormalization", 3, "epsilon", 0.1)),
    ("other padding of a pool", "parity", _EXPORT, attribute("MaxPool", 0, "pads", [0, 0, 2, 2])),
    ("rounded up where it rounds down", "parity", _NO_RUN, attribute("MaxPool", 0, "ceil_mode", 1)),
    (
        *("a maximum where a mean belongs", "parity", _EXPORT),
        another("GlobalAveragePool", 0, "GlobalMaxPool"),
    ),
    ("a constant 10 % larger", "parity", _EXPORT, scalar("Div", 1.1)),
    (
        "a layer more, to no effect",
        "export",
        r"not PyTorch's: difference in multiply-adds of the simplified file is [\d.]+",
        idle_twin("Conv", 0),
    ),
    ("opset 13 in the header", "export", "simplify: onnxsim refused", opset(13)),
    ("opset 10 in the header", "export", "opset is 10 instead|onnx.checker", opset(10)),
    ("its input renamed", "export", "inputs are", renamed("input")),
    ("its output renamed", "export", "outputs are", renamed("output")),
    ("a batch of any size", "export", r"input video is .*-1", dimension("input", 0, "n")),
    ("another batch in the header", "export", "output class is", dimension("output", 0, 8)),
    ("the end of the file missing", "export", "onnx.checker|onnxsim refused", cut),
)
_SIMPLIFIED: tuple[tuple[str, Check, str, ChangeFile], ...] = (
    ("an activation dropped", "parity", _SIMPLIFY, dropped("Relu", 11)),
    ("a residual sum that subtracts", "parity", _SIMPLIFY, another("Add", 6, "Sub")),
    (
        *("a product in the other order", "parity", f"{_SIMPLIFY}|ONNX Runtime cannot"),
        inputs_swapped("MatMul", 0),
    ),
    ("a constant 1 % larger", "parity", _SIMPLIFY, scalar("Div", 1.01)),
    ("another axis of the softmax", "parity", _SIMPLIFY, attribute("Softmax", 0, "axis", 0)),
    ("one channel 1.1 times as large", "parity", _SIMPLIFY, largest(first_channel(1.1))),
    (
        *("an operator that draws numbers", "export"),
        *("RandomNormalLike .* is not in the allow list", noise_operator),
    ),
    ("opset 12 in the header", "export", "opset is 12 instead of 11", opset(12)),
    ("the end of the file missing", "export", "is not a whole ONNX file", cut),
)
_BUILT: tuple[tuple[str, Check, str, ChangeFile], ...] = (
    ("a convolution's weights 1 % larger", "parity", _BUILD, largest(lambda w: w * 1.01)),
    ("one channel zero", "accuracy", "of every clip|top-1", largest(first_channel(0.0))),
    ("a layer in half precision", "parity", _BUILD, largest(lambda w: w.astype(np.float16))),
    ("an overflow of half precision", "parity", _BUILD, largest(lambda w: w * 1e6)),
)


def graph_faults() -> Iterable[Fault]:
    """Return the faults of the three files that stages leave."""
    for family, table, leaves in (
        ("export", _EXPORTED, functools.partial(stage_leaves, "onnx")),
        ("simplify", _SIMPLIFIED, functools.partial(stage_leaves, "simplified")),
        ("build", _BUILT, build_leaves),
    ):
        for name, check, finding, change in table:
            yield fault_of_run(family, name, check, finding, leaves(change))
    name = "the model of another batch"
    yield fault_of_run("build", name, "parity", _NO_RUN, _of_another_batch)
