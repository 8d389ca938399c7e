import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.device import Presence
from harness.errors import DeviceBroken, RunError
from harness.registry import device, load_site
from harness.runtimes.ascend.device import build_fact
from harness.runtimes.ascend.environment import PinnedOm
from harness.runtimes.ascend.site import tools_from_site

DEVICE310, DEVICE310P = device("ascend310"), device("ascend310p")


def test_atc_takes_what_keeps_its_precision():
    for found in (DEVICE310, DEVICE310P):
        assert all(map(found.takes, ("Conv", "MatMul", "Erf", "Softmax", "Gather")))
        assert not any(map(found.takes, ("Einsum", "LayerNormalization", "ScatterND", "Loop")))


@pytest.mark.parametrize(("batch", "streaming"), [(1, True), (4, True), (4, False)])
def test_builds_and_computes_what_onnx_runtime_does(bench, make, generation, batch, streaming):
    onnx = make.tiny_onnx(bench.folder, batch=batch)
    session = bench.device(streaming=streaming).open(bench.built_before(onnx))
    feeds = [make.random_feed(onnx, seed) for seed in range(3)]
    try:
        outputs = list(session.run_many(feeds))
    finally:
        session.close()
        session.close()
    for feed, output in zip(feeds, outputs, strict=True):
        np.testing.assert_allclose(output["class"], make.expected_output(onnx, feed), rtol=1e-6)
    assert session.notes == (f"ais_bench of {generation}",)
    assert list(bench.tools.scratch.iterdir()) == []


def test_a_device_travels_to_another_process(bench):
    device = DEVICE310P.on("npu1-chip0")
    assert pickle.loads(pickle.dumps(device)) == device


def test_what_a_device_has_to_say_is_logged(caplog):
    DEVICE310.say("atc x: 60 s")
    assert caplog.messages == ["atc x: 60 s"]


def test_the_tools_come_from_the_site(tmp_path):
    for name in ("set_env.sh", "python3", "npu-smi"):
        (tmp_path / name).touch()
    site = tmp_path / "site.toml"
    site.write_text(
        'cache_dir = "cache"\nlock_dir = "locks"\n[ascend]\nset_env = "set_env.sh"\n'
        'atc_python = "python3"\nais_bench_python = "python3"\nnpu_smi = "npu-smi"\n'
        "device_ids = [1, 3]\n"
        f'[ascend.models.x-ascend310p-bs1]\nom = "npu-smi"\nsha256 = "{"a" * 64}"\n'
    )
    tools = tools_from_site(load_site(site, {"HOME": str(tmp_path)}))
    assert (tools.npu_smi, tools.atc) == (str(tmp_path / "npu-smi"), "atc")
    assert tools.python == tools.atc_python == str(tmp_path / "python3")
    assert (tools.set_env, tools.device_numbers) == (tmp_path / "set_env.sh", (1, 3))
    assert tools.models == {"x-ascend310p-bs1": PinnedOm(om=tmp_path / "npu-smi", sha256="a" * 64)}
    assert (tools.locks, tools.scratch.parent.parent) == (tmp_path / "locks", tmp_path / "cache")
    nothing = tools_from_site(load_site(None, {"HOME": str(tmp_path)}))
    assert (nothing.npu_smi, nothing.python, nothing.set_env) == ("npu-smi", "", None)


def test_the_probe_says_emulated(bench):
    state = bench.device().probe()
    assert state.presence is Presence.PRESENT
    assert state.emulated
    assert state.facts["emulated"] == "yes"
    assert state.detail.endswith("emulator/atc")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("smi_8005", "ret is -8005"),
        ("smi_8020", "ret is -8020"),
        ("smi_garbage", "cannot read"),
        ("smi_rc", "status 1"),
        ("smi_hang", "did not answer within 1 s and was killed"),
        ("smi_alarm", "no ascend310p is healthy: npu1-chip0 Alarm"),
    ],
)
def test_a_broken_npu_smi_is_never_absent(bench, fault, words):
    bench.fault(fault)
    timeout_s = 1.0 if fault == "smi_hang" else 30.0
    state = bench.device(probe_timeout_s=timeout_s).probe()
    assert (state.presence, words in state.detail) == (Presence.BROKEN, True), state.detail


def test_without_tools_the_device_is_absent(bench, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    state = bench.device().probe()
    assert state.presence is Presence.ABSENT
    assert "npu-smi is not on PATH" in state.detail


def test_a_310_is_not_a_310p(bench, monkeypatch):
    monkeypatch.setenv("EMULATOR_CHIP", "310")
    assert bench.device().probe().presence is Presence.ABSENT
    assert (
        dataclasses.replace(DEVICE310, tools=bench.tools).probe().facts["soc_version"]
        == "Ascend310"
    )


def test_one_emulated_host_has_both_kinds():
    script = (
        "from harness.registry import device\n"
        "for name in ('ascend310', 'ascend310p'):\n"
        "    state = device(name).probe()\n"
        "    print(state.presence, state.facts['soc_version'], state.unit_ids, state.emulated)\n"
    )
    root = Path(__file__).parents[3]
    env = {**os.environ, "PYTHONPATH": str(root)}
    argv = [str(root / "tests" / "emulator" / "emulate"), sys.executable, "-c", script]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "present Ascend310 ('npu2-chip0',) True",
        "present Ascend310P3 ('npu1-chip0',) True",
    ]


def test_each_chip_of_a_duo_card_is_a_unit(bench, make, monkeypatch):
    monkeypatch.setenv("EMULATOR_CHIP_COUNT", "4")
    device = bench.device()
    units = device.probe().unit_ids
    assert units == ("npu1-chip0", "npu1-chip1", "npu2-chip0", "npu2-chip1")
    session = device.on(units[3]).open(bench.built_before(make.tiny_onnx(bench.folder)))
    assert session.unit.device_number == 3
    session.close()
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1,3")
    assert device.on(units[3]).unit().device_number == 1
    with pytest.raises(DeviceBroken, match="npu1-chip0 can no longer be used, or is not visible"):
        device.on(units[0]).unit()


def changed(model, **facts):
    artifact = dataclasses.replace(model.artifact, provenance=facts)
    return dataclasses.replace(model, artifact=artifact)


def test_a_model_of_another_chip_is_refused_before_it_is_loaded(bench, make):
    model = changed(bench.built_before(make.tiny_onnx(bench.folder)), soc_version="Ascend310")
    with pytest.raises(RunError, match=r"built for Ascend310, and npu1-chip0 is Ascend310P3"):
        bench.device().open(model)
    nested = changed(model, build={"soc_version": "Ascend310"}, other=3)
    assert build_fact(nested, "soc_version") == "Ascend310"
    with pytest.raises(RunError, match="an offline model runs on one kind of chip"):
        bench.device().open(nested)


@pytest.mark.parametrize(
    ("built", "installed", "is_refused"),
    [
        ("8.0.0", "7.0.1", True),
        ("7.0.0", "8.0.RC1", False),
        ("8.0.RC3", "8.0.0", False),
        ("unknown", "7.0.1", False),
        ("8.0.0", "", False),
    ],
)
def test_a_model_of_a_newer_cann_is_refused(bench, make, built, installed, is_refused):
    info = bench.tools.ascend_root / "ascend-toolkit" / "latest" / "opp" / "version.info"
    info.parent.mkdir(parents=True)
    info.write_text(f"Version={installed}\n")
    model = changed(bench.built_before(make.tiny_onnx(bench.folder)), cann=built)
    if is_refused:
        with pytest.raises(RunError, match=r"built with CANN 8.0.0, and this host runs CANN 7.0.1"):
            bench.device().open(model)
    else:
        bench.device().open(model).close()


def test_a_broken_environment_script_is_broken(bench, tmp_path):
    device = bench.device(set_env=tmp_path / "none.sh")
    assert device.probe().presence is Presence.BROKEN
    with pytest.raises(DeviceBroken, match=r"none.sh does not exist"):
        device.unit()


def test_versions_are_facts(bench):
    info = bench.tools.ascend_root / "driver" / "version.info"
    info.parent.mkdir(parents=True)
    info.write_text("Version=23.0.0\n")
    facts = bench.device().probe().facts
    assert (facts["driver"], facts["driver_on_disk"]) == ("24.1.0.1", "23.0.0")
    assert (facts["firmware"], facts["cann"]) == ("unknown", "unknown")
