import dataclasses

import numpy as np
import pytest

from harness.build.build import WeightsFile
from harness.check.model_check import look_at_model, look_at_protocol
from harness.contract.thresholds import thresholds_from_file
from harness.host.site import FIXTURES
from harness.registry import model_spec
from harness.zoo.model import model_spec_from_config, with_protocol

LIMITS = thresholds_from_file(FIXTURES.parent / "thresholds.toml").file.models["nonlocal_tiny"]
SEEDED = WeightsFile("seeded", "seed:1")


@pytest.fixture
def small_spec(narrow_spec):
    return dataclasses.replace(narrow_spec, calibrated=True)


def looked_at(spec, workshop):
    return {one.what: one for one in look_at_model(spec, SEEDED, LIMITS.parity["fp32"], workshop)}


@pytest.mark.usefixtures("in_process")
def test_a_sound_model_is_exported_and_computes_what_pytorch_computes(small_spec, workshop):
    found = looked_at(small_spec, workshop)
    assert list(found) == ["protocol", "export", "simplify", "parity"]
    assert all(one.is_good for one in found.values())
    assert "simplified file agree on 2 inputs of noise" in found["parity"].seen
    assert "declared to differ from the configuration in crop_size, short_side" in str(
        found["protocol"]
    )


@pytest.mark.usefixtures("in_process")
def test_a_random_reference_is_named_and_no_edge_is_blamed(small_spec, workshop, monkeypatch):
    from harness.build import torch_model

    run, rng = torch_model.run_torch, np.random.default_rng(0)

    def randomly(model, spec, feed):
        return {name: out + rng.random(out.shape) for name, out in run(model, spec, feed).items()}

    monkeypatch.setattr(torch_model, "run_torch", randomly)
    found = looked_at(small_spec, workshop)
    assert not found["reference"].is_good
    assert "other scores when it runs the same input again" in found["reference"].seen
    assert "parity" not in found


def test_a_guides_protocol_is_mmaction2s():
    assert look_at_protocol(model_spec("nonlocal_r50")).seen.startswith("bit for bit")


def test_a_model_with_one_view_has_the_tensors_of_one_view():
    name = "recognition/tsm/tsm_r50_dense_1x1x8_100e_kinetics400_rgb.py"
    spec = with_protocol(model_spec_from_config(name, "a.pth"), crop_count=1, placement="segments")
    assert (spec.input.shape, spec.output.shape) == ((1, 8, 3, 224, 224), (1, 400))
