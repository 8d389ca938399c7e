"""A suite on a farm of hosts of their own caches."""

import os

import pytest

from harness.errors import MissingInput
from harness.farm import orders, workplace
from harness.farm.hosts import Hosts
from harness.farm.suite import FarmSuite
from harness.host.progress import Progress
from harness.testing import run_here
from tests.farm.local import HOSTS, LocalCluster


def no_clips(name):
    raise MissingInput("this host has no clips")


@pytest.fixture(scope="module")
def farm(make_suite, tmp_path_factory):
    """Return what makes a suite on hosts of their own caches, which keep what they have built."""
    root, benches, blind = tmp_path_factory.mktemp("farm"), {}, set()

    def bench(site, log_dir, progress):
        name = os.environ[workplace.HOST_NAME]
        if name not in benches:
            benches[name] = make_suite(root / name).bench
        if name in blind:
            benches[name].clip_set = no_clips
        return benches[name]

    def make(hosts=HOSTS):
        environments = {
            node: {workplace.HOST_NAME: one.name, "ACCEPTANCE_CACHE_DIR": str(root / one.name)}
            for node, one in hosts.items()
        }
        blind.update(one.name for one in hosts.values() if not one.datasets)
        plain = make_suite(root / "driver")
        there = Hosts(LocalCluster(environments, dict(hosts)), print)
        contract = plain.thresholds.path.read_bytes()
        made = plain.thresholds, contract, "nightly", plain.run, there, Progress()
        return FarmSuite(*made, tmp_path_factory.mktemp("kept")), benches

    with pytest.MonkeyPatch.context() as patch:
        workplace._bench.cache_clear()
        patch.setattr(workplace, "Workbench", bench)
        patch.setattr(orders, "SHARD_CLIPS", 4)
        patch.setattr("harness.build.build.run_in_child", run_here)
        patch.setattr("harness.farm.spread.run_in_child", run_here)
        yield make
        workplace._bench.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where hosts keep their caches, and the driver its runs."""
    return tmp_path_factory.mktemp("farm")
