import dataclasses

import pytest
from onnx import TensorProto

from harness.build.onnx_declaration import declared_from_file
from harness.errors import CheckpointError, InputError
from harness.registry import model_spec
from harness.spec import TensorSpec
from tests.bare_onnx import FRAMES, mean_proto, slow_fast_proto, slow_fast_spec, stored

TINY = model_spec("nonlocal_tiny")
BOTH = dict(zip(("slow", "fast"), FRAMES, strict=True))


def declared(path, protocol=TINY.protocol, frames=None):
    fields = {"name": "mine", "dataset": "motion8", "config": TINY.config}
    return declared_from_file(path, protocol, frames or {}, **fields)


@pytest.mark.parametrize(
    ("proto", "frozen", "opset", "softmax"),
    [
        (mean_proto(), None, 11, True),
        (mean_proto(shape=(1, 8, 3, 64, 64), last="Relu"), 1, 11, False),
        (mean_proto(shape=(4, 8, 3, 64, 64), opset=13), 4, 13, True),
        (mean_proto(opset=9), None, 11, True),
    ],
    ids=["any batch", "one clip", "four clips at opset 13", "opset 9"],
)
def test_a_file_declares_its_tensors_batch_size_and_opset(tmp_path, proto, frozen, opset, softmax):
    spec = declared(stored(tmp_path, proto, "means"))
    assert spec.inputs == (TensorSpec("video", (1, 8, 3, 64, 64)),)
    assert (spec.output, spec.class_count) == (TensorSpec("class", (1, 8)), 8)
    assert (spec.frozen_batch, spec.opset) == (frozen, opset)
    assert (spec.softmax_in_graph, spec.protocol) == (softmax, TINY.protocol)
    assert spec.checkpoint.endswith(".onnx")


def test_views_are_rows_of_a_sample(tmp_path):
    protocol = dataclasses.replace(TINY.protocol, crop_count=3)
    spec = declared(stored(tmp_path, mean_proto(), "means"), protocol)
    assert (spec.inputs[0].shape, spec.output.shape) == ((3, 8, 3, 64, 64), (3, 8))


def in_half(proto):
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return proto


@pytest.mark.parametrize(
    ("proto", "said"),
    [
        (
            mean_proto(shape=("N", 8, 3, "height", "width")),
            r"input video has symbolic dimensions beyond the first, \[-1, 8, 3, -1, -1\]",
        ),
        (mean_proto(shape=("N", 8, 3, 32, 32), last="Relu"), None),
        (mean_proto(shape=("N", 7, 3, 64, 64)), r"do not fill; name another protocol"),
        (mean_proto(outputs=("class", "scores")), "gives class, scores; keep only the scores"),
        (mean_proto(outputs=("video",)), "ONNX Runtime cannot run|not rows of scores"),
        (in_half(mean_proto()), "takes float16; this suite feeds float32"),
        (mean_proto(last="Nonsense"), "ONNX Runtime cannot run"),
        (slow_fast_proto(), "say which frames .* of slow for example --frames slow=0:8"),
    ],
)
def test_a_file_that_clips_do_not_fill_is_refused(tmp_path, proto, said):
    path = stored(tmp_path, proto, "means")
    if said is None:
        # Four pictures of a quarter: rows of one sample.
        assert declared(path).inputs[0].shape == (4, 8, 3, 32, 32)
        return
    with pytest.raises(InputError, match=said):
        declared(path)


def test_frames_of_an_input_that_is_not_there_are_refused(tmp_path):
    path, protocol = stored(tmp_path, slow_fast_proto()), slow_fast_spec().protocol
    with pytest.raises(InputError, match="has no input quick; it takes slow, fast"):
        declared(path, protocol, {**BOTH, "quick": (1,)})
    assert declared(path, protocol, BOTH).frames == FRAMES


def test_inputs_of_other_batch_sizes_are_refused(tmp_path):
    proto = slow_fast_proto()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    path = stored(tmp_path, proto)
    with pytest.raises(InputError, match=r"other batch sizes: \['2', 'None'\]"):
        declared(path, slow_fast_spec().protocol, BOTH)


def test_a_file_must_be_what_its_name_promises(tmp_path):
    path = stored(tmp_path, mean_proto(), "means").rename(tmp_path / "means-00000000.onnx")
    with pytest.raises(CheckpointError, match="its name promises a sha256"):
        declared(path)
