import dataclasses
import errno
from pathlib import Path

import pytest

from harness import errors
from harness.errors import HarnessError, StageError, first_line
from harness.registry import model_spec
from harness.spec import Artifact, Cell, OnnxModel, Status, TensorSpec


@pytest.mark.parametrize(
    ("shape", "dtype", "nbytes"),
    [((1, 8, 3, 224, 224), "float32", 4816896), ((2, 3), "float16", 12), ((), "int64", 8)],
)
def test_size_of_a_tensor(shape, dtype, nbytes):
    assert TensorSpec("x", shape, dtype).nbytes == nbytes


def test_the_first_dimension_follows_the_batch():
    assert TensorSpec("result", (3, 400)).batched(4) == TensorSpec("result", (12, 400))
    assert TensorSpec("video", (1, 8), "float16").batched(2) == TensorSpec(
        "video", (2, 8), "float16"
    )


def test_an_onnx_model_has_the_tensors_of_its_batch():
    spec = model_spec("timesformer")
    onnx = OnnxModel(spec, 2, "seeded", Artifact("onnx", Path("m.onnx"), "", {}))
    assert onnx.inputs[0].shape == (2, 3, 3, 8, 224, 224)
    assert onnx.output.shape == (6, 400)
    assert spec.crop_count == 3


def test_the_id_of_a_cell():
    assert Cell("nonlocal_r50", "ascend310p", 4).id == "nonlocal_r50-ascend310p-bs4"


def test_values_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cell("a", "b", 1).batch = 2


def test_only_pass_is_green():
    assert [status for status in Status if status == "pass"] == [Status.PASS]
    assert str(Status.NOT_RUN) == "not run"


def test_every_error_is_in_the_tree_that_the_docstring_draws():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(issubclass(kind, HarnessError) for kind in kinds)
    assert [kind.__name__ for kind in kinds if kind.__name__ not in errors.__doc__] == []


def test_a_stage_error_names_its_stage():
    stages = {kind.stage for kind in StageError.__subclasses__()}
    assert {"export", "simplify", "build", "run"} <= stages


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  \n two\n"), "two"),
        (RuntimeError(), "RuntimeError"),
        (OSError(errno.ENOENT, "gone"), "[Errno 2] gone"),
    ],
)
def test_the_first_line_of_an_error_says_something(error, line):
    assert first_line(error) == line
