import json
from pathlib import Path

import pytest

import harness
from benchmarks.simulated import SimulatedNight, simulated_run, simulated_throughput
from harness.__main__ import main
from harness.contract.thresholds import thresholds_from_file
from harness.errors import BuildError, RecordError
from harness.host.artifacts import ArtifactStore
from harness.host.provenance import sha256_from_file
from harness.host.site import load_site
from harness.judge.verdict import Finding, Verdict
from harness.nightly.bisect import (
    Difference,
    SwappedBench,
    Trial,
    common_record,
    difference_lines,
    differences,
    find_artifact,
    trial_lines,
    trials,
)
from harness.spec import Cell, Status

ROOT = Path(harness.__file__).parent.parent
THRESHOLDS = thresholds_from_file(ROOT / "thresholds.toml")
CELL = Cell("nonlocal_tiny", "cpu", 1)
NAME = "nonlocal_tiny-cpu-bs1:throughput"
MET = Finding(name="x", measured=1.0, limit=1.0, comparison=">=", unit="", is_met=True)


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ACCEPTANCE_SITE", raising=False)
    monkeypatch.setenv("ACCEPTANCE_CACHE_DIR", str(tmp_path / "cache"))
    return load_site(None, {"ACCEPTANCE_CACHE_DIR": str(tmp_path / "cache")})


@pytest.fixture
def night(tmp_path):
    def write(number, **more):
        return simulated_run(tmp_path / "runs", THRESHOLDS, (CELL,), SimulatedNight(number, **more))

    return write


def kept(site, kind, content):
    """Put an artifact into the store and return its digest."""
    found = ArtifactStore(site.cache_dir).get_or_build(
        kind, f"{kind}.bin", {"content": content}, lambda target: target.write_text(content) and {}
    )
    return found.sha256


def test_what_differs_comes_in_the_order_in_which_it_acts(night):
    good = night(0, device_facts={"driver": "1"}, environment={"package.torch": "2.13", "z": "1"})
    bad = night(
        1,
        device_facts={"driver": "2"},
        environment={"package.torch": "2.14"},
        subjects={"weights": "w"},
    )
    found = differences(good, bad, NAME)
    assert [(one.stage, one.name, one.good, one.bad) for one in found] == [
        ("weights", "digest.weights", THRESHOLDS.limits(CELL).weights, "w"),
        ("exporter", "package.torch", "2.13", "2.14"),
        ("runtime", "device.driver", "1", "2"),
        ("machine", "z", "1", "absent"),
    ]
    assert "cannot be swapped in one installation" in difference_lines(found)[2]
    long = Difference("exporter", "digest.onnx", "a" * 64, "b" * 64)
    assert difference_lines([long]) == [
        f"exporter    digest.onnx            {'a' * 24} -> {'b' * 24}"
    ]
    assert differences(good, good, NAME) == []
    assert "nothing that is recorded differs" in difference_lines([])[0]


def test_a_check_that_is_not_there_is_named(night):
    with pytest.raises(RecordError, match="has no check x"):
        common_record(night(0), "x")


def test_an_artifact_is_found_by_its_digest_and_only_unchanged(site):
    digest = kept(site, "onnx", "good")
    kept(site, "onnx", "other")
    found = find_artifact(site, "onnx", digest)
    assert found.path.read_text() == "good"
    assert find_artifact(site, "simplified", digest) is None
    assert find_artifact(site, "onnx", "0" * 64) is None
    found.path.write_text("edited")
    assert sha256_from_file(found.path) != digest
    assert find_artifact(site, "onnx", digest) is None


def test_damaged_provenance_is_passed_over(site):
    digest = kept(site, "onnx", "good")
    (path,) = site.cache_dir.glob("onnx/*/*/provenance.json")
    path.write_text("{")
    assert find_artifact(site, "onnx", digest) is None


@pytest.fixture
def pair(site, night):
    """A good run whose files are in the store, but for one, and a bad run."""
    names = {"onnx": "onnx", "device_model": "device"}
    subjects = {name: kept(site, kind, f"good {name}") for name, kind in names.items()}
    good = night(0, subjects={**subjects, "simplified": "5" * 64})
    bad = night(1, speed=0.2, subjects={"onnx": "1", "simplified": "2", "device_model": "3"})
    return good, bad


def test_each_stage_that_changed_and_is_kept_is_swapped(pair, site):
    good, bad = pair
    seen = []

    def run_check(bench, cell, check):
        seen.append((type(bench).__name__, getattr(bench, "_stage", None), cell, check))
        if getattr(bench, "_stage", None) == "toolchain":
            verdict = Verdict(status=Status.PASS, reason="", findings=(MET,))
        else:
            verdict = Verdict(status=Status.FAIL, reason="")
        return simulated_throughput(THRESHOLDS, cell, 1.0), verdict

    before, after = common_record(good, NAME), common_record(bad, NAME)
    tried = list(trials(before, differences(good, bad, NAME), site, run_check))
    assert [(one.stage, one.status) for one in tried] == [
        ("as installed now", Status.FAIL),
        ("exporter", Status.FAIL),
        ("simplifier", None),
        ("toolchain", Status.PASS),
    ]
    assert "good run's simplified is not in" in tried[2].problem
    assert [stage for _, stage, _, _ in seen] == [None, "exporter", "toolchain"]
    lines = trial_lines(before, after, tried)
    assert lines[0].startswith("good run           pass  device.per_s")
    assert lines[1].startswith("bad run            fail")
    assert lines[2].startswith("as installed now   fail  device.per_s")
    assert lines[4].startswith("simplifier         not run  the good run's simplified is not in")
    assert lines[-1] == "the pass comes back with the good run's toolchain: look there first"


def test_what_is_swapped_is_used_and_what_follows_is_built_anew(site, monkeypatch):
    built = []
    monkeypatch.setattr(
        "harness.nightly.bisect.simplified_from_onnx", lambda onnx, shop: built.append(onnx) or onnx
    )
    found = find_artifact(site, "onnx", kept(site, "onnx", "good"))
    bench = SwappedBench(site, "exporter", found)
    assert bench.exported(CELL).artifact == found
    assert bench.simplified(CELL).artifact == found
    assert [one.artifact for one in built] == [found]
    assert SwappedBench(site, "simplifier", found).simplified(CELL).artifact == found
    monkeypatch.setattr(SwappedBench, "simplified", lambda self, cell: None)
    assert SwappedBench(site, "toolchain", found).device_model(CELL).artifact == found


def test_a_trial_that_breaks_says_why(pair, site):
    good, bad = pair

    def refuse(bench, cell, check):
        raise BuildError("atc refused")

    tried = list(trials(common_record(good, NAME), [], site, refuse))
    assert tried == [Trial("as installed now", None, {}, "BuildError: atc refused")]
    lines = trial_lines(common_record(good, NAME), common_record(bad, NAME), tried)
    assert lines[-1] == "no swap brings the pass back: look at what cannot be swapped"
    fine = [Trial("as installed now", Status.PASS, {})]
    lines = trial_lines(common_record(good, NAME), common_record(bad, NAME), fine)
    assert lines[-1].startswith("it passes as installed now")


def test_the_command_says_what_changed(pair, capsys):
    good, bad = (str(run.root) for run in pair)
    assert main(["bisect", good, bad, "--no-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{NAME}\nexporter    digest.onnx")
    assert main(["bisect", bad, good, "--no-run"]) == 2
    assert "name one with --check" in capsys.readouterr().err
    assert main(["bisect", bad, good, "--check", NAME, "--no-run"]) == 0


def test_the_command_runs_the_check_of_the_tier(pair, capsys, monkeypatch):
    class Found:
        measurement = simulated_throughput(THRESHOLDS, CELL, 1.0)
        verdict = Verdict(status=Status.PASS, reason="", findings=(MET,))

    def check(context):
        assert context.cell == CELL
        assert context.tier == THRESHOLDS.tier("nightly")
        return Found

    monkeypatch.setattr("harness.cli.bisect.CHECK_FUNCTIONS", {"throughput": check})
    good, bad = (str(run.root) for run in pair)
    assert main(["bisect", good, bad]) == 0
    assert "it passes as installed now" in capsys.readouterr().out
    assert json.loads((Path(good) / "run.json").read_text())["tier"] == "nightly"
