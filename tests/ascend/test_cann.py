import numpy as np
import pytest

from harness.spec import Presence


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_builds_and_computes_what_onnx_runtime_does(bench, make, generation, batch, streaming):
    onnx = make.tiny_onnx(bench.folder, batch=batch)
    device = bench.device(streaming=streaming)
    session = device.open(bench.built(onnx))
    feeds = [make.random_feed(onnx, seed) for seed in range(3)]
    try:
        outputs = list(session.run_many(feeds))
    finally:
        session.close()
        session.close()
    for feed, output in zip(feeds, outputs, strict=True):
        np.testing.assert_allclose(output["class"], make.expected_output(onnx, feed), rtol=1e-6)
    assert session.notes == [f"ais_bench of {generation}"]
    assert list(bench.tools.scratch.iterdir()) == []


def test_probe_says_emulated(bench):
    state = bench.device().probe()
    assert state.presence is Presence.PRESENT
    assert state.emulated
    assert state.facts["emulated"].endswith("EMULATOR_STAMP")
