import dataclasses

import numpy as np
import pytest

from harness.build.onnx_export import onnx_facts
from harness.build.simplify import MAX_RELATIVE_L2, write_simplified
from harness.errors import InvalidMeasurement, SimplifyError
from harness.runtimes.ort.session import ort_session
from harness.spec import TensorSpec

FAMILIES = ("nonlocal", "timesformer")


@pytest.fixture(scope="module")
def simplified(exported, tmp_path_factory):
    """Return (spec, source, target, facts) of a narrow family at batch 2."""

    def simplify(family):
        spec, source, _ = exported(family, 2)
        target = tmp_path_factory.mktemp("simplified") / f"{family}.onnx"
        return spec, source, target, write_simplified(spec, 2, source, target)

    results = {family: simplify(family) for family in FAMILIES}
    return results.__getitem__


@pytest.fixture
def tamper(monkeypatch):
    """Let onnxsim return an edited copy of what it was given."""

    def replace(edit):
        import onnx
        import onnxsim

        def simplify(path, **options):
            proto = onnx.load(path)
            edit(proto)
            return proto, True

        monkeypatch.setattr(onnxsim, "simplify", simplify)

    return replace


def scaled(proto, factor, name=""):
    """Multiply the first initializer whose name ends so."""
    from onnx import numpy_helper

    tensor = next(t for t in proto.graph.initializer if t.name.endswith(name))
    values = numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_nodes_and_the_same_output(simplified, family):
    spec, source, target, facts = simplified(family)
    assert sum(facts["ops"].values()) < 0.6 * sum(onnx_facts(source)["ops"].values())
    assert facts["relative_l2_to_exported"] <= MAX_RELATIVE_L2
    shape = spec.input.batched(2).shape
    feed = {spec.input.name: np.random.default_rng(5).standard_normal(shape, np.float32)}
    expected, actual = (ort_session(path).run(None, feed)[0] for path in (source, target))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_the_blocks_and_shifts_are_still_there(simplified):
    *_, facts = simplified("nonlocal")
    assert facts["ops"]["MatMul"] == 2 * 5
    assert (facts["ops"]["Slice"], facts["ops"]["Concat"]) == (7 * 16, 3 * 16)
    assert "BatchNormalization" not in facts["ops"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("factor", [1.003, -1.0, 0.0])
def test_other_numbers_are_refused(exported, tamper, tmp_path, family, factor):
    spec, source, _ = exported(family, 1)
    tamper(lambda proto: scaled(proto, factor, "fc_cls.weight"))
    with pytest.raises(
        SimplifyError, match=r"onnxsim changed what .* computes at batch 1: relative"
    ):
        write_simplified(spec, 1, source, tmp_path / "m.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_output_that_is_no_number_is_refused(exported, tamper, tmp_path, value):
    spec, source, _ = exported("timesformer", 1)
    tamper(lambda proto: scaled(proto, value, "fc_cls.bias"))
    with pytest.raises(SimplifyError, match="relative L2 error nan"):
        write_simplified(spec, 1, source, tmp_path / "m.onnx")


def test_scores_that_say_nothing_prove_nothing(tiny_onnx, tiny_spec, tmp_path):
    import onnx

    proto = tiny_onnx()
    proto.graph.node[1].op_type = "Sub"
    proto.graph.node[0].op_type = "Identity"
    onnx.save(proto, tmp_path / "zero.onnx")
    with pytest.raises(InvalidMeasurement, match="before it is simplified"):
        write_simplified(tiny_spec, 1, tmp_path / "zero.onnx", tmp_path / "m.onnx")


def test_a_small_error_cannot_hide_behind_a_flat_softmax(tiny_onnx, tiny_spec, tamper, tmp_path):
    import onnx
    from onnx import helper, numpy_helper

    # Logits a thousand times smaller than usual, as those of a seeded model are.
    proto = tiny_onnx()
    del proto.graph.node[:]
    proto.graph.node.append(helper.make_node("Mul", ["x", "small"], ["r"]))
    proto.graph.node.append(helper.make_node("Softmax", ["r"], ["y"], axis=1))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32([1e-2] * 3), "small"))
    onnx.save(proto, tmp_path / "flat.onnx")
    spec = dataclasses.replace(tiny_spec, softmax_in_graph=True)
    tamper(lambda proto: scaled(proto, 1.005, "small"))
    with pytest.raises(SimplifyError, match=r"relative L2 error 0\.005"):
        write_simplified(spec, 1, tmp_path / "flat.onnx", tmp_path / "m.onnx")


def test_another_signature_is_refused(exported, tamper, tmp_path):
    spec, source, _ = exported("timesformer", 1)

    def rename(proto):
        proto.graph.output[0].name = proto.graph.node[-1].output[0] = "other"

    tamper(rename)
    expected = r"onnxsim spoilt timesformer at batch 1: outputs are \['other'\] instead of"
    with pytest.raises(SimplifyError, match=expected):
        write_simplified(spec, 1, source, tmp_path / "m.onnx")


def test_a_graph_that_does_not_run_is_refused(tiny_onnx, tiny_spec, tamper, tmp_path):
    import onnx
    from onnx import numpy_helper

    onnx.save(tiny_onnx(), tmp_path / "tiny.onnx")

    def misfit(proto):
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(7, np.float32), "seven"))
        proto.graph.node[1].input[1] = "seven"

    tamper(misfit)
    with pytest.raises(SimplifyError, match=r"tiny: ONNX Runtime cannot run .*m\.onnx: "):
        write_simplified(tiny_spec, 1, tmp_path / "tiny.onnx", tmp_path / "m.onnx")


@pytest.mark.parametrize("error", [RuntimeError(), RuntimeError("\nno way"), ValueError("> 2GB")])
def test_a_failure_of_onnxsim_is_told(exported, monkeypatch, tmp_path, error):
    import onnxsim

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(onnxsim, "simplify", fail)
    spec, source, _ = exported("timesformer", 1)
    with pytest.raises(SimplifyError, match=r"onnxsim refused .*onnx: \S") as caught:
        write_simplified(spec, 1, source, tmp_path / "m.onnx")
    assert caught.value.__cause__ is error


def test_a_source_that_is_no_onnx(tiny_spec, tmp_path):
    source = tmp_path / "garbage.onnx"
    source.write_bytes(b"garbage" * 30)
    with pytest.raises(SimplifyError, match=r"onnxsim refused .*garbage\.onnx"):
        write_simplified(tiny_spec, 1, source, tmp_path / "m.onnx")


def test_a_batch_that_the_file_was_not_exported_for(exported, tmp_path):
    spec, source, _ = exported("timesformer", 1)
    assert spec.input == TensorSpec("imgs", (1, 3, 3, 8, 32, 32))
    with pytest.raises(
        SimplifyError, match=r"onnxsim spoilt timesformer at batch 2: input imgs is"
    ):
        write_simplified(spec, 2, source, tmp_path / "m.onnx")
