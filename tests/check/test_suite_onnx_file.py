"""A model that exists only as an ONNX file, from the file to verdicts, and the faults planted in it."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import harness.models
from harness import registry
from harness.build.exact_graph import ExactGraph, InexactError
from harness.build.onnx_declaration import declared_from_file
from harness.build.onnx_export import write_onnx
from harness.contract.add_model import declaration
from harness.contract.thresholds import thresholds_from_file
from harness.decide.rejudge import rejudged
from harness.predict.chips import chip_predictions
from harness.record.recompute import measurement_problems
from harness.registry import device
from harness.runtimes.ort.device import OrtDevice
from harness.spec import CHECKS, Cell, Status
from tests.bare_onnx import FRAMES, slow_fast_proto, slow_fast_spec, stored

BARE, TOY = Cell("bare", "cpu", 4), Cell("slow_fast", "cpu", 4)
CHAIN = ["file_to_onnx", "onnx_to_simplified", "simplified_to_device", "file_to_device"]


@pytest.fixture(scope="module")
def declared(fitted, narrow_spec, thresholds, tmp_path_factory):
    """The specs of both models by name, declared in a folder of models and in a contract of their own."""
    folder, checkpoints = tmp_path_factory.mktemp("declared"), fitted[1].parent
    write_onnx(fitted[0], 4, fitted[1], folder / "exported.onnx")
    proto = onnx.load(folder / "exported.onnx")
    files = {
        "bare": (stored(checkpoints, proto, "bare"), narrow_spec.protocol, {}),
        "slow_fast": (
            stored(checkpoints, slow_fast_proto()),
            slow_fast_spec().protocol,
            dict(zip(("slow", "fast"), FRAMES, strict=True)),
        ),
    }
    text = thresholds.path.read_text()
    head, tables = text.split("[models.nonlocal_tiny]")
    models, tiers = tables.split("[tiers.nightly]")
    both = "".join(f"[models.{name}]{models}".replace("nonlocal_tiny", name) for name in files)
    contract = folder / "thresholds.toml"
    contract.write_text(f"{head}{both}[tiers.nightly]{tiers}".replace("nonlocal_tiny-", "bare-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.models, "__path__", [str(folder), *harness.models.__path__])
        registry.look_again()
        for name, (path, protocol, frames) in files.items():
            spec = declared_from_file(
                path, protocol, frames, name=name, dataset="motion8", config=narrow_spec.config
            )
            (folder / f"{name}.py").write_text(declaration(spec))
            registry.look_again()
            assert registry.model_spec(name) == spec
        yield thresholds_from_file(contract)
    registry.look_again()


@pytest.fixture
def make(make_suite, declared, cache):
    """Return what makes a suite of one of the two."""

    def suite_of(cell, where=cache, devices=None, **changes):
        spec = dataclasses.replace(registry.model_spec(cell.model), **changes)
        return dataclasses.replace(make_suite(where, devices, model=spec), thresholds=declared)

    return suite_of


def test_the_file_of_a_model_is_declared_as_its_configuration_says(declared, narrow_spec):
    bare, toy = (registry.model_spec(cell.model) for cell in (BARE, TOY))
    assert (bare.inputs, bare.output) == (narrow_spec.inputs, narrow_spec.output)
    assert (bare.protocol, bare.frozen_batch) == (narrow_spec.protocol, 4)
    assert (bare.softmax_in_graph, bare.opset) == (True, 11)
    expected = slow_fast_spec(toy.checkpoint)
    assert dataclasses.replace(toy, config="") == expected


@pytest.mark.usefixtures("in_process")
def test_a_bare_file_is_green_in_all_four_checks(make):
    suite = make(BARE)
    records = {check: suite.check(BARE, check) for check in CHECKS}
    for record in records.values():
        assert record.verdict.status is Status.PASS, record.verdict.reason
        assert rejudged(record, suite.thresholds).verdict == record.verdict
        assert measurement_problems(record, suite.run) == []
    assert "; multiply-adds held against nothing" in records["export"].verdict.reason
    parity = records["parity"]
    assert [edge.name for edge in parity.measurement.edges] == CHAIN
    assert "anchored to the ONNX file in float64" in parity.verdict.reason
    assert "loss of top-1 against the ONNX file" in records["accuracy"].verdict.reason
    assert "x unoptimised" in records["throughput"].verdict.reason


def without_scores(cache, folder):
    """Return a copy of a cache in which the reference is computed anew."""
    copied = shutil.copytree(cache, folder / "cache", ignore=shutil.ignore_patterns("*.lock"))
    shutil.rmtree(copied / "reference-scores", ignore_errors=True)
    return copied


def cannot(graph, tensor):
    raise InexactError("Einsum: unknown")


VALUE = ExactGraph.value


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("value", [cannot, lambda *told: np.sqrt(VALUE(*told))])
def test_where_float64_fails_or_is_another_model_float32_is_the_anchor(
    make, cache, tmp_path, monkeypatch, value
):
    monkeypatch.setattr(ExactGraph, "value", value)
    record = make(BARE, without_scores(cache, tmp_path)).check(BARE, "parity")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert "anchored to the ONNX file in float32" in record.verdict.reason
    assert not any("fp64" in finding.name for finding in record.verdict.findings)
    assert record.measurement.anchor == "float32"


def scaled_channel(proto):
    conv = next(node for node in proto.graph.node if node.op_type == "Conv")
    tensor = next(one for one in proto.graph.initializer if one.name == conv.input[1])
    values = numpy_helper.to_array(tensor).copy()
    values[0] *= 1.5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return conv.name


@pytest.mark.usefixtures("in_process")
def test_a_file_with_a_scaled_channel_is_not_the_contracts(make, fitted):
    checkpoints, spec = fitted[1].parent, registry.model_spec("bare")
    proto = onnx.load(checkpoints / spec.checkpoint)
    scaled_channel(proto)
    other = stored(checkpoints, proto, "bare")
    suite = make(BARE, checkpoint=other.name)
    file = suite.thresholds.file
    pinned = spec.checkpoint.removesuffix(".onnx").rpartition("-")[2]
    models = {**file.models, "bare": file.models["bare"].model_copy(update={"weights": pinned})}
    changed = file.model_copy(update={"models": models})
    suite = dataclasses.replace(
        suite, thresholds=dataclasses.replace(suite.thresholds, file=changed)
    )
    for check in ("export", "parity", "accuracy"):
        verdict = suite.check(BARE, check).verdict
        assert verdict.status is Status.INVALID
        assert "the checkpoint of bare is not the contract's" in verdict.reason


class WrongChannel(OrtDevice):
    """A device whose build scales a channel of a convolution."""

    def build(self, onnx_model, target):
        facts = super().build(onnx_model, target)
        proto = onnx.load(target)
        scaled_channel(proto)
        onnx.save(proto, target)
        return facts


@pytest.mark.usefixtures("in_process")
def test_a_device_that_computes_something_else_is_red_at_the_node(make, cache, tmp_path):
    cpu = device("cpu")
    wrong = WrongChannel(cpu.spec, cpu.provider, level="basic")
    record = make(BARE, tmp_path / "cache", {"cpu": wrong}).check(BARE, "parity")
    assert record.verdict.status is Status.FAIL
    reason = record.verdict.reason
    assert reason.startswith("simplified_to_device"), reason
    assert "; first divergent node: /backbone/conv1/" in reason
    assert "conv1" in record.measurement.first_divergent_node


@pytest.mark.usefixtures("in_process")
def test_a_missing_file_is_not_run_and_says_what_to_do(make):
    verdict = make(BARE, checkpoint="gone-00000000.onnx").check(BARE, "parity").verdict
    assert verdict.status is Status.NOT_RUN
    assert "exists only as that file; put it into a folder that site.toml names" in verdict.reason


@pytest.mark.usefixtures("in_process")
def test_two_inputs_go_through_the_chain_and_a_run(make):
    suite = make(TOY)
    for check in ("export", "parity"):
        verdict = suite.check(TOY, check).verdict
        assert verdict.status is Status.PASS, verdict.reason
    accuracy = suite.check(TOY, "accuracy").measurement
    # Nobody trained it; what counts is that device and file answer alike.
    assert (accuracy.paired.b, accuracy.paired.c) == (0, 0)
    preds, _ = chip_predictions(TOY, suite.bench)
    assert np.ptp(preds.scores, axis=0).max() > 1e-3
