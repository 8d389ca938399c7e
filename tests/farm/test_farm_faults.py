"""What may happen to a farm: processes, hosts and chips that fail; no clip is counted twice or left out.

The hosts are real Ray nodes with stand-in chips (benchmarks/stand_in.py): each test starts from three that
are well. What a run says is compared with what the clips alone decide.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import stand_in
from benchmarks.stand_in import CELL, Scene, clip_set_of, expected, predictions_of
from harness.farm.hosts import Hosts
from harness.spec import Status
from tests.farm.local import marks, wait_for_mark

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[farm]'")

# Ray leaves files of its own processes open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
CLIPS, CLIP_S, SHARD = 480, 0.004, 48
WANTED = stand_in.digest(expected(clip_set_of(CLIPS)))
ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from pathlib import Path
from benchmarks import stand_in
from harness.farm import orders
orders.SHARD_CLIPS = int(sys.argv[4])
marks, folder = Path(sys.argv[2]), Path(sys.argv[3])
if __name__ == "__main__":
    with stand_in.stand_ins(stand_in.Scene(480, 0.02, {}, marks)):
        suite = stand_in.farm_suite(sys.argv[1], folder)
        record = suite.check(stand_in.CELL, "accuracy")
        print(record.verdict.status, record.verdict.reason)
"""
# A run is pytest, in which warnings are errors: Ray's on many calls must not end it.
BUSY = """
import ray.util.client.worker
ray.util.client.worker.MESSAGE_SIZE_THRESHOLD = 0
"""


@pytest.fixture(scope="module")
def cluster(folder):
    """Three hosts with a chip each."""
    with stand_in.nodes([1, 1, 1], folder) as (made, nodes):
        yield made, nodes


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr("harness.farm.orders.SHARD_CLIPS", SHARD)


@pytest.fixture
def check(cluster, folder, tmp_path):
    """Return what checks the accuracy while faults happen; it returns the run and its record."""

    def run(faults=None, meanwhile=None, clip_s=CLIP_S, awaited=""):
        scene = Scene(CLIPS, clip_s, faults or {}, tmp_path, awaited=awaited)
        with stand_in.stand_ins(scene):
            suite = stand_in.farm_suite(cluster[0].address, folder)
            replace_lost(cluster, folder, suite.cluster.nodes())
            thread = threading.Thread(target=meanwhile or (lambda: None), daemon=True)
            thread.start()
            record = suite.check(CELL, "accuracy")
            thread.join()
        return suite, record

    return run


@pytest.fixture
def impatient(monkeypatch):
    """A driver that waits for a silent host for seconds only."""
    place = Hosts.place

    def soon(self, *args):
        at, kind = place(self, *args)
        return dataclasses.replace(at, silent_s=6.0), kind

    monkeypatch.setattr(Hosts, "place", soon)


def replace_lost(cluster, folder, there):
    """Put hosts in the place of those that an earlier test has taken away."""
    made, nodes = cluster
    for number, node in enumerate(nodes):
        if node.node_id not in {one.id for one in there}:
            nodes[number] = made.add_node(**stand_in.node_arguments(f"host{number}", 1, folder))


def raylet_of(node):
    return node.all_processes["raylet"][0].process.pid


def faults_of(suite):
    return {(stint.host, stint.fault) for stint in suite.cluster.stints if stint.fault}


def test_a_killed_process_costs_its_shard_only(check):
    suite, record = check({"host1": "killed"}, awaited="batch host1")
    assert predictions_of(suite, record) == WANTED
    assert ("host1", "lost") in faults_of(suite)


@pytest.mark.slow
def test_a_frozen_process_loses_its_shard(check, impatient):
    suite, record = check({"host2": "frozen"}, awaited="batch host2")
    assert predictions_of(suite, record) == WANTED
    assert any(host == "host2" and "silent" in fault for host, fault in faults_of(suite))


def test_a_chip_that_fails_is_an_error_by_name_and_a_rerun_continues(check, tmp_path):
    suite, record = check({"host1": "chip"}, awaited="batch host1")
    assert record.verdict.status is Status.ERROR
    assert "host1: the chip npu0 answers with error 507011" in record.verdict.reason
    kept = {path.stem for path in (suite.cache_dir / "farm").rglob("predictions-*.part")}
    assert 0 < len(kept) < CLIPS // SHARD
    suite, record = check()
    assert predictions_of(suite, record) == WANTED
    starts = Counter(words[2] for words in marks(tmp_path, "start"))
    assert all(starts[name.removeprefix("predictions-")] == 1 for name in kept)
    assert len(starts) == CLIPS // SHARD


@pytest.mark.slow
def test_a_full_disk_is_an_error_by_name_and_a_rerun_continues(check):
    _, record = check({"host2": "disk"}, awaited="batch host2")
    assert record.verdict.status is Status.ERROR
    assert "host2: cannot keep predictions in" in record.verdict.reason
    assert "make room" in record.verdict.reason
    # The process with the full disk ends; another one takes its place.
    suite, record = check({"host2": "killed"})
    assert predictions_of(suite, record) == WANTED


@pytest.mark.slow
def test_a_host_that_stops_answering_and_comes_back_counts_no_clip_twice(
    check, cluster, impatient, tmp_path
):
    node = cluster[1][2]
    stopped = []

    def stop():
        stopped.extend([wait_for_mark(tmp_path, "batch", "host2"), raylet_of(node)])
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

    try:
        suite, record = check(meanwhile=stop, awaited="batch host2")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert predictions_of(suite, record) == WANTED
    assert any(host == "host2" and "silent" in fault for host, fault in faults_of(suite))
    suite, record = check()
    assert predictions_of(suite, record) == WANTED


@pytest.mark.slow
def test_a_killed_driver_leaves_what_is_done_and_a_rerun_continues(
    check, cluster, folder, tmp_path
):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [
        sys.executable,
        str(script),
        cluster[0].address,
        str(tmp_path),
        str(folder),
        str(SHARD),
    ]
    driver = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    kept = folder / "driver" / "farm"
    end_s = time.monotonic() + 90.0
    while len(list(kept.rglob("predictions-*.part"))) < 3 and time.monotonic() < end_s:
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    done = {path.stem.rpartition("-")[2] for path in kept.rglob("predictions-*.part")}
    assert 3 <= len(done) < CLIPS // SHARD
    before = Counter(words[2] for words in marks(tmp_path, "start"))
    suite, record = check()
    assert predictions_of(suite, record) == WANTED
    after = Counter(words[2] for words in marks(tmp_path, "start"))
    assert all(before[number] == after[number] for number in done)


# The last two take hosts away.
@pytest.mark.slow
def test_a_killed_host_costs_its_shards_only_and_another_may_join(check, cluster, folder, tmp_path):
    made, nodes = cluster

    def kill():
        wait_for_mark(tmp_path, "batch", "host2")
        made.remove_node(nodes[2], allow_graceful=False)

    suite, record = check(meanwhile=kill, clip_s=0.05, awaited="batch host2")
    assert predictions_of(suite, record) == WANTED
    assert ("host2", "lost") in faults_of(suite)
    suite, record = check()
    assert predictions_of(suite, record) == WANTED
    assert {stint.host for stint in suite.cluster.stints} == {"host0", "host1", "host2"}


@pytest.mark.slow
def test_without_the_host_that_leads_every_check_is_an_error_by_name(cluster, folder, tmp_path):
    address = stand_in.client_address(cluster[1][0])
    script = tmp_path / "driver.py"
    script.write_text(BUSY + DRIVER)
    command = [sys.executable, "-W", "error::UserWarning", str(script), address]
    command += [str(tmp_path), str(folder), str(SHARD)]
    driver = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    wait_for_mark(tmp_path, "batch", "host0", 120.0)
    # Ray ends a process that is connected without ray:// a minute after the host that leads is gone.
    ray.shutdown()
    cluster[1][0].kill_gcs_server()
    cluster[1][0].kill_raylet()
    said, _ = driver.communicate(timeout=180.0)
    assert driver.returncode == 0
    assert said.splitlines()[-1].startswith("error run: nonlocal_tiny-ascend310p-bs8 accuracy")
