from harness.runtimes.ascend.doctor import tool_states


def by_name(device):
    return {finding.name: finding for finding in tool_states(device.tools)}


def test_a_whole_host_lacks_nothing_but_the_right_python(bench):
    root = bench.tools.ascend_root
    for part in ("driver", "firmware", "ascend-toolkit/latest/opp"):
        (root / part).mkdir(parents=True)
        (root / part / "version.info").write_text("Version=22.0.2\n")
    found = by_name(bench.device())
    assert [f.name for f in found.values() if f.advice] == ["Python of atc"]
    assert found["npu-smi"].found == "driver 24.1.0.1: 310P3 OK"
    assert found["CANN"].of_guides == "5.1.RC2"
    assert "set it in site.toml" in found["Python of atc"].advice
    assert found["ais_bench"].found.startswith("from 2025, in ")


def test_a_bare_host_lacks_everything_and_is_told_how_to_get_it(bench, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    bench.fault("bench_missing")
    found = by_name(bench.device())
    assert all(finding.advice for finding in found.values())
    assert "install the Ascend driver" in found["npu-smi"].advice
    assert "hiascend.com" in found["firmware"].advice
    assert "set_env.sh" in found["atc"].advice
    assert "install the aclruntime and ais_bench wheels" in found["ais_bench"].advice


def test_a_python_that_fits_is_said(bench, monkeypatch):
    monkeypatch.setattr("harness.runtimes.ascend.doctor.atc_python_problems", lambda *_: [])
    assert by_name(bench.device())["Python of atc"].found == "fits"


def test_a_broken_environment_is_the_only_finding(bench, tmp_path):
    (finding,) = tool_states(bench.device(set_env=tmp_path / "no.sh").tools)
    assert "no.sh does not exist" in finding.advice
