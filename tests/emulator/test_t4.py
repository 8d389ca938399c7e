"""The emulated T4: runs the device `cuda` where there is no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import registry
from harness.judge.limits import SoakLimits
from harness.judge.soak import judge_soak
from harness.measure.soak import SoakMeasurement
from harness.spec import Status

ROOT = Path(__file__).parents[2]
EMULATE = ROOT / "tests/emulator/t4/emulate"
LATENCY_MS = 30.0
SCRIPT = """
import dataclasses, json, sys, time
from pathlib import Path
import numpy as np
import onnxruntime
from harness import registry
from harness.check.soak import soak_session
from harness.measure.soak import soak_measurement
from harness.measure.soak_lines import soak_lines
from harness.runtimes.ort.device import _smallest_graph
from harness.timings import LoopSettings
from harness.spec import Artifact, DeviceModel, OnnxModel

graph = Path(sys.argv[1])
graph.write_bytes(_smallest_graph())
spec = registry.model_spec("nonlocal_tiny")
spec = dataclasses.replace(spec, input=dataclasses.replace(spec.input, name="x", shape=(1,)))
onnx = OnnxModel(spec, 1, "seeded", Artifact("", graph, "", {}))
by_name = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
told = {"by name": by_name.run(None, {"x": np.array([-1.0], np.float32)})[0].tolist()}
for name in ("cpu", "cuda"):
    device, built = registry.device(name), graph.with_suffix(f".{name}")
    state = device.probe()
    facts = device.build(onnx, built)
    model = DeviceModel(onnx, name, Artifact("", built, "", {}))
    session = device.open(model)
    feeds = [{"x": np.array([value], np.float32)} for value in (-1.0, 2.0, -1.0, 2.0)]
    answers, taken_ms = [], []
    for feed in feeds:
        start_s = time.perf_counter()
        answers.append(session.run(feed)["y"].tolist())
        taken_ms.append(1000 * (time.perf_counter() - start_s))
    loop = session.loop(feeds[1], LoopSettings(1, 4, 0.0))
    told[name] = {
        "presence": state.presence, "emulated": state.emulated, "facts": dict(state.facts),
        "built": facts, "answers": answers, "taken_ms": taken_ms,
        "device_ms": loop.device_ms, "loop": loop.output["y"].tolist(),
    }
soak_session(device, model, 3.0, graph.with_suffix(".jsonl"))
soaked = soak_measurement(soak_lines(graph.with_suffix(".jsonl").read_bytes()), 1)
told["soak"] = soaked.model_dump(mode="json")
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    graph = tmp_path_factory.mktemp("t4") / "graph.onnx"
    done = subprocess.run(
        [EMULATE, sys.executable, "-c", SCRIPT, graph],
        env={**os.environ, "EMULATOR_LATENCY_MS": str(LATENCY_MS)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def test_it_is_there_and_says_that_it_is_emulated(told):
    assert told["cuda"]["presence"] == "present"
    assert told["cuda"]["emulated"] is True
    facts = told["cuda"]["facts"]
    assert (facts["chip"], facts["driver"]) == ("Tesla T4", "535.104.05")
    assert facts["emulated"] == "yes"
    assert told["cuda"]["built"] == {"provider": "CUDAExecutionProvider"}


def test_the_host_itself_is_not_emulated(told):
    assert told["cpu"]["emulated"] is False
    assert told["cpu"]["built"] == {"provider": "CPUExecutionProvider"}
    # As onnxsim asks, which hides it if its folding fails.
    assert told["by name"] == [0.0]


def test_it_computes_what_is_asked_and_answers_again_after_its_latency(told):
    for name in ("cpu", "cuda"):
        assert told[name]["answers"] == [[0.0], [2.0], [0.0], [2.0]]
        assert told[name]["loop"] == [2.0]
    assert min(told["cuda"]["taken_ms"][2:]) >= LATENCY_MS
    assert min(told["cuda"]["device_ms"]) >= LATENCY_MS


def test_a_soak_is_watched_by_nvidia_smi(told):
    found = SoakMeasurement.model_validate_json(json.dumps(told["soak"]))
    assert (found.definition, found.silent, found.unhealthy) == ("device", 0, None)
    assert (found.temperature_c.high, found.frequency_mhz.high) == (61.0, 1590.0)
    assert (found.power.mean_w, found.power.of) == (pytest.approx(66.21), "card")
    assert found.device_growth_mb == 0.0
    limits = SoakLimits(temperature_max_c=60.0, source="us")
    assert judge_soak(found, limits).status is Status.FAIL


def test_a_gpu_beside_an_emulator_of_anything_is_not_taken_at_its_word(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(EMULATE.parent))
    assert registry.device("cuda").hardware()["emulated"] == "yes"
    monkeypatch.delenv("PYTHONPATH")
    assert "emulated" not in registry.device("cuda").hardware()
    monkeypatch.setenv("EMULATOR_STAMP", "yes")
    assert registry.device("cuda").hardware()["emulated"] == "yes"
