"""A model of two inputs through the command lines of atc and ais_bench."""

import dataclasses

import numpy as np
import onnxruntime
import pytest

from harness.errors import RunError
from harness.predict.run import feed_from_tensors
from harness.spec import Artifact, OnnxModel
from tests.bare_onnx import slow_fast_proto, slow_fast_spec, stored


@pytest.fixture
def onnx(tmp_path):
    path = stored(tmp_path, slow_fast_proto(batch=2))
    return OnnxModel(slow_fast_spec(), 2, "checkpoint", Artifact("onnx", path, "0" * 64, {}))


@pytest.fixture
def feeds(onnx):
    """Three batches of clips."""
    random, shape = np.random.default_rng(0), onnx.spec.protocol.sample_shape
    clips = random.normal(size=(6, *shape)).astype(np.float32)
    return [feed_from_tensors(onnx.spec, 2, clips[at : at + 2]) for at in (0, 2, 4)]


def watched(device, lines):
    """A device whose command lines are kept."""
    run = device.tools.run

    def keep(command):
        lines.append(command.argv)
        return run(command)

    return dataclasses.replace(device, tools=dataclasses.replace(device.tools, run=keep))


@pytest.mark.parametrize("streaming", [True, False])
def test_both_inputs_reach_the_chip(bench, onnx, feeds, generation, streaming):
    lines = []
    device = watched(bench.device(streaming=streaming), lines)
    session = device.open(bench.built(onnx, device))
    outputs = list(session.run_many(feeds))
    session.close()
    said = [word for line in lines for word in line if word.startswith("--input_shape")]
    assert said == ["--input_shape=slow:2,3,2,16,16;fast:2,3,8,16,16"]
    given = [line[line.index("--input") + 1] for line in lines if "--input" in line]
    assert [[path[-5:] for path in one.split(",")] for one in given] == (
        [] if streaming else [["/in/0", "/in/1"]]
    )
    exact = onnxruntime.InferenceSession(str(onnx.artifact.path))
    for feed, output in zip(feeds, outputs, strict=True):
        np.testing.assert_allclose(output["class"], exact.run(None, feed)[0], rtol=1e-5)


def test_an_input_that_is_missing_is_said(bench, onnx, feeds):
    session = bench.device().open(bench.built(onnx))
    with pytest.raises(RunError, match="the model takes slow, fast, but the feed has slow"):
        session.run({"slow": feeds[0]["slow"]})
    session.close()


def test_the_search_for_a_wrong_operator_feeds_both(bench, onnx, feeds):
    with bench.device().inside(bench.built(onnx), feeds[0]) as inside:
        seen = {name for op in inside.operators for value in op.outputs for name in value.tensors}
    assert {"slow_Relu", "fast_Relu", "scores"} <= seen
