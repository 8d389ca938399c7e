"""Shipped clips that only a host without a chip can read, on real Ray nodes that decode and run them."""

import dataclasses
import io
import os
from pathlib import Path

import pytest

from benchmarks import stand_in
from harness.build.workbench import Workbench
from harness.check.suite import Suite
from harness.contract.thresholds import thresholds_from_file
from harness.farm import host
from harness.farm.calls import PYTORCH, resource_of
from harness.farm.cluster import Cluster
from harness.farm.hosts import Hosts
from harness.farm.suite import FarmSuite
from harness.host.progress import Progress
from harness.host.site import load_site
from harness.record.stints import stints_of
from harness.spec import Cell

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[farm]'")

# Ray leaves files of its own processes open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
CELL, TIER = Cell("nonlocal_tiny", "cpu", 1), "smoke"
# Enough for three shards each.
CLIPS, SHARD = 48, 16
CONTRACT = Path(__file__).parents[2] / "thresholds.toml"
DESCRIBE = host.describe


def describe(say):
    """Have one host say that it cannot read clips, and the other that it has no device."""
    facts = DESCRIBE(say)
    changes = {"devices": {}} if facts.name == "reader" else {"datasets": ()}
    return dataclasses.replace(facts, **changes)


@pytest.fixture
def thresholds(tmp_path):
    """The contract of the repository with fewer clips."""
    all_clips, few = "timesformer_tiny-cpu = 240", f"nonlocal_tiny-cpu = {CLIPS}"
    text = CONTRACT.read_text()
    assert all_clips in text
    (tmp_path / "thresholds.toml").write_text(text.replace(all_clips, few))
    return thresholds_from_file(tmp_path / "thresholds.toml")


@pytest.fixture
def address(folder):
    """The address of a farm of two hosts."""
    from ray.cluster_utils import Cluster as LocalNodes

    def arguments(name, **chips):
        return {**stand_in.node_arguments(name, 1, folder), "resources": {**chips, PYTORCH: 1}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        chip = arguments("chips", **{resource_of("cpu"): 1})
        made = LocalNodes(initialize_head=True, head_node_args={**chip, "include_dashboard": False})
        made.add_node(**arguments("reader"))
        yield made.address
        ray.shutdown()
        made.shutdown()


@pytest.mark.slow
def test_crops_that_another_host_decodes_give_the_predictions_of_one_machine(
    address, folder, thresholds, monkeypatch
):
    monkeypatch.setattr("harness.farm.orders.SHARD_CLIPS", SHARD)
    monkeypatch.setattr(host, "describe", describe)
    made = thresholds, thresholds.path.read_bytes(), TIER
    run = stand_in.new_run(folder, thresholds.digest)
    hosts = Hosts(Cluster(address, print), print)
    suite = FarmSuite(*made, run, hosts, Progress(io.StringIO()), folder / "driver")
    record = suite.check(CELL, "accuracy")
    one_machine = suite_here(folder, thresholds)
    expected = one_machine.check(CELL, "accuracy")
    # So few clips decide nothing, but the same.
    assert record.verdict == expected.verdict, record.verdict.reason
    assert record.measurement == expected.measurement
    assert record.measurement.clip_count == CLIPS
    for what in ("predictions", "reference", "labels"):
        assert run.read(record, what) == one_machine.run.read(expected, what), what
    stints = stints_of(record, run)
    done = {(stint.host, stint.what.removeprefix(f"{CELL.id} accuracy: ")) for stint in stints}
    assert {("reader", "crops for predictions"), ("reader", "crops for reference")} <= done
    assert {("chips", "predictions"), ("chips", "reference")} <= done


def suite_here(folder, thresholds):
    """Return a suite without a farm, which finds the models that the farm has built."""
    site = load_site(None, {**os.environ, "ACCEPTANCE_CACHE_DIR": str(folder / "chips")})
    bench = Workbench(site, folder / "logs", Progress(io.StringIO()))
    return Suite(thresholds, TIER, bench, stand_in.new_run(folder, thresholds.digest))
