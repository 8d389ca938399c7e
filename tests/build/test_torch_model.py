import collections
import dataclasses
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.build.seeded_weights import SEEDED_SPREAD
from harness.build.torch_model import (
    _import_torchvision,
    run_torch,
    torch_model_from_spec,
)
from harness.registry import model_spec


def counts(model):
    return collections.Counter(type(module).__name__ for module in model.modules())


def weights_digest(model):
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def constants(model):
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.numel() > 1 and tensor.min() == tensor.max()
    ]


def noise(spec, batch=1):
    shape = spec.input.batched(batch).shape
    return {spec.input.name: np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


@pytest.fixture(params=["nonlocal", "timesformer"])
def pair(request):
    """The spec and the model of each narrow family."""
    family = request.param
    return tuple(request.getfixturevalue(name) for name in (f"narrow_{family}", f"{family}_model"))


@pytest.mark.usefixtures("torch")
def test_nonlocal_r50_has_its_blocks_and_its_shifts():
    model = torch_model_from_spec(model_spec("nonlocal_r50"), None)
    found = counts(model)
    assert (found["NL3DWrapper"], found["NonLocal3d"], found["TemporalShift"]) == (5, 5, 16)
    modules = dict(model.recognizer.backbone.named_modules())
    wrapped = [name for name, module in modules.items() if type(module).__name__ == "NL3DWrapper"]
    assert wrapped == ["layer2.0", "layer2.2", "layer3.0", "layer3.2", "layer3.4"]
    blocks = [modules[f"{name}.non_local_block"] for name in wrapped]
    assert {block.mode for block in blocks} == {"dot_product"}
    shifts = [module for module in modules.values() if type(module).__name__ == "TemporalShift"]
    assert {(shift.num_segments, shift.shift_div) for shift in shifts} == {(8, 8)}
    assert constants(model) == []


def test_the_narrow_model_has_the_same_blocks(nonlocal_model):
    found = counts(nonlocal_model)
    assert (found["NL3DWrapper"], found["TemporalShift"], found["Bottleneck"]) == (5, 16, 16)


def test_no_branch_of_a_seeded_model_is_dead(pair):
    _, model = pair
    assert constants(model) == []
    parameters = dict(model.named_parameters())
    started_at_zero = [
        name
        for name in parameters
        if name.endswith(("conv_out.bn.weight", "time_embed", "temporal_fc.weight"))
    ]
    assert started_at_zero
    for name in started_at_zero:
        assert 0.3 * SEEDED_SPREAD < parameters[name].std() < 3 * SEEDED_SPREAD, name


def test_seeded_weights_are_the_same_every_time(pair, torch):
    spec, model = pair
    torch.manual_seed(7)
    assert weights_digest(torch_model_from_spec(spec, None)) == weights_digest(model)


def test_variances_stay_positive(nonlocal_model):
    variances = [b for name, b in nonlocal_model.named_buffers() if name.endswith("running_var")]
    assert len(variances) == 58
    assert all(variance.min() > 0 for variance in variances)


def test_models_are_ready_to_be_exported(pair):
    _, model = pair
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_order_of_the_frames_matters(pair):
    spec, model = pair
    feed = noise(spec)
    frames = {"video": 1, "imgs": 3}[spec.input.name]
    back = {spec.input.name: np.ascontiguousarray(np.flip(feed[spec.input.name], frames))}
    there = run_torch(model, spec, feed)[spec.output.name]
    assert not np.allclose(there, run_torch(model, spec, back)[spec.output.name], atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_run_gives_the_declared_output(pair, batch):
    spec, model = pair
    outputs = run_torch(model, spec, noise(spec, batch))
    assert list(outputs) == [spec.output.name]
    assert outputs[spec.output.name].shape == spec.output.batched(batch).shape
    assert outputs[spec.output.name].dtype == np.float32


def test_the_softmax_is_in_the_model_where_it_is_declared(narrow_nonlocal, nonlocal_model):
    feed = noise(narrow_nonlocal)
    probabilities = run_torch(nonlocal_model, narrow_nonlocal, feed)["class"]
    assert probabilities.sum() == pytest.approx(1.0)
    plain = dataclasses.replace(narrow_nonlocal, softmax_in_graph=False)
    logits = run_torch(torch_model_from_spec(plain, None), plain, feed)["class"]
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), probabilities, rtol=1e-5)


def test_run_in_double_precision(narrow_timesformer, timesformer_model):
    feed = noise(narrow_timesformer)
    single = run_torch(timesformer_model, narrow_timesformer, feed)["result"]
    copy = torch_model_from_spec(narrow_timesformer, None).double()
    double = run_torch(copy, narrow_timesformer, feed)["result"]
    assert double.dtype == np.float64
    assert 0.0 < np.abs(double - single).max() < 1e-5


def test_read_only_samples_are_taken(narrow_timesformer, timesformer_model):
    feed = noise(narrow_timesformer)
    feed["imgs"].setflags(write=False)
    assert run_torch(timesformer_model, narrow_timesformer, feed)["result"].shape == (3, 5)


REFUSES_ONCE = """
from pathlib import Path
if not Path(__file__).with_name("defined").exists():
    raise RuntimeError("operator torchvision::nms does not exist")
"""


def test_a_torchvision_for_another_torch_is_made_to_import(tmp_path, monkeypatch, torch):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(REFUSES_ONCE, encoding="utf-8")
    defined = []

    def define(name, schema):
        defined.append(name)
        (package / "defined").touch()

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.library, "define", define)
    monkeypatch.setitem(sys.modules, "torchvision.leftover", None)
    _import_torchvision()
    assert defined == ["torchvision::nms", "torchvision::qnms"]
    assert Path(sys.modules["torchvision"].__file__).parent == package
    assert "torchvision.leftover" not in sys.modules
    monkeypatch.delitem(sys.modules, "torchvision")
