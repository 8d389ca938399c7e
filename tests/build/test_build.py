import dataclasses
import importlib.util
import signal
from pathlib import Path

import pytest

from harness.build import build, source
from harness.build.build import (
    WeightsFile,
    Workshop,
    device_model_from_onnx,
    onnx_from_source,
    simplified_from_onnx,
    weights_from_site,
)
from harness.build.seeded_weights import SEED
from harness.errors import BuildError, CheckpointError, ExportError
from harness.host import provenance
from harness.host.child_process import StageCost
from harness.host.site import load_site
from harness.registry import device, device_spec
from harness.spec import ATC
from harness.testing import FakeDevice
from harness.zoo.config import mmaction2_folder

SEEDED = WeightsFile("seeded", "seed:1")
FACTS = {"cpu.model": "a processor"}


@pytest.fixture
def ran(monkeypatch):
    """Stages that write their title and nothing else; returns the titles of those that ran."""
    titles = []

    def run(workshop, title, failure, function, *args, **_):
        titles.append(title.split()[0])
        args[-1].write_text(title, encoding="utf-8")
        return {"seconds": 0.5, "peak_bytes": 7}

    monkeypatch.setattr(Workshop, "run", run)
    return titles


@pytest.fixture
def chain(workshop, narrow_spec):
    def models(batch=1, weights=SEEDED, device_name="cpu", facts=FACTS, **of_spec):
        spec = dataclasses.replace(narrow_spec, **of_spec)
        exported = onnx_from_source(spec, batch, weights, workshop)
        simplified = simplified_from_onnx(exported, workshop)
        built = device_model_from_onnx(simplified, device(device_name), facts, workshop)
        return exported, simplified, built

    return models


def test_nothing_changed_runs_nothing(chain, ran, workshop):
    first, second = chain(), chain()
    assert first == second
    assert ran == ["export", "simplify", "build"]
    assert [event.hit for event in workshop.store.events] == [False] * 3 + [True] * 3


def test_a_stage_that_hangs_is_killed_and_a_compiler_has_its_own_limit(chain, monkeypatch):
    limits = []

    def run(function, *args, timeout_s, **_):
        limits.append(timeout_s)
        args[-1].touch()
        return {}, StageCost(0.25, 4096)

    monkeypatch.setattr(build, "run_in_child", run)
    chain()
    assert limits == [7200.0, 7200.0, None]


def test_the_gears_of_a_model_share_one_build(chain, ran):
    one, four = chain(1, gears=(1, 4)), chain(4, gears=(1, 4))
    assert ran == ["export", "simplify", "build"]
    assert [model.artifact for model in one] == [model.artifact for model in four]
    assert (one[0].inputs[0].shape[0], four[0].inputs[0].shape[0], four[0].gear) == (1, 4, 4)
    chain(4, gears=(1, 4, 8))
    chain(4)
    assert ran[3:] == ["export", "simplify", "build"] * 2


@pytest.mark.parametrize(
    ("change", "rerun"),
    [
        ({"batch": 4}, ["export", "simplify", "build"]),
        # What an export gives is what the next stages are keyed by, and here it is the same.
        ({"weights": WeightsFile("checkpoint", "ab12")}, ["export"]),
        ({"opset": 13}, ["export"]),
        ({"softmax_in_graph": False}, ["export"]),
        ({"overrides": {}}, ["export"]),
        ({"atc": (*ATC, "--insert_op_conf=a")}, ["export"]),
        ({"facts": {"cpu.model": "another"}}, ["build"]),
        ({"device_name": "ascend310p"}, ["build"]),
    ],
    ids=str,
)
def test_another_input_is_another_artifact(chain, ran, change, rerun):
    chain()
    ran.clear()
    chain(**change)
    assert ran == rerun


@pytest.mark.parametrize(
    ("package", "rerun"),
    [
        ("torch", ["export"]),
        ("mmaction2", ["export"]),
        ("mmcv-full", ["export"]),
        ("onnx", ["export", "simplify"]),
        ("onnxsim", ["simplify"]),
        ("onnxruntime", ["simplify"]),
        ("numpy", []),
    ],
)
def test_another_version_is_another_artifact(chain, ran, monkeypatch, package, rerun):
    chain()
    ran.clear()
    real = build.package_versions

    def other(*names):
        return {**real(*names), **({package: "9.9"} if package in names else {})}

    for module in (build, source):
        monkeypatch.setattr(module, "package_versions", other)
    chain()
    assert ran == rerun


@pytest.mark.parametrize(
    ("module", "rerun"),
    [
        ("harness.build.onnx_export", ["export"]),
        ("harness.build.torch_model", ["export"]),
        ("harness.build.narrow_tsm", ["export"]),
        ("harness.build.simplify", ["simplify"]),
        ("harness.runtimes.ort.device", ["build"]),
        ("harness.runtimes.ascend.atc", []),
    ],
)
def test_other_code_is_another_artifact(chain, ran, monkeypatch, module, rerun):
    chain()
    ran.clear()
    real = provenance.sha256_from_file
    changed = Path(importlib.import_module(module).__file__)
    monkeypatch.setattr(
        provenance,
        "sha256_from_file",
        lambda path: "other" if path == changed else real(path),
    )
    chain()
    assert ran == rerun


def test_an_offline_model_is_keyed_by_the_code_that_calls_atc(chain, ran):
    *_, built = chain(device_name="ascend310p")
    inputs = built.artifact.provenance["inputs"]
    assert inputs["options"] == list(built.onnx.spec.atc)
    modules = ("device", "atc", "atc_options", "passport", "precision")
    assert inputs["code"].keys() == {f"harness.runtimes.ascend.{name}" for name in modules}
    assert built.artifact.path.suffix == ".om"


def test_another_configuration_is_another_export(chain, ran, monkeypatch):
    exported, *_ = chain()
    assert len(exported.artifact.provenance["inputs"]["config"]) == 64
    ran.clear()
    monkeypatch.setattr(source, "sha256_from_file", lambda path: path.name)
    chain()
    assert "export" in ran


def test_without_mmaction2_there_is_no_export(chain, ran, monkeypatch):
    mmaction2_folder.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match="mmaction2 is not installed"):
        chain()


def test_facts_say_what_a_stage_took(chain, in_process, torch):
    exported, simplified, built = chain(batch=2)
    for model in (exported, simplified, built):
        facts = model.artifact.provenance["facts"]
        assert facts["seconds"] == 0.25
        assert facts["peak_bytes"] == 4096
    assert exported.artifact.provenance["facts"]["ops"]["MatMul"] == 10
    assert exported.inputs[0].shape == (2, 8, 3, 32, 32)
    assert built.onnx.output.shape == (2, 8)
    assert built.device == "cpu"


def test_a_stage_in_its_own_process_is_measured_and_logged(chain, ran, workshop, monkeypatch):
    _, simplified, _ = chain()
    monkeypatch.undo()
    double = FakeDevice(device_spec("cpu"), dict)
    built = device_model_from_onnx(simplified, double, {"by": "a double"}, workshop)
    assert built.artifact.provenance["facts"]["double"] is True
    assert built.artifact.provenance["facts"]["seconds"] >= 0.0
    assert built.artifact.provenance["facts"]["peak_bytes"] > 1e6
    assert built.artifact.sha256 == simplified.artifact.sha256
    assert (workshop.log_dir / "build-nonlocal_tiny-bs1-cpu.log").exists()
    killed = FakeDevice(device_spec("cpu"), dict, fault=signal.SIGKILL)
    with pytest.raises(BuildError, match=r"killed by SIGKILL.*out-of-memory"):
        device_model_from_onnx(simplified, killed, {"by": "the dead"}, workshop)
    assert [path.name for path in workshop.log_dir.parent.glob("cache/device/??/.*")] == []


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    environ = {"ACCEPTANCE_CACHE_DIR": str(tmp_path), "ACCEPTANCE_CHECKPOINTS": str(folder)}
    return load_site(None, environ)


def test_weights_of_a_checkpoint(fitted):
    spec, path = fitted
    environ = {
        "ACCEPTANCE_CACHE_DIR": str(path.parent),
        "ACCEPTANCE_CHECKPOINTS": str(path.parent),
    }
    weights = weights_from_site(spec, load_site(None, environ))
    assert (weights.kind, weights.path) == ("checkpoint", path)
    assert weights.digest.startswith(path.stem[-8:])
    assert len(weights.digest) == 64


def test_without_a_checkpoint_weights_are_seeded(site, narrow_spec):
    spec = dataclasses.replace(narrow_spec, checkpoint="nowhere-00000000.pth")
    assert weights_from_site(spec, site) == WeightsFile("seeded", f"seed:{SEED}", None)


def test_a_checkpoint_whose_name_lies_is_no_seeded_one(site, narrow_spec):
    spec = dataclasses.replace(narrow_spec, checkpoint="damaged-00000000.pth")
    (site.checkpoints[0] / spec.checkpoint).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="damaged or renamed"):
        weights_from_site(spec, site)
