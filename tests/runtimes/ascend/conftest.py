import dataclasses
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from harness.registry import device
from harness.runtimes.ascend.environment import CannTools
from harness.spec import Artifact, DeviceModel, InputProtocol, ModelSpec, OnnxModel, TensorSpec

EMULATOR = Path(__file__).parents[2] / "emulator"
CLASSES = 5


def protocol(crop_count):
    mean = (0.0, 0.0, 0.0)
    return InputProtocol("uniform", 2, 1, 4, 4, crop_count, mean, mean, "TCHW")


def tiny_spec(name="tsm_tiny", crops=1):
    return ModelSpec(
        name=name,
        config="none.py",
        overrides={},
        checkpoint="none-00000000.pth",
        dataset="motion8",
        class_count=CLASSES,
        input=TensorSpec("video", (1, crops, 3, 4, 4)),
        output=TensorSpec("class", (crops, CLASSES)),
        softmax_in_graph=False,
        protocol=protocol(crops),
    )


def write_onnx(path, spec, batch, opset=11, op="Relu"):
    """A model that flattens each crop and multiplies it with seeded weights."""
    import onnx
    from onnx import helper, numpy_helper

    weight = np.random.default_rng(7).normal(size=(48, CLASSES)).astype(np.float32)
    constants = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.array([-1, 48], np.int64), "rows"),
    ]
    nodes = [
        helper.make_node("Reshape", [spec.input.name, "rows"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
        helper.make_node(op, ["scores"], [spec.output.name], name=f"{op}_1"),
    ]
    taken, given = spec.tensors_of_file(batch)
    graph = helper.make_graph(
        nodes,
        "tiny",
        list(map(tensor_info, taken)),
        [tensor_info(given)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def tensor_info(tensor):
    from onnx import TensorProto, helper

    dims = ["batch" if size == -1 else size for size in tensor.shape]
    return helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, dims)


def tiny_onnx(folder, spec=None, batch=1, **options):
    spec = spec or tiny_spec()
    path = write_onnx(folder / f"{spec.name}_bs{batch}.onnx", spec, batch, **options)
    return OnnxModel(spec, batch, "seeded", Artifact("onnx", path, "0" * 64, {}))


CHANNELS, DIM = 5, 8


def video_network(path, spec):
    """Write a graph with everything that a video classifier is made of, named as exporters do."""
    import onnx
    from onnx import helper, numpy_helper

    random = np.random.default_rng(11)
    constants, nodes = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def normal(name, *shape):
        return constant(name, (random.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32))

    def node(op, name, inputs, **attributes):
        nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    x = node("Reshape", "/split/Reshape", ["video", constant("frames", np.array([-1, 3, 4, 4]))])
    x = node("Conv", "/stem/Conv", [x, normal("w0", CHANNELS, 3, 1, 1)], kernel_shape=[1, 1])
    a = node("Conv", "/body/Conv", [x, normal("w1", CHANNELS, CHANNELS, 3, 3)], pads=[1, 1, 1, 1])
    a = node("Relu", "/body/Relu", [a])
    x = node("Add", "/body/Add", [a, x])
    x = node("Reshape", "/tokens/Reshape", [x, constant("tokens", np.array([-1, CHANNELS, 16]))])
    q = node("MatMul", "/attn/q/MatMul", [x, normal("wq", 16, DIM)])
    k = node("MatMul", "/attn/k/MatMul", [x, normal("wk", 16, DIM)])
    v = node("MatMul", "/attn/v/MatMul", [x, normal("wv", 16, 16)])
    kt = node("Transpose", "/attn/Transpose", [k], perm=[0, 2, 1])
    s = node("Softmax", "/attn/Softmax", [node("MatMul", "/attn/MatMul", [q, kt])], axis=2)
    x = node("Add", "/attn/Add", [node("MatMul", "/attn/MatMul_1", [s, v]), x])
    mean = node("ReduceMean", "/norm/ReduceMean", [x], axes=[-1])
    less = node("Sub", "/norm/Sub", [x, mean])
    square = node("Pow", "/norm/Pow", [less, constant("two", np.float32(2))])
    var = node("ReduceMean", "/norm/ReduceMean_1", [square], axes=[-1])
    var = node("Add", "/norm/Add", [var, constant("eps", np.float32(1e-5))])
    x = node("Div", "/norm/Div", [less, node("Sqrt", "/norm/Sqrt", [var])])
    x = node("Mul", "/norm/Mul", [x, normal("gamma", 16)])
    x = node("Add", "/norm/Add_1", [x, normal("beta", 16)])
    x = node("Flatten", "/Flatten", [x])
    scores = node("MatMul", "/head/MatMul", [x, normal("wh", 16 * CHANNELS, 5)])
    nodes[-1].output[0] = "class"
    assert scores
    taken, given = spec.tensors_of_file(1)
    graph = helper.make_graph(
        nodes,
        "video",
        list(map(tensor_info, taken)),
        [tensor_info(given)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def video_model(folder, batch=1, gears=()):
    spec = dataclasses.replace(tiny_spec("video"), gears=gears)
    path = video_network(folder / "video.onnx", spec)
    return OnnxModel(spec, batch, "seeded", Artifact("onnx", path, "0" * 64, {}))


def random_feed(onnx, seed=0):
    shape = onnx.inputs[0].shape
    return {"video": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}


def expected_output(onnx, feed):
    import onnxruntime as ort

    session = ort.InferenceSession(str(onnx.artifact.path), providers=["CPUExecutionProvider"])
    return session.run(None, dict(feed))[0]


def emulator_variables():
    """What puts the emulator in place of the real tools."""
    return {
        "PATH": os.pathsep.join([str(EMULATOR), os.environ["PATH"]]),
        "PYTHONPATH": str(EMULATOR),
        "EMULATOR_PYTHON": sys.executable,
        "EMULATOR_LATENCY_MS": "5",
    }


class Bench:
    """The emulator on PATH, with a device and models made in a folder of their own."""

    def __init__(self, folder, monkeypatch, cache):
        self.folder, self.monkeypatch, self.cache = folder, monkeypatch, cache
        for name, value in emulator_variables().items():
            monkeypatch.setenv(name, value)
        for name in ("EMULATOR_FAULT", "ASCEND_RT_VISIBLE_DEVICES", "ASCEND_TOOLKIT_HOME"):
            monkeypatch.delenv(name, raising=False)
        self.said = []
        self.tools = CannTools(
            python=sys.executable,
            ascend_root=folder / "none",
            device_root=folder,
            scratch=folder / "scratch",
            locks=folder / "locks",
            logs=folder / "logs",
            settle_s=0.1,
        )
        (folder / "scratch").mkdir()

    def device(self, **tools):
        made = dataclasses.replace(self.tools, **tools)
        return dataclasses.replace(device("ascend310p"), tools=made, say=self.said.append)

    def fault(self, name):
        self.monkeypatch.setenv("EMULATOR_FAULT", name)

    def built_before(self, onnx):
        """Like ``built``, with the atc of the first test that asked for such a model."""
        key = (onnx.spec.name, onnx.spec.label_of_file(onnx.batch))
        if key not in self.cache:
            model = self.built(onnx)
            self.cache[key] = model.artifact.path.read_bytes(), model.artifact.provenance
        content, facts = self.cache[key]
        target = self.folder / f"{onnx.spec.name}_bs{onnx.batch}.om"
        target.write_bytes(content)
        return DeviceModel(onnx, "ascend310p", Artifact("om", target, "1" * 64, facts))

    def built(self, onnx, device=None):
        target = self.folder / f"{onnx.spec.name}_bs{onnx.batch}.om"
        facts = (device or self.device()).build(onnx, target)
        return DeviceModel(onnx, "ascend310p", Artifact("om", target, "1" * 64, facts))


@pytest.fixture(params=["2023", "2025"])
def generation(request, monkeypatch):
    monkeypatch.setenv("EMULATOR_GENERATION", request.param)
    return request.param


@pytest.fixture(scope="session")
def cache_of_models():
    return {}


@pytest.fixture
def bench(tmp_path, monkeypatch, cache_of_models):
    return Bench(tmp_path, monkeypatch, cache_of_models)


@pytest.fixture(scope="session")
def emulator_environment():
    return emulator_variables()


@pytest.fixture(scope="session")
def make():
    """The functions above, since a test module cannot import a conftest."""
    return types.SimpleNamespace(
        tiny_spec=tiny_spec,
        tiny_onnx=tiny_onnx,
        video_model=video_model,
        random_feed=random_feed,
        expected_output=expected_output,
    )
