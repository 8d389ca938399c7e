"""A farm of hosts that are caches here: each call runs in this process, in the environment of its host.

Where the hosts are real Ray nodes with stand-ins, they leave marks that tests read.
"""

import contextlib
import pickle
import time

import pytest

from harness.device import DeviceState, Presence
from harness.farm.calls import PYTORCH, Step, resource_of
from harness.farm.cluster import Node
from harness.farm.hosts import Hosts
from harness.farm.orders import HostFacts
from harness.farm.workplace import host_name
from harness.host.suite_code import suite_digest
from harness.record.stints import Stint


class LocalCluster:
    """Runs each call here, in the environment of a host in turn; values are pickled on their way."""

    address = "local"

    def __init__(self, environments, answers):
        self.environments = environments
        self.answers = answers
        self.calls = []
        self.stints = []

    def nodes(self):
        return [Node(node, "192.0.2.1", chips(facts)) for node, facts in self.answers.items()]

    def call(self, function, *args, at, title):
        return self.one(Step(function, [args], at, title), 0)

    held = call

    def run(self, *steps):
        for step in steps:
            for number in range(len(step.calls)):
                made = () if step.first is None else (self.one(step.first, number),)
                step.on_value(number, self.one(step, number, made))

    def one(self, step, number, made=()):
        node = step.at.hosts[number % len(step.at.hosts)]
        self.calls.append((step.function.__name__, node))
        part = step.parts[number] if step.parts else ""
        with self.inside(node):
            args = pickle.loads(pickle.dumps((*step.calls[number], *made)))
            value = step.function(lambda line: None, *args)
            name = host_name()
        self.stints.append(Stint(host=name, what=step.title, start_s=1.0, end_s=2.0, part=part))
        return pickle.loads(pickle.dumps(value))

    def describe(self, nodes):
        return {node: self.answers[node] for node in nodes}

    @contextlib.contextmanager
    def inside(self, node):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environments[node].items():
                patch.setenv(name, value)
            yield


def chips(facts):
    if isinstance(facts, str):
        return {}
    units = {resource_of(name): len(state.unit_ids) for name, state in facts.devices.items()}
    return {**units, PYTORCH: 1}


def facts(name, datasets=("motion8",), **devices):
    states = {
        device: DeviceState(Presence.PRESENT, "", dict(versions), tuple("ab"[:chips]))
        for device, (chips, versions) in devices.items()
    }
    weights = {"nonlocal_tiny": "some"}
    files = {"suite.commit": "c0ffee", "suite.files": suite_digest()}
    return HostFacts(name, files, {"cpu": "same"}, {}, states, weights, datasets, (), 10.0)


HOSTS = {"n1": facts("first", cpu=(1, {})), "n2": facts("second", cpu=(1, {}))}


def hosts_of(answers, lines=None):
    return Hosts(LocalCluster({}, answers), (lines if lines is not None else []).append)


def marks(folder, word):
    """Return the marks of one kind that the stand-ins of real hosts have left: kind, host, shard and process."""
    log = folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split() for line in lines if line.startswith(word)]


def wait_for_mark(folder, word, name, limit_s=60.0):
    """Wait until a host has left a mark; return the id of the process that did."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        found = [words for words in marks(folder, word) if words[1] == name]
        if found:
            return int(found[-1][3])
        time.sleep(0.02)
    raise TimeoutError(f"{name} does nothing")
