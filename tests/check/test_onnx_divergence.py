import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

from harness.build.onnx_export import onnx_facts, write_onnx
from harness.build.simplify import write_simplified
from harness.build.torch_model import torch_model_from_spec
from harness.check import onnx_divergence, torch_divergence
from harness.check.onnx_divergence import first_divergent_node
from harness.check.torch_divergence import first_divergent_module
from harness.errors import RunError
from harness.models import nonlocal_r50, timesformer
from harness.runtimes.ort import open_graph
from harness.runtimes.ort.session import ort_session
from harness.spec import Feed, ModelSpec, TensorSpec

LIMIT = 1e-4


def divergent_node(source, target, feed):
    return first_divergent_node(source, target, feed, LIMIT) or "nothing"


def divergent_module(spec, exported, feed):
    return first_divergent_module(spec, None, exported, feed, LIMIT) or "nothing"


SMALL = {
    # Two of the four stages: the narrowest that mmaction2 builds with non-local blocks.
    "nonlocal": dataclasses.replace(
        nonlocal_r50.SPEC,
        overrides={
            "backbone": {
                "pretrained": None,
                "num_stages": 2,
                "strides": (1, 2),
                "dilations": (1, 1),
                "out_indices": (1,),
                "is_shift": False,
                "non_local": ((0, 0, 0), (1, 0, 1, 0)),
            },
            "cls_head": {"in_channels": 512, "num_classes": 10},
        },
        input=TensorSpec("video", (1, 8, 3, 32, 32)),
        output=TensorSpec("class", (1, 10)),
    ),
    "timesformer": dataclasses.replace(
        timesformer.SPEC,
        overrides={
            "backbone": {
                "pretrained": None,
                "embed_dims": 32,
                "num_heads": 4,
                "num_transformer_layers": 2,
                "img_size": 32,
            },
            "cls_head": {"in_channels": 32, "num_classes": 10},
        },
        input=TensorSpec("imgs", (1, 3, 3, 8, 32, 32)),
        output=TensorSpec("result", (3, 10)),
    ),
}


@dataclasses.dataclass(frozen=True)
class Files:
    spec: ModelSpec
    feed: Feed
    exported: Path
    simplified: Path
    optimized: Path


def noise(spec):
    values = np.random.default_rng(7).standard_normal(spec.input.shape)
    return {spec.input.name: values.astype(np.float32)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function that exports each small model once."""

    @functools.cache
    def make(name):
        return files_from_spec(SMALL[name], tmp_path_factory.mktemp(name))

    return make


@pytest.fixture
def files(request, made):
    return made(request.param)


@pytest.fixture
def built_once(monkeypatch):
    """Build each reference once; that building works is what the tests without this are for."""
    monkeypatch.setattr(torch_divergence, "torch_model_from_spec", cached_model)


@functools.cache
def cached_model_by_name(name):
    return torch_model_from_spec(next(s for s in SMALL.values() if s.name == name), None)


def cached_model(spec, checkpoint):
    assert checkpoint is None
    return cached_model_by_name(spec.name)


def files_from_spec(spec, folder):
    exported, simplified, optimized = (folder / f"{name}.onnx" for name in "abc")
    write_onnx(spec, 1, None, exported)
    write_simplified(spec, 1, exported, simplified)
    ort_session(simplified, optimized=optimized)
    return Files(spec, noise(spec), exported, simplified, optimized)


both = pytest.mark.parametrize("files", list(SMALL), indirect=True)
nonlocal_only = pytest.mark.parametrize("files", ["nonlocal"], indirect=True)
timesformer_only = pytest.mark.parametrize("files", ["timesformer"], indirect=True)


def scaled(name, factor):
    from onnx import numpy_helper

    def edit(graph):
        tensor = next(tensor for tensor in graph.initializer if tensor.name == name)
        values = numpy_helper.to_array(tensor) * np.float32(factor)
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    return edit


def swapped(name, op_type):
    def edit(graph):
        next(node for node in graph.node if node.name == name).op_type = op_type

    return edit


def averaged(name):
    def edit(graph):
        node = next(node for node in graph.node if node.name == name)
        node.op_type = "AveragePool"
        kept = [entry for entry in node.attribute if entry.name in {"kernel_shape", "strides"}]
        del node.attribute[:]
        node.attribute.extend(kept)

    return edit


def planted(source, target, edit):
    import onnx

    model = onnx.load(source)
    edit(model.graph)
    onnx.save(model, target)
    return target


CONV2 = "/backbone/layer2/layer2.0/block/conv2/conv/Conv"
CONV2_WEIGHT = "recognizer.backbone.layer2.0.block.conv2.conv.weight"
GAMMA = "recognizer.backbone.transformer_layers.layers.1.ffns.0.norm.weight"
FFN = "/backbone/transformer_layers/layers.1/ffns.0"
FAULTS = [
    pytest.param(
        "nonlocal",
        scaled(CONV2_WEIGHT, 1.1),
        f"{CONV2} (Conv), output {CONV2}_output_0, relative L2 1.0e-01, largest error ",
        f"recognizer.backbone.layer2.0.block.conv2.conv (Conv2d), node {CONV2}, ",
        id="conv-weight",
    ),
    pytest.param(
        "nonlocal",
        scaled(CONV2_WEIGHT, np.nan),
        f"{CONV2} (Conv), output {CONV2}_output_0, 16384 NaN or Inf values instead of 0; made here: its inputs are good; all ",
        f"recognizer.backbone.layer2.0.block.conv2.conv (Conv2d), node {CONV2}, ",
        id="nan-weight",
    ),
    pytest.param(
        "nonlocal",
        swapped("/backbone/layer1/layer1.1/Add", "Sub"),
        "/backbone/layer1/layer1.1/Add (Sub), output /backbone/layer1/layer1.1/Add_output_0, ",
        # The sum is no module of its own; the next one shows it.
        "recognizer.backbone.layer1.1.relu (ReLU), node /backbone/layer1/layer1.1/relu/Relu, ",
        id="residual",
    ),
    pytest.param(
        "nonlocal",
        averaged("/backbone/layer2/layer2.0/non_local_block/phi/g.1/MaxPool"),
        "/backbone/layer2/layer2.0/non_local_block/phi/g.1/MaxPool (AveragePool), ",
        # One pooling layer serves two branches; the second call is the wrong one.
        "recognizer.backbone.layer2.0.non_local_block.g.1 (MaxPool3d), "
        "node /backbone/layer2/layer2.0/non_local_block/phi/g.1/MaxPool, ",
        id="shared-module",
    ),
    pytest.param(
        "timesformer",
        scaled(GAMMA, 1.1),
        f"{FFN}/norm/Mul (Mul), output {FFN}/norm/Mul_output_0, relative L2 1.0e-01, largest error ",
        "recognizer.backbone.transformer_layers.layers.1.ffns.0.norm (LayerNorm), ",
        id="layer-norm",
    ),
    pytest.param(
        "timesformer",
        swapped(f"{FFN}/Add", "Sub"),
        f"{FFN}/Add (Sub), output {FFN}/Add_output_0, ",
        f"recognizer.backbone.transformer_layers.layers.1.ffns.0 (FFNWithNorm), node {FFN}/Add, ",
        id="ffn-sum",
    ),
    pytest.param(
        "timesformer",
        swapped("/backbone/transformer_layers/layers.0/attentions.1/attn/Softmax", "LogSoftmax"),
        "/backbone/transformer_layers/layers.0/attentions.1/attn/Softmax (LogSoftmax), ",
        "recognizer.backbone.transformer_layers.layers.0.attentions.1.attn (MultiheadAttention), ",
        id="attention",
    ),
    pytest.param(
        "timesformer",
        scaled("recognizer.cls_head.fc_cls.weight", 0.5),
        "/cls_head/fc_cls/Gemm (Gemm), output result, ",
        "recognizer.cls_head.fc_cls (Linear), node /cls_head/fc_cls/Gemm, output result, ",
        id="last-node",
    ),
]


@both
def test_the_same_file_does_not_diverge(files):
    assert first_divergent_node(files.exported, files.exported, files.feed, 0.0) is None


@both
def test_simplifying_and_optimising_do_not_diverge(files, tmp_path):
    optimized = tmp_path / "optimized.onnx"
    ort_session(files.exported, optimized=optimized)
    assert divergent_node(files.exported, files.simplified, files.feed) == "nothing"
    assert divergent_node(files.simplified, files.optimized, files.feed) == "nothing"
    assert divergent_node(files.exported, optimized, files.feed) == "nothing"


@both
def test_pytorch_and_its_export_do_not_diverge(files):
    assert divergent_module(files.spec, files.exported, files.feed) == "nothing"


@both
def test_every_module_that_computes_has_a_node(files):
    model = cached_model(files.spec, None)
    calls, _ = torch_divergence._run_modules(model, files.spec, files.feed, ())
    taps = torch_divergence._module_taps(calls, open_graph.nodes_from_onnx(files.exported))
    matched = {tap.label.split(",")[0] for tap in taps}
    unmatched = {call.label.split()[1] for call in calls if call.label not in matched}
    assert unmatched <= {"(Dropout)", "(DropPath)"}
    assert len(calls) > 50


@pytest.mark.usefixtures("built_once")
@pytest.mark.parametrize(("files", "edit", "node", "module"), FAULTS, indirect=["files"])
def test_names_the_node_and_the_module_of_a_planted_fault(files, edit, node, module, tmp_path):
    faulty = planted(files.exported, tmp_path / "faulty.onnx", edit)
    assert divergent_node(files.exported, faulty, files.feed).startswith(node)
    found = divergent_module(files.spec, faulty, files.feed)
    assert found.startswith(module)
    assert "tensors before it agree" in found


@nonlocal_only
def test_names_the_convolution_that_took_in_a_normalisation(files, tmp_path):
    faulty, simplified = tmp_path / "faulty.onnx", tmp_path / "simplified.onnx"
    planted(files.exported, faulty, scaled(CONV2_WEIGHT, 1.1))
    write_simplified(files.spec, 1, faulty, simplified)
    assert "BatchNormalization" not in onnx_facts(simplified)["ops"]
    found = divergent_node(files.exported, simplified, files.feed)
    assert found.startswith(f"{CONV2} (Conv), output {CONV2}_output_0, relative L2 ")


@nonlocal_only
def test_names_the_first_tensor_that_an_optimised_graph_still_has(files, tmp_path):
    faulty, optimized = tmp_path / "faulty.onnx", tmp_path / "optimized.onnx"
    planted(files.exported, faulty, scaled(CONV2_WEIGHT, 1.1))
    ort_session(faulty, optimized=optimized)
    found = divergent_node(files.simplified, optimized, files.feed)
    assert "output /backbone/layer2/layer2.0/" in found
    assert "can be compared)" in found


@timesformer_only
def test_names_a_fused_node(files, tmp_path):
    faulty, optimized = tmp_path / "faulty.onnx", tmp_path / "optimized.onnx"
    planted(files.exported, faulty, scaled(GAMMA, 1.1))
    ort_session(faulty, optimized=optimized)
    found = divergent_node(files.simplified, optimized, files.feed)
    assert "(LayerNormalization)" in found
    assert f"output {FFN}/norm/Add_1_output_0, relative L2 " in found


@pytest.mark.usefixtures("built_once")
@timesformer_only
def test_small_chunks_find_the_same(files, tmp_path, monkeypatch):
    faulty = planted(files.exported, tmp_path / "faulty.onnx", swapped(f"{FFN}/Add", "Sub"))
    whole = divergent_node(files.exported, faulty, files.feed)
    monkeypatch.setattr(onnx_divergence, "MAX_CHUNK_BYTES", 1_000_000)
    assert divergent_node(files.exported, faulty, files.feed) == whole
    module = divergent_module(files.spec, faulty, files.feed)
    assert ".layers.1.ffns.0 (FFNWithNorm)" in module


def chain(path, *ops, name="x", **attributes):
    """Write a graph of unary operators; the tensor after the n-th is called ``tn``."""
    import onnx
    from onnx import helper

    nodes = [
        helper.make_node(op, [f"t{i - 1}" if i else name], [f"t{i}"], f"n{i}", **attributes)
        for i, op in enumerate(ops)
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3])]
    outputs = [helper.make_tensor_value_info(f"t{len(ops) - 1}", onnx.TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "chain", values, outputs)
    opsets = [helper.make_opsetid("", 11)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


X = {"x": np.array([[-1.0, 0.5, 2.0], [3.0, -4.0, 5.0]], dtype=np.float32)}


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (("Neg", "Log", "Abs"), ("Neg", "Log", "Abs"), "nothing"),
        (
            ("Neg", "Abs"),
            ("Neg", "Log"),
            "n1 (Log), output t1, 4 NaN or Inf values instead of 0",
        ),
        (
            ("Neg", "Log"),
            ("Neg", "Abs"),
            "n1 (Abs), output t1, 0 NaN or Inf values instead of 4",
        ),
        (("Abs", "Transpose"), ("Abs", "Identity"), "n1 (Identity), output t1, relative L2 "),
        (("Abs", "Identity"), ("Abs", "Flatten"), "nothing"),
        (
            ("Neg", "Abs"),
            ("Abs", "Abs"),
            "n0 (Abs), output t0, relative L2 1.7e+00, largest error 1.0e+01; made here: ",
        ),
        (("Sign", "Abs"), ("Sign", "Ceil"), "n1 (Ceil), output t1, relative L2 "),
    ],
)
def test_what_counts_as_divergence(source, target, expected, tmp_path):
    first, second = chain(tmp_path / "a.onnx", *source), chain(tmp_path / "b.onnx", *target)
    found = divergent_node(first, second, X)
    assert found.startswith(expected)


def test_anything_is_far_from_zero(tmp_path):
    first, second = chain(tmp_path / "a.onnx", "Relu"), chain(tmp_path / "b.onnx", "Neg")
    negative = {"x": np.full((2, 3), -1.0, dtype=np.float32)}
    found = divergent_node(first, second, negative)
    assert found == (
        "n0 (Neg), output t0, relative L2 inf, largest error 1.0e+00; made here: its inputs are good; "
        "it is the first (1 of 1 can be compared)"
    )
    assert first_divergent_node(first, first, negative, 0.0) is None


def test_tensors_are_asked_for_within_the_limit(tmp_path, monkeypatch):
    asked = []
    run = open_graph.OpenGraph.run

    def spy(graph, names, feed):
        asked.append(list(names))
        return run(graph, names, feed)

    monkeypatch.setattr(open_graph.OpenGraph, "run", spy)
    monkeypatch.setattr(onnx_divergence, "MAX_CHUNK_BYTES", 2 * 4 * 6)
    path = chain(tmp_path / "a.onnx", "Neg", "Abs", "Relu")
    assert first_divergent_node(path, path, X, 0.0) is None
    assert asked == [["t0", "t1"], ["t0", "t1"], ["t2"], ["t2"]]


def test_files_without_a_common_tensor_have_nothing_to_name(tmp_path):
    def rename(graph):
        graph.node[0].output[0] = graph.output[0].name = "other"

    path = chain(tmp_path / "a.onnx", "Neg")
    other = planted(path, tmp_path / "b.onnx", rename)
    assert divergent_node(path, other, X) == "nothing"


def test_what_onnx_runtime_refuses_is_a_run_error(tmp_path):
    good, unknown = chain(tmp_path / "a.onnx", "Neg"), chain(tmp_path / "b.onnx", "NoSuchOperator")
    text = tmp_path / "c.onnx"
    text.write_text("no protobuf")
    with pytest.raises(RunError, match=r"cannot run .*a\.onnx"):
        first_divergent_node(good, good, {"x": np.zeros((9, 9), dtype=np.float32)}, LIMIT)
    with pytest.raises(RunError, match=r"cannot load .*b\.onnx"):
        divergent_node(good, unknown, X)
    with pytest.raises(RunError, match=r"c\.onnx is not an ONNX file"):
        divergent_node(text, good, X)


def model_of_repeated_calls():
    """Build a model that calls modules again, and one that returns something other than a tensor."""
    import torch

    class Named(torch.nn.Module):
        def forward(self, values):
            return {"values": values.sin()}

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh())
            self.named = Named()

        def forward(self, values):
            values = self.named(self.block(self.block(values)))["values"]
            return self.block[1](self.block[1](values))

    torch.manual_seed(0)
    return Twice().eval().requires_grad_(False)


@pytest.fixture
def twice(tmp_path, monkeypatch):
    model = model_of_repeated_calls()
    for module in ("harness.check.torch_divergence", "harness.build.onnx_export"):
        monkeypatch.setattr(f"{module}.torch_model_from_spec", lambda spec, checkpoint: model)
    spec = dataclasses.replace(
        SMALL["nonlocal"], input=TensorSpec("x", (2, 3)), output=TensorSpec("y", (2, 3))
    )
    write_onnx(spec, 1, None, tmp_path / "twice.onnx")
    return spec, tmp_path / "twice.onnx"


@pytest.mark.parametrize(
    "node", ["/block/block.1/Tanh", "/block/block.1_1/Tanh", "/block.1_1/Tanh"]
)
def test_names_the_call_of_a_module_that_is_called_again(twice, node, tmp_path):
    spec, path = twice
    assert divergent_module(spec, path, X) == "nothing"
    faulty = planted(path, tmp_path / "faulty.onnx", swapped(node, "Sin"))
    found = divergent_module(spec, faulty, X)
    assert found.startswith(f"block.1 (Tanh), node {node}, ")


def test_a_module_that_seems_to_end_in_another_shape_is_left_out(twice, tmp_path):
    from onnx import helper

    spec, path = twice

    def add_aside(graph):
        index = [node.name for node in graph.node].index("/block/block.1/Tanh")
        tensor = graph.node[index].output[0]
        name = "/block/block.1/Flatten"
        graph.node.insert(index + 1, helper.make_node("Flatten", [tensor], ["aside"], name, axis=0))

    faulty = planted(path, tmp_path / "faulty.onnx", add_aside)
    assert divergent_module(spec, faulty, X) == "nothing"
