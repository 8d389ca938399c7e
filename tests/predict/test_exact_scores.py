import dataclasses

import numpy as np
import pytest

from harness.build.build import weights_from_site
from harness.build.torch_model import digest_from_state
from harness.contract.thresholds import thresholds_from_file
from harness.data.datasets import motion8
from harness.host.site import FIXTURES, load_site
from harness.predict import reference
from harness.predict.exact_scores import shipped_scores
from harness.predict.parity_inputs import parity_inputs
from harness.predict.reference import write_reference_scores
from harness.registry import model_spec
from harness.spec import Cell

FP64 = np.linspace(-1.0, 1.0, 24).reshape(3, 8)
FP32 = FP64 * (1.0 + 1e-7)


@pytest.fixture
def folder(tmp_path):
    np.savez(tmp_path / "tiny.npz", weights="w", inputs="i", fp64=FP64)
    return tmp_path


def test_scores_of_the_same_weights_and_inputs_are_taken(folder):
    np.testing.assert_array_equal(shipped_scores("tiny", "w", "i", FP32, folder), FP64)


@pytest.mark.parametrize(
    ("name", "weights", "inputs", "fp32"),
    [
        ("other", "w", "i", FP32),
        ("tiny", "other", "i", FP32),
        ("tiny", "w", "other", FP32),
        ("tiny", "w", "i", FP32[:2]),
        ("tiny", "w", "i", FP64 + 1e-3),
        ("tiny", "w", "i", FP64 * np.nan),
    ],
    ids=["model", "weights", "inputs", "count", "not rounding", "NaN"],
)
def test_anything_else_is_computed(folder, name, weights, inputs, fp32):
    assert shipped_scores(name, weights, inputs, fp32, folder) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_a_damaged_file_is_not_used(tmp_path, content):
    (tmp_path / "tiny.npz").write_bytes(content)
    assert shipped_scores("tiny", "w", "i", FP32, tmp_path) is None


def test_the_digest_sees_one_changed_weight(torch):
    model = torch.nn.Linear(2, 2)
    before = digest_from_state(model)
    model.bias.data[1] += 1e-6
    assert digest_from_state(model) != before


def test_a_run_takes_what_fits_and_a_forced_one_computes(fitted, clip_set, tmp_path, monkeypatch):
    spec, checkpoint = fitted
    inputs = parity_inputs(spec, clip_set, 3)
    folder, target = tmp_path / "references", tmp_path / "scores.npz"
    folder.mkdir()
    monkeypatch.setattr(reference, "shipped_scores", lambda *args: shipped_scores(*args, folder))
    assert write_reference_scores(spec, checkpoint, inputs, target)["fp64"] == "computed"
    with np.load(target) as computed:
        marked = computed["fp64"] * (1.0 + 1e-9)
        np.savez(folder / f"{spec.name}.npz", **{**computed, "fp64": marked})
    assert write_reference_scores(spec, checkpoint, inputs, target)["fp64"] == "shipped"
    np.testing.assert_array_equal(np.load(target)["fp64"], marked)
    assert (
        write_reference_scores(spec, checkpoint, inputs, target, is_recomputed=True)["fp64"]
        == "computed"
    )
    other = dataclasses.replace(inputs, digest="of other clips")
    assert write_reference_scores(spec, checkpoint, other, target)["fp64"] == "computed"


@pytest.mark.parametrize("name", ["nonlocal_tiny", "timesformer_tiny"])
def test_what_ships_is_what_pytorch_computes(name, tmp_path):
    spec, target = model_spec(name), tmp_path / "scores.npz"
    tier = thresholds_from_file(FIXTURES.parent / "thresholds.toml").tier("nightly")
    inputs = parity_inputs(spec, motion8(), tier.inputs_for(Cell(name, "cpu", 1)))
    weights = weights_from_site(spec, load_site(None, {"ACCEPTANCE_CACHE_DIR": str(tmp_path)}))
    write_reference_scores(spec, weights.path, inputs, target, is_recomputed=True)
    with np.load(target) as computed:
        shipped = shipped_scores(
            name, str(computed["weights"]), str(computed["inputs"]), computed["fp32"]
        )
        assert shipped is not None
        np.testing.assert_allclose(shipped, computed["fp64"], rtol=0, atol=1e-9)
