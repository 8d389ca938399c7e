import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.build.onnx_export import onnx_problems
from harness.build.onnx_file import OpenFile, proto_from_file, write_for_batch
from harness.errors import CheckpointError, ExportError
from harness.predict.run import feed_from_tensors
from tests.bare_onnx import slow_fast_proto, slow_fast_spec, stored


def clips(spec, count):
    shape = (count, *spec.protocol.sample_shape)
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def dim_of(proto, name, place):
    value = next(one for one in proto.graph.input if one.name == name)
    return value.type.tensor_type.shape.dim[place]


def written(tmp_path, proto, batch=2, **changes):
    path = stored(tmp_path, proto)
    spec = dataclasses.replace(slow_fast_spec(path.name), **changes)
    return spec, write_for_batch(spec, batch, path, tmp_path / "out.onnx")


def test_a_file_for_any_batch_becomes_one_for_each(tmp_path):
    spec, facts = written(tmp_path, slow_fast_proto(), batch=3)
    target = tmp_path / "out.onnx"
    assert onnx_problems(target, spec.batched_inputs(3), spec.output.batched(3), 11) == []
    assert (facts["ops"]["Conv"], facts["opset_of_file"]) == (2, 11)


def test_gears_leave_the_batch_open(tmp_path):
    spec, _ = written(tmp_path, slow_fast_proto(), gears=(1, 4))
    tensors = spec.tensors_of_file(1)
    assert onnx_problems(tmp_path / "out.onnx", *tensors, 11) == []
    assert [one.shape[0] for one in tensors[0]] == [-1, -1]
    with pytest.raises(ExportError, match="export it again with a symbolic first dimension"):
        written(tmp_path, slow_fast_proto(batch=1), gears=(1, 4))


def test_every_symbolic_size_gets_what_is_declared(tmp_path):
    proto = slow_fast_proto()
    for name in ("slow", "fast"):
        for place in (3, 4):
            dim_of(proto, name, place).dim_param = "side"
    spec, _ = written(tmp_path, proto)
    assert (
        onnx_problems(tmp_path / "out.onnx", spec.batched_inputs(2), spec.output.batched(2), 11)
        == []
    )


def test_an_older_opset_is_raised(tmp_path):
    proto = slow_fast_proto(opset=9)
    assert written(tmp_path, proto)[1]["opset_of_file"] == 9


def test_operators_without_a_name_get_one(tmp_path):
    proto = slow_fast_proto()
    proto.graph.node[0].name = ""
    written(tmp_path, proto)
    assert onnx.load(tmp_path / "out.onnx").graph.node[0].name == "Conv_0"


def renamed(proto):
    proto.graph.input[0].name = "other"
    proto.graph.node[0].input[0] = "other"


def fixed(proto):
    dim_of(proto, "fast", 2).dim_value = 7


def in_two_sizes(proto):
    dim_of(proto, "slow", 2).dim_param = "frames"
    dim_of(proto, "fast", 2).dim_param = "frames"


def in_half(proto):
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (renamed, "takes other, fast, slow_fast declares slow, fast"),
        (fixed, r"its input fast is fixed to \[-1, 3, 7, 16, 16\], not \[2, 3, 8, 16, 16\]"),
        (in_two_sizes, "its symbolic dimension frames is 2 in one place and 8 in another"),
        (in_half, "its input slow is float16; this suite feeds float32"),
    ],
)
def test_a_file_that_cannot_be_what_is_declared_is_refused(tmp_path, change, said):
    proto = slow_fast_proto()
    change(proto)
    with pytest.raises(ExportError, match=said):
        written(tmp_path, proto)


def test_a_file_of_one_batch_size_is_refused_at_another(tmp_path):
    with pytest.raises(ExportError, match="export it again with a symbolic first dimension"):
        written(tmp_path, slow_fast_proto(batch=1))


def test_a_newer_opset_is_not_brought_down(tmp_path):
    proto = slow_fast_proto(opset=13)
    with pytest.raises(
        ExportError, match=r"it has opset 13, .* declares 11: export it again at opset"
    ):
        written(tmp_path, proto)
    assert written(tmp_path, proto, opset=13)[1]["opset_of_file"] == 13


def outside(path):
    """Let a file keep its weights beside its folder."""
    proto = slow_fast_proto()
    tensor = proto.graph.initializer[0]
    (path.parent.parent / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../weights.bin"
    path.write_bytes(proto.SerializeToString())


def with_weights_beside(path):
    onnx.save(
        slow_fast_proto(), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )


def with_two_inputs_of_one_name(path):
    proto = slow_fast_proto()
    proto.graph.input[1].name = "slow"
    path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            outside,
            "1 weights in another file, ../weights.bin, outside its folder, so its own sha256",
        ),
        (with_weights_beside, "3 weights in another file, w.bin, so its own sha256"),
        (with_two_inputs_of_one_name, "has two inputs named slow, so nothing says which is fed"),
        (lambda path: path.write_bytes(b"\xff" * 99), "is not an ONNX file"),
        (lambda path: path.write_bytes(b""), "is not an ONNX file: it has no operators"),
        (lambda path: None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_whole_model_is_refused(tmp_path, write, said):
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder / "model.onnx")
    with pytest.raises(CheckpointError, match=said):
        proto_from_file(folder / "model.onnx")


@pytest.mark.parametrize("own", ["N", 1, 4])
def test_a_file_runs_batches_of_any_size(tmp_path, own):
    path, spec = stored(tmp_path, slow_fast_proto(batch=own)), slow_fast_spec()
    model, five = OpenFile(spec, path), clips(spec, 5)
    singly = np.concatenate(
        [model.run(feed_from_tensors(spec, 1, [clip]))["class"] for clip in five]
    )
    whole = feed_from_tensors(spec, 5, five)
    np.testing.assert_allclose(model.run(whole)["class"], singly, atol=1e-6)
    exact = model.run_exactly(whole)["class"]
    assert exact.dtype == np.float64
    np.testing.assert_allclose(exact, singly, atol=1e-6)


def test_float64_normalises_by_the_statistics_of_training(tmp_path):
    """ONNX's reference takes those of the batch where an old opset gives a momentum."""
    proto = slow_fast_proto()
    values = np.array([1.5, 0.2, 0.7, 0.9] * 2, np.float32)
    names = ("scale", "bias", "mean", "var")
    proto.graph.initializer.extend(
        numpy_helper.from_array(values + place, name) for place, name in enumerate(names)
    )
    proto.graph.node[-1].input[0] = "normal"
    norm = helper.make_node("BatchNormalization", ["scores", *names], ["normal"], momentum=0.9)
    proto.graph.node.insert(len(proto.graph.node) - 1, norm)
    spec = slow_fast_spec()
    model = OpenFile(spec, stored(tmp_path, proto))
    feed = feed_from_tensors(spec, 3, clips(spec, 3))
    np.testing.assert_allclose(
        model.run_exactly(feed)["class"], model.run(feed)["class"], atol=1e-6
    )
