import dataclasses

import numpy as np
import pytest

from harness.build import onnx_export
from harness.build.onnx_export import onnx_facts, onnx_problems, op_counts, write_onnx
from harness.build.simplify import write_simplified
from harness.build.torch_model import run_torch, torch_model_from_spec
from harness.errors import ExportError
from harness.runtimes.ort.operators import OPSET11_OPS
from harness.runtimes.ort.session import ort_session
from harness.spec import TensorSpec

FAMILIES = ("nonlocal", "timesformer")
X, Y = TensorSpec("x", (2, 3)), TensorSpec("y", (2, 3))


def problems(path):
    return onnx_problems(path, [X], Y, 11)


@pytest.fixture(params=[(family, batch) for family in FAMILIES for batch in (1, 2)], ids=str)
def case(request, exported):
    """Family, batch, spec, path and facts of an exported file."""
    return (*request.param, *exported(*request.param))


def test_the_file_is_as_declared(case):
    import onnx

    _, batch, spec, path, _ = case
    onnx.checker.check_model(str(path), full_check=True)
    proto = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 11)]
    for values, declared in ((proto.graph.input, spec.input), (proto.graph.output, spec.output)):
        assert [value.name for value in values] == [declared.name]
        dims = values[0].type.tensor_type.shape.dim
        assert all(dim.HasField("dim_value") for dim in dims)
        assert tuple(dim.dim_value for dim in dims) == declared.batched(batch).shape


def test_all_weights_are_in_it_under_their_names(case, request):
    import onnx
    from onnx import numpy_helper

    family, _, _, path, facts = case
    initializers = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    state = request.getfixturevalue(f"{family}_model").state_dict()
    used = {name for name in state if not name.endswith("num_batches_tracked")}
    assert used == set(initializers)
    for name in used:
        np.testing.assert_array_equal(initializers[name], state[name].numpy())
    assert facts["weight_bytes"] == sum(value.nbytes for value in initializers.values())


def test_onnx_runtime_computes_what_pytorch_computes(case, request):
    family, batch, spec, path, _ = case
    shape = spec.input.batched(batch).shape
    feed = {spec.input.name: np.random.default_rng(batch).standard_normal(shape, np.float32)}
    expected = run_torch(request.getfixturevalue(f"{family}_model"), spec, feed)[spec.output.name]
    (actual,) = ort_session(path).run(None, feed)
    assert actual.shape == spec.output.batched(batch).shape
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_operators_are_those_of_the_opset(case):
    *_, path, facts = case
    assert set(facts["ops"]) <= OPSET11_OPS
    assert facts == {**onnx_facts(path), "multiply_adds": facts["multiply_adds"]}


def test_the_graph_shows_its_non_local_blocks_and_its_shifts(exported):
    _, _, facts = exported("nonlocal", 1)
    # Two products a block: of theta with phi, and of that with g.
    assert facts["ops"]["MatMul"] == 2 * 5
    # Three parts of the channels, and of two of them a part moved and a part cleared.
    assert facts["ops"]["Slice"] == 7 * 16
    assert facts["ops"]["Softmax"] == 1


def test_a_plain_network_shows_neither(narrow_nonlocal, tmp_path):
    no_blocks = tuple((0,) * count for count in (3, 4, 6, 3))
    backbone = narrow_nonlocal.overrides["backbone"] | {"is_shift": False, "non_local": no_blocks}
    plain = dataclasses.replace(
        narrow_nonlocal, overrides=narrow_nonlocal.overrides | {"backbone": backbone}
    )
    ops = write_onnx(plain, 1, None, tmp_path / "plain.onnx")["ops"]
    assert "MatMul" not in ops
    assert "Slice" not in ops


@pytest.mark.parametrize(("dim", "sizes"), [(1, (3, 4)), (-1, (2, 6)), (1, (3, -1))])
def test_unflatten_is_written_at_opset_11(tiny_spec, tmp_path, torch, monkeypatch, dim, sizes):
    class Unflatten(torch.nn.Module):
        def forward(self, clips):
            return clips.unflatten(dim, sizes)

    shape = tuple(torch.zeros(2, 12).unflatten(dim, sizes).shape)
    spec = dataclasses.replace(
        tiny_spec, input=TensorSpec("x", (2, 12)), output=TensorSpec("y", shape)
    )
    monkeypatch.setattr(onnx_export, "torch_model_from_spec", lambda *_: Unflatten())
    path = tmp_path / "m.onnx"
    assert write_onnx(spec, 1, None, path)["ops"] == {"Constant": 1, "Reshape": 1}
    feed = np.arange(24, dtype=np.float32).reshape(2, 12)
    np.testing.assert_array_equal(ort_session(path).run(None, {"x": feed})[0], feed.reshape(shape))


def test_one_file_serves_every_gear(narrow_nonlocal, tmp_path, torch):
    spec = dataclasses.replace(narrow_nonlocal, gears=(1, 3))
    exported, simplified = tmp_path / "m.onnx", tmp_path / "sim.onnx"
    write_onnx(spec, 3, None, exported)
    write_simplified(spec, 3, exported, simplified)
    model = torch_model_from_spec(spec, None)
    clips = np.random.default_rng(5).normal(size=(3, *spec.input.shape[1:])).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(clips)).numpy()
    for path in (exported, simplified):
        session = ort_session(path)
        for batch in spec.gears:
            rows = session.run(None, {"video": clips[:batch]})[0]
            np.testing.assert_allclose(rows, expected[:batch], rtol=1e-4)
    assert onnx_problems(simplified, *narrow_nonlocal.tensors_of_file(3), 11) == [
        "input video is float32 [-1, 8, 3, 64, 64] instead of float32 [3, 8, 3, 64, 64]",
        "output class is float32 [-1, 5] instead of float32 [3, 5]",
    ]


def test_attention_has_no_gears(narrow_timesformer, tmp_path):
    spec = dataclasses.replace(narrow_timesformer, gears=(1, 2))
    with pytest.raises(ExportError, match="MultiheadAttention cannot be exported with an open"):
        write_onnx(spec, 1, None, tmp_path / "m.onnx")


def test_an_operator_that_the_exporter_refuses(tiny_spec, tmp_path, torch, monkeypatch):
    class Unusual(torch.nn.Module):
        def forward(self, clips):
            return torch.special.bessel_j0(clips)

    monkeypatch.setattr(onnx_export, "torch_model_from_spec", lambda *_: Unusual())
    with pytest.raises(ExportError, match=r"refused tiny at batch 4, opset 11: .*bessel_j0"):
        write_onnx(tiny_spec, 4, None, tmp_path / "m.onnx")


def test_a_model_that_gives_something_else_than_declared(tiny_spec, tmp_path, torch, monkeypatch):
    class Narrow(torch.nn.Module):
        def forward(self, clips):
            return clips[:, :2] * 2

    monkeypatch.setattr(onnx_export, "torch_model_from_spec", lambda *_: Narrow())
    expected = r"tiny at batch 1 was exported wrongly: output y is float32 \[2, 2\] instead of"
    with pytest.raises(ExportError, match=expected):
        write_onnx(tiny_spec, 1, None, tmp_path / "m.onnx")


@pytest.fixture
def saved(tmp_path):
    def save(proto):
        path = tmp_path / "m.onnx"
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        return path

    return save


def test_a_sound_file_has_no_problems(saved, tiny_onnx):
    assert problems(saved(tiny_onnx())) == []


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"opset": 13}, ["opset is 13 instead of 11"]),
        (
            {"shape": (None, 3)},
            [
                "input x is float32 [-1, 3] instead of float32 [2, 3]",
                "output y is float32 [-1, 3] instead of float32 [2, 3]",
            ],
        ),
        (
            {"shape": ("batch", 3)},
            [
                "input x is float32 [-1, 3] instead of float32 [2, 3]",
                "output y is float32 [-1, 3] instead of float32 [2, 3]",
            ],
        ),
        (
            {"shape": (4, 3)},
            [
                "input x is float32 [4, 3] instead of float32 [2, 3]",
                "output y is float32 [4, 3] instead of float32 [2, 3]",
            ],
        ),
        ({"more_inputs": ("mask",)}, ["inputs are ['x', 'mask'] instead of ['x']"]),
        (
            {"dtype": 10},
            [
                "input x is float16 [2, 3] instead of float32 [2, 3]",
                "output y is float16 [2, 3] instead of float32 [2, 3]",
            ],
        ),
    ],
)
def test_everything_that_is_wrong_is_named(saved, tiny_onnx, wrong, expected):
    assert problems(saved(tiny_onnx(**wrong))) == expected


def test_a_foreign_operator_is_no_sound_file(saved, tiny_onnx):
    (problem,) = problems(saved(tiny_onnx(op="Nonsense")))
    assert "Nonsense" in problem


def test_names_that_differ(saved, tiny_onnx):
    path = saved(tiny_onnx())
    found = onnx_problems(path, [TensorSpec("video", (2, 3))], TensorSpec("class", (2, 3)), 11)
    assert found == [
        "inputs are ['x'] instead of ['video']",
        "outputs are ['y'] instead of ['class']",
    ]


def test_an_output_that_is_no_tensor(saved, tiny_onnx):
    from onnx import TensorProto, helper

    proto = tiny_onnx()
    proto.graph.node[1].CopyFrom(helper.make_node("SequenceConstruct", ["r"], ["y"]))
    proto.graph.output[0].CopyFrom(
        helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    )
    assert problems(saved(proto)) == ["output y is no tensor [] instead of float32 [2, 3]"]


@pytest.mark.parametrize("content", [b"", b"garbage" * 30])
def test_a_file_that_is_no_onnx(saved, content):
    (problem,) = problems(saved(content))
    assert problem.startswith("onnx.checker: ")


@pytest.mark.parametrize("kept", [40, -5])
def test_a_truncated_file(saved, tiny_onnx, kept):
    (problem,) = problems(saved(tiny_onnx().SerializeToString()[:kept]))
    assert problem.startswith("onnx.checker: ")


def test_a_missing_file(tmp_path):
    (problem,) = problems(tmp_path / "none.onnx")
    assert "none.onnx" in problem


def test_operators_of_subgraphs_and_of_other_domains_count():
    from onnx import helper

    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "branch", [], [])
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Gelu", ["y"], ["z"], domain="com.microsoft"),
        helper.make_node("Relu", ["z"], ["w"]),
    ]
    proto = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert op_counts(proto) == {"If": 1, "Relu": 3, "com.microsoft::Gelu": 1}


def test_weights_are_counted_by_their_type(saved, tiny_onnx):
    from onnx import numpy_helper

    proto = tiny_onnx()
    for name, dtype in (("a", np.float32), ("b", np.float16), ("c", np.int64)):
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(5, dtype), name))
    assert onnx_facts(saved(proto)) == {"ops": {"Add": 1, "Relu": 1}, "weight_bytes": 70}
