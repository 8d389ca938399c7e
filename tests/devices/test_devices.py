import math

import numpy as np
import pytest

from harness import registry
from harness.device import DeviceState, Presence
from harness.errors import BuildError, RunError
from harness.spec import Artifact, DeviceModel, OnnxModel
from harness.timings import LoopSettings

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)
EXPECTED = np.maximum(X, 0) + X
QUICK = LoopSettings(warmup_queries=1, min_queries=4, min_seconds=0.0)


def artifact(path):
    return Artifact("file", path, "", {})


@pytest.fixture(params=registry.device_names())
def device(request):
    return registry.device(request.param)


@pytest.fixture
def present(device):
    state = device.probe()
    if state.presence is not Presence.PRESENT:
        pytest.skip(f"{device.spec.name} is {state.presence}: {state.detail}")
    return device


@pytest.fixture
def device_model(present, onnx_model, tmp_path):
    target = tmp_path / "tiny.built"
    present.build(onnx_model, target)
    return DeviceModel(onnx_model, present.spec.name, artifact(target))


@pytest.fixture
def session(present, device_model):
    session = present.open(device_model)
    yield session
    session.close()


def test_a_device_is_called_like_its_file(device, request):
    assert device.spec.name in request.node.callspec.id
    assert device.spec.description
    assert device.spec.precision in ("fp32", "fp16")


def test_a_probe_says_what_it_found_or_what_it_looked_for_and_what_to_do(device):
    state = device.probe()
    assert isinstance(state, DeviceState)
    assert state.detail.strip()
    if state.presence is Presence.PRESENT:
        assert state.unit_ids
        assert all(isinstance(fact, str) for fact in state.facts.values())
    else:
        looked_for, _, advice = state.detail.rpartition(";")
        assert min(len(looked_for), len(advice)) > 10


def test_it_computes_what_numpy_computes(session):
    outputs = session.run({"x": X})
    assert list(outputs) == ["y"]
    np.testing.assert_allclose(outputs["y"], EXPECTED, rtol=1e-3)


def test_building_leaves_facts_for_the_provenance(present, onnx_model, tmp_path):
    facts = present.build(onnx_model, tmp_path / "m")
    assert (tmp_path / "m").stat().st_size > 0
    assert facts


def test_a_loop_times_each_query_and_computes_the_same(session):
    times = session.loop({"x": X}, QUICK)
    assert len(times.device_ms) == len(times.device_io_ms) >= QUICK.min_queries
    for device_ms, device_io_ms in zip(times.device_ms, times.device_io_ms, strict=True):
        assert 0.0 < device_ms <= device_io_ms < math.inf
    np.testing.assert_allclose(times.output["y"], session.run({"x": X})["y"], rtol=1e-6)


def test_closing_twice_is_safe_and_running_after_it_is_an_error(session):
    session.close()
    session.close()
    with pytest.raises(RunError, match="closed"):
        session.run({"x": X})
    with pytest.raises(RunError, match="closed"):
        session.loop({"x": X}, QUICK)


WRONG_FEEDS = {
    "nothing": {},
    "name": {"z": X},
    "too many": {"x": X, "z": X},
    "shape": {"x": X[:1]},
    "rank": {"x": X[0]},
    "dtype": {"x": X.astype(np.float64)},
}


def test_a_wrong_feed_is_refused_and_does_no_harm(session, subtests):
    for wrong, feed in WRONG_FEEDS.items():
        with subtests.test(wrong):
            with pytest.raises(RunError):
                session.run(feed)
            with pytest.raises(RunError):
                session.loop(feed, QUICK)
            np.testing.assert_allclose(session.run({"x": X})["y"], EXPECTED, rtol=1e-3)


@pytest.mark.parametrize("content", [b"", b"garbage" * 30, None], ids=["empty", "garbage", "none"])
def test_what_is_no_model_is_refused(present, onnx_model, tmp_path, content):
    path = tmp_path / "bad"
    if content is not None:
        path.write_bytes(content)
    bad = OnnxModel(onnx_model.spec, 1, "seeded", artifact(path))
    with pytest.raises(BuildError, match="bad"):
        present.build(bad, tmp_path / "built")
    with pytest.raises(RunError, match="bad"):
        present.open(DeviceModel(onnx_model, present.spec.name, artifact(path)))


def test_an_operator_that_nobody_knows_is_refused(present, onnx_model, tiny_onnx, tmp_path):
    onnx_model.artifact.path.write_bytes(tiny_onnx(op="Nonsense").SerializeToString())
    with pytest.raises(BuildError, match="Nonsense"):
        present.build(onnx_model, tmp_path / "built")
