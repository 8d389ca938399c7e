"""Clips that only hosts without a chip can read, on real Ray nodes: they decode for the host that has one."""

import threading

import pytest

from benchmarks import stand_in
from benchmarks.stand_in import CELL, Scene, clip_set_of, expected, predictions_of
from harness.record.stints import stints_of
from harness.spec import Status
from tests.farm.local import wait_for_mark

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[farm]'")

# Ray leaves files of its own processes open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
CLIPS, SHARD = 192, 16
WANTED = stand_in.digest(expected(clip_set_of(CLIPS)))


@pytest.fixture(scope="module")
def cluster(folder):
    """A host with a chip, and two without."""
    with stand_in.nodes([1, 0, 0], folder) as (made, nodes):
        yield made, nodes


@pytest.fixture
def check(cluster, folder, tmp_path, monkeypatch):
    """Return what checks the accuracy where some hosts can read the clips, and one is killed while it decodes."""
    made, nodes = cluster
    monkeypatch.setattr("harness.farm.orders.SHARD_CLIPS", SHARD)

    def run(readers, killed=None):
        faults = {} if killed is None else {f"host{killed}": "slow"}

        def kill():
            wait_for_mark(tmp_path, "decode", f"host{killed}")
            made.remove_node(nodes[killed], allow_graceful=False)

        awaited = "".join(f"decode {host}" for host in faults)
        with stand_in.stand_ins(Scene(CLIPS, 0.01, faults, tmp_path, readers, awaited)):
            suite = stand_in.farm_suite(made.address, folder)
            if killed is not None:
                threading.Thread(target=kill, daemon=True).start()
            return suite, suite.check(CELL, "accuracy")

    return run


def decoders(suite, record):
    stints = stints_of(record, suite.run)
    return {(stint.host, stint.fault) for stint in stints if "crops for" in stint.what}


def test_no_host_can_read_the_clips(check):
    _, record = check(("elsewhere",))
    assert record.verdict.status is Status.NOT_RUN
    assert "can read data set motion8 (hosts: host0, host1, host2)" in record.verdict.reason


def test_a_lost_host_costs_what_it_was_decoding_and_another_decodes_that(check):
    suite, record = check(("host1", "host2"), 2)
    assert predictions_of(suite, record) == WANTED
    assert {("host1", ""), ("host2", "lost")} <= decoders(suite, record)


@pytest.mark.slow
def test_without_the_last_host_that_can_read_the_check_is_an_error_by_name(check):
    _, record = check(("host1",), 1)
    assert record.verdict.status is Status.ERROR
    assert "the farm lost it, and no other host could take it" in record.verdict.reason
