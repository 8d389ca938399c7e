"""Two hosts of a real Ray cluster on this machine."""

import dataclasses
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from harness.errors import DeviceAbsent, RunError, SiteError
from harness.farm.calls import Held, Placement, Step
from harness.farm.cluster import AHEAD, Cluster

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[farm]'")


def double(say, value):
    say(f"doubling {value}")
    return 2 * value


def threads(say):
    return os.environ.get("OMP_NUM_THREADS")


def absent(say):
    raise DeviceAbsent("no chip here")


def broken(say):
    raise ZeroDivisionError("a bug")


def die_once(say, marker):
    """Kill the process the first time, as the kernel does when memory is short."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def freeze_once(say, marker):
    """Stop the process the first time, as a debugger does."""
    if not Path(marker).exists():
        Path(marker).write_text(ray.get_runtime_context().get_node_id())
        os.kill(os.getpid(), signal.SIGSTOP)


def nap(say, seconds):
    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()


def make(say, number, folder):
    there = [len(list(Path(folder).glob(f"* {word}"))) for word in ("made", "taken")]
    Path(folder, f"{number} made").write_text(str(1 + there[0] - there[1]))
    return np.full(10**6, number, np.uint8)


def take(say, number, folder, made):
    time.sleep(0.1)
    Path(folder, f"{number} taken").touch()
    return int(made.max()) - number, len(made)


@pytest.fixture(scope="module")
def hosts():
    """Three Ray nodes, of which two have a chip; the first one only leads."""
    from ray.cluster_utils import Cluster as LocalNodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        quiet = {"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
        nodes = LocalNodes(initialize_head=True, head_node_args=quiet)
        chips = {"chip:cpu": 1}
        workers = [
            nodes.add_node(num_cpus=1, object_store_memory=10**8, resources=chips) for _ in "ab"
        ]
        yield nodes, workers
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def cluster(hosts):
    """A connection to them, with the lines that hosts wrote."""
    lines = []
    made = Cluster(hosts[0].address, lines.append)
    made.lines = lines
    return made


@pytest.fixture
def anywhere(cluster):
    """Every host with a chip, and the chip."""
    able = tuple(node.id for node in cluster.nodes() if "chip:cpu" in node.resources)
    return Placement(able, {"chip:cpu": 1.0})


def test_calls_run_on_hosts_and_say_how_they_get_on(cluster, anywhere):
    values, others = {}, {}
    calls = [(number,) for number in range(6)]
    step = Step(double, calls, anywhere, "double", on_value=values.__setitem__)
    cluster.run(step, dataclasses.replace(step, calls=[(0.5,)], on_value=others.__setitem__))
    assert values == {number: 2 * number for number in range(6)}
    assert others == {0: 1.0}
    assert sum("doubling" in line for line in cluster.lines) == 7


def test_a_value_stays_in_the_farm_until_a_call_takes_it(cluster, anywhere):
    held = cluster.held(double, 21, at=anywhere, title="hold")
    assert cluster.call(double, held, at=anywhere, title="take") == 84


def test_a_value_goes_from_host_to_host_and_few_are_under_way(cluster, anywhere, tmp_path):
    first, second = (Placement((node,)) for node in anywhere.hosts)
    second = dataclasses.replace(second, resources={"chip:cpu": 1.0})
    calls, parts = [(number, str(tmp_path)) for number in range(8)], [f"part {n}" for n in range(8)]
    before, values = len(cluster.stints), {}
    makes = Step(make, calls, first, "make", parts)
    cluster.run(Step(take, calls, second, "take", parts, makes, values.__setitem__))
    assert values == dict.fromkeys(range(8), (0, 10**6))
    under_way = [int(path.read_text()) for path in tmp_path.glob("* made")]
    assert max(under_way) == AHEAD
    made = [stint.part for stint in cluster.stints[before:] if stint.what == "make"]
    assert sorted(made) == parts


def test_pytorch_has_the_threads_that_it_has_without_ray(cluster, anywhere):
    assert cluster.call(threads, at=anywhere, title="threads") == os.environ.get("OMP_NUM_THREADS")


def test_errors_arrive_as_they_were_raised(cluster, anywhere):
    with pytest.raises(DeviceAbsent, match="no chip here"):
        cluster.call(absent, at=anywhere, title="probe")
    with pytest.raises(DeviceAbsent, match="no chip here"):
        cluster.held(absent, at=anywhere, title="probe")
    with pytest.raises(DeviceAbsent, match="no chip here"):
        cluster.run(Step(double, [()], anywhere, "x", first=Step(absent, [()], anywhere, "y")))
    with pytest.raises(RunError, match="probe: it raised a bug on a host"):
        cluster.call(broken, at=anywhere, title="probe")


def test_a_killed_process_is_run_again(cluster, anywhere, tmp_path):
    marker = str(tmp_path / "died")
    assert cluster.call(die_once, marker, at=anywhere, title="die") != os.getpid()


def test_a_host_whose_process_froze_loses_the_call_and_gets_others(cluster, anywhere, tmp_path):
    marker = tmp_path / "frozen"
    at = dataclasses.replace(anywhere, silent_s=4.0)
    cluster.call(freeze_once, str(marker), at=at, title="freeze")
    assert any("it goes to another host" in line for line in cluster.lines)
    used, end_s = [], time.monotonic() + 60.0
    while marker.read_text() not in used and time.monotonic() < end_s:
        cluster.run(
            Step(nap, [(0.2,)] * 4, anywhere, "nap", on_value=lambda _, node: used.append(node))
        )
    assert marker.read_text() in used


def test_a_lost_host_costs_its_calls_and_no_host_left_ends_them(cluster, anywhere, hosts):
    (nodes, workers), used = hosts, []

    def on_value(number, value):
        used.append(value)
        if len(workers) == 2:
            nodes.remove_node(workers.pop(), allow_graceful=False)

    calls = [(0.7,)] * 6
    cluster.run(Step(nap, calls, anywhere, "nap", on_value=on_value))
    assert len(used) == 6
    nodes.remove_node(workers.pop(), allow_graceful=False)
    with pytest.raises(RunError, match="the farm lost it, and no other host could take it"):
        cluster.call(nap, 0.1, at=anywhere, title="nap")


class RayAtOnce:
    """Ends every call as soon as it is waited for; the second one fails."""

    def __init__(self):
        self.started, self.cancelled = [], []

    def hand(self, news, function, args, is_held, call, at):
        self.started.append(args)
        return [len(self.started)]

    def wait(self, refs, **_):
        return refs, []

    def get(self, ref):
        if ref == 2:
            raise DeviceAbsent("no chip here")
        return ref

    def nodes(self):
        return [{"NodeID": "n1", "NodeManagerAddress": "", "Resources": {"chip": 2}, "Alive": True}]

    def cancel(self, ref, force):
        self.cancelled.append(ref)


def test_what_arrives_with_a_failure_is_taken_and_nothing_starts(monkeypatch):
    fake, values = RayAtOnce(), {}
    monkeypatch.setattr("harness.farm.cluster.connected", lambda address: fake)
    monkeypatch.setattr("harness.farm.cluster.hand_to_ray", fake.hand)
    monkeypatch.setattr("ray.util.queue.Queue", lambda **_: None)
    calls, at = [(number,) for number in range(9)], Placement(("n1",), {"chip": 1.0})
    with pytest.raises(DeviceAbsent):
        Cluster("auto", print).run(Step(double, calls, at, "x", on_value=values.__setitem__))
    assert fake.started == calls[:4]
    assert values == {0: 1, 2: 3, 3: 4}
    assert fake.cancelled == []


def test_ray_never_copies_a_held_value_into_calls():
    assert len(pickle.dumps(Held(()))) > 100 << 10


def test_nothing_listens(unused_port):
    with pytest.raises(SiteError, match=r"nothing listens at ray://127\.0\.0\.1"):
        Cluster(f"ray://127.0.0.1:{unused_port}", print)


@pytest.fixture
def unused_port():
    """A port of this host that is free."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
