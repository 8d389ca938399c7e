import dataclasses
import re

import numpy as np
import pytest

from harness.build.torch_model import run_torch, torch_model_from_spec
from harness.zoo.model import model_spec_from_config

SMALL = {
    "crop_size": 32,
    "short_side": 32,
    "crop_count": 1,
    "clip_count": 1,
    "placement": "segments",
}
STATISTICS = ("running_mean", "running_var", "batches_tracked")
MODELS = [
    "tsm/tsm_mobilenetv2_dense_1x1x8_100e_kinetics400_rgb.py",
    "i3d/i3d_nl_dot_product_r50_32x2x1_100e_kinetics400_rgb.py",
]


def scores(spec):
    model = torch_model_from_spec(spec, None)
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal(spec.input.shape), np.ones(spec.input.shape)]
    feeds = [{spec.input.name: one.astype(np.float32)} for one in inputs]
    return np.concatenate([run_torch(model, spec, feed)[spec.output.name] for feed in feeds])


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", MODELS)
def test_calibrated_weights_give_scores_that_differ_and_stay_small(name):
    spec = model_spec_from_config(f"recognition/{name}", "a.pth", protocol=SMALL, calibrated=True)
    found = scores(spec)
    assert np.abs(found).max() < 100.0
    assert np.ptp(found, axis=0).max() > 1e-3
    np.testing.assert_array_equal(found, scores(spec))


@pytest.mark.usefixtures("torch")
def test_a_model_that_does_not_ask_for_it_keeps_its_weights(narrow_nonlocal):
    plain, calibrated = (
        torch_model_from_spec(dataclasses.replace(narrow_nonlocal, calibrated=one), None)
        for one in (False, True)
    )
    ours, theirs = plain.state_dict(), calibrated.state_dict()
    differing = {name for name in ours if not np.array_equal(ours[name], theirs[name])}
    statistics = {name for name in differing if name.endswith(STATISTICS)}
    assert statistics
    # Besides, what the blocks add: of each the norm at the end of its branch.
    assert all(re.search(r"conv3\.bn\.weight$", name) for name in differing - statistics)
    assert len(differing - statistics) == 16


@pytest.mark.usefixtures("torch")
def test_the_deepest_calibrated_model_rounds_as_little_as_parity_allows():
    name = "recognition/csn/ipcsn_bnfrozen_r152_32x2x1_180e_kinetics400_rgb.py"
    spec = model_spec_from_config(name, "a.pth", protocol=SMALL, calibrated=True)
    model = torch_model_from_spec(spec, None)
    noise = np.random.default_rng(0).standard_normal(spec.input.shape).astype(np.float32)
    single = run_torch(model, spec, {spec.input.name: noise})[spec.output.name]
    double = run_torch(model.double(), spec, {spec.input.name: noise})[spec.output.name]
    assert 0.0 < np.linalg.norm(single - double) < 1e-5 * np.linalg.norm(double)
