"""Narrow relatives of the two model families, built from the same configurations."""

import dataclasses
import functools

import pytest

from harness.registry import model_spec
from harness.spec import TensorSpec


@pytest.fixture(scope="session")
def torch():
    """The package, not imported before a test asks for it."""
    import torch

    # The models are so narrow that threads cost more than they give.
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="session")
def narrow_nonlocal(torch):
    """All the blocks of TSM-NL ResNet-50, an eighth as wide."""
    return dataclasses.replace(
        model_spec("nonlocal_r50"),
        overrides={
            "backbone": {"type": "NarrowResNetTSM", "base_channels": 8, "pretrained": None},
            "cls_head": {"num_classes": 5, "in_channels": 256},
        },
        class_count=5,
        input=TensorSpec("video", (1, 8, 3, 64, 64)),
        output=TensorSpec("class", (1, 5)),
    )


@pytest.fixture(scope="session")
def narrow_timesformer(torch):
    """TimeSformer with two layers, a sixteenth as wide."""
    return dataclasses.replace(
        model_spec("timesformer"),
        overrides={
            "backbone": {
                "pretrained": None,
                "img_size": 32,
                "embed_dims": 48,
                "num_heads": 4,
                "num_transformer_layers": 2,
            },
            "cls_head": {"num_classes": 5, "in_channels": 48},
        },
        class_count=5,
        input=TensorSpec("imgs", (1, 3, 3, 8, 32, 32)),
        output=TensorSpec("result", (3, 5)),
    )


@pytest.fixture(scope="session")
def timesformer_model(narrow_timesformer):
    """The narrow TimeSformer with seeded weights; not to be changed."""
    from harness.pytorch import torch_model_from_spec

    return torch_model_from_spec(narrow_timesformer, None)


@pytest.fixture(scope="session")
def nonlocal_model(narrow_nonlocal):
    """The narrow TSM-NL with seeded weights; not to be changed."""
    from harness.pytorch import torch_model_from_spec

    return torch_model_from_spec(narrow_nonlocal, None)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, narrow_nonlocal, narrow_timesformer):
    """Return (spec, path, facts) of a narrow family at a batch size, exported once."""
    from harness.export import write_onnx

    specs = {"nonlocal": narrow_nonlocal, "timesformer": narrow_timesformer}
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(family, batch):
        path = folder / f"{family}-bs{batch}.onnx"
        return specs[family], path, write_onnx(specs[family], batch, None, path)

    return export


@pytest.fixture(scope="session")
def tiny_onnx():
    """Return a model y = relu(x) + x of opset 11, with whatever is to be wrong about it."""
    from onnx import TensorProto, helper

    def build(shape=(2, 3), opset=11, more_inputs=(), dtype=TensorProto.FLOAT, op="Relu"):
        nodes = [helper.make_node(op, ["x"], ["r"]), helper.make_node("Add", ["r", "x"], ["y"])]
        inputs = [helper.make_tensor_value_info(name, dtype, shape) for name in ("x", *more_inputs)]
        outputs = [helper.make_tensor_value_info("y", dtype, shape)]
        graph = helper.make_graph(nodes, "tiny", inputs, outputs)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )

    return build


@pytest.fixture(scope="session")
def tiny_spec():
    """What `tiny_onnx` is declared as."""
    return dataclasses.replace(
        model_spec("timesformer"),
        name="tiny",
        input=TensorSpec("x", (2, 3)),
        output=TensorSpec("y", (2, 3)),
        softmax_in_graph=False,
    )
