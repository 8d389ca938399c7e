import dataclasses

import pytest

from harness.build import onnx_export
from harness.build.multiply_adds import onnx_multiply_adds
from harness.build.onnx_export import write_onnx
from harness.build.simplify import write_simplified
from harness.spec import TensorSpec


def modules(torch):
    """Modules of one input of three dimensions or more, the input, and the multiply-adds of one sample."""
    nn = torch.nn

    class Attention(nn.Module):
        """In one operator, which the exporter writes in parts."""

        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    class Looking(nn.Module):
        """Branches by a value, which is not there where nothing is computed."""

        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(8, 3)

        def forward(self, x):
            return self.inner(x) if float(x.sum()) < 1e6 else x

    class Reshaped(nn.Module):
        """With sizes that follow from the batch."""

        def forward(self, x):
            rows = x.reshape(x.size(0), 4, -1)
            return rows @ rows.transpose(1, 2)

    return {
        "grouped": (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (4, 9, 9), 6 * 25 * 2 * 9),
        "volume": (nn.Conv3d(2, 3, (1, 2, 3)), (2, 3, 4, 5), 3 * (3 * 3 * 3) * 2 * 6),
        "transposed": (nn.ConvTranspose2d(4, 3, 2, stride=2), (4, 5, 5), 100 * 3 * 4),
        "linear": (nn.Linear(8, 3), (8,), 24),
        "linear of rows": (nn.Linear(8, 3), (5, 8), 5 * 24),
        "attention": (Attention(), (5, 8), 2 * 5 * 5 * 8),
        "looking": (Looking(), (8,), 24),
        "reshaped": (Reshaped(), (8, 3), 4 * 4 * 6),
    }


@pytest.fixture
def counts(tiny_spec, tmp_path, torch, monkeypatch):
    """Return what counts a module at a batch of two: in PyTorch, and in both of its files."""
    import onnx

    def count(module, shape, gears=()):
        module.eval().requires_grad_(False)
        with torch.no_grad():
            made = tuple(module(torch.zeros(1, *shape)).shape)
        spec = dataclasses.replace(
            *(tiny_spec,),
            input=TensorSpec("x", (1, *shape)),
            output=TensorSpec("y", made),
            gears=gears,
            opset=14,
        )
        monkeypatch.setattr(onnx_export, "torch_model_from_spec", lambda *_: module)
        exported, simplified = tmp_path / "m.onnx", tmp_path / "sim.onnx"
        facts = write_onnx(spec, 2, None, exported)
        write_simplified(spec, 2, exported, simplified)
        files = map(onnx.load, (exported, simplified))
        return facts["multiply_adds"], *(
            onnx_multiply_adds(one, spec.traced_inputs(2)) for one in files
        )

    return count


@pytest.mark.parametrize(
    ("name", "gears"),
    [
        *((name, ()) for name in ("grouped", "volume", "transposed", "linear", "linear of rows")),
        *((name, ()) for name in ("attention", "looking")),
        ("reshaped", (1, 2)),
    ],
)
def test_all_count_the_same(counts, torch, name, gears):
    module, shape, wanted = modules(torch)[name]
    assert counts(module, shape, gears) == (2 * wanted,) * 3


def test_a_product_of_unknown_size_is_not_counted():
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "wide"], ["y"]),
    ]
    shapes = {"x": [2, 2], "y": ["rows", "columns"]}
    x, y = (helper.make_tensor_value_info(one, TensorProto.FLOAT, shapes[one]) for one in "xy")
    proto = helper.make_model(helper.make_graph(nodes, "g", [x], [y]))
    assert onnx_multiply_adds(proto, [TensorSpec("x", (2, 2))]) is None
