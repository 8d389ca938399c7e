"""``harness farm``: what it prints without a farm; with one, tests/farm/matrix runs it."""

import json

import pytest

from harness.__main__ import main
from harness.cli import farm
from harness.device import DeviceState, Presence
from harness.farm.cluster import Node
from harness.farm.orders import HostFacts
from harness.host.suite_code import suite_digest

CPU = DeviceState(Presence.PRESENT, "", {"provider": "CPU"}, ("host",))
GONE = DeviceState(Presence.ABSENT, "not here")
BROKEN = DeviceState(Presence.BROKEN, "no driver", {"driver": "1"}, ("davinci0",))


def facts(name="first", digest=None, **devices):
    suite = {"suite.commit": "c0ffee", "suite.files": digest or suite_digest()}
    states = {"cpu": CPU, "cuda": GONE} | devices
    return HostFacts(
        name, suite, {}, {}, states, {}, ("motion8",), ("host: process 7 on first",), 12.0
    )


class Answers:
    """A farm of two hosts that answer as they are told."""

    def __init__(self, answers, resources):
        self.answers, self.resources = answers, resources

    def nodes(self):
        return [Node(node, "192.0.2.1", self.resources) for node in self.answers]

    def describe(self):
        return self.answers

    def ask(self, function):
        return self.answers


@pytest.fixture
def answering(monkeypatch):
    """Return what makes the hosts of a farm answer."""

    def answer(answers, resources=None):
        made = Answers(
            answers, {"chip:cpu": 1.0, "pytorch": 1.0} if resources is None else resources
        )
        monkeypatch.setattr(farm, "_cluster", lambda options: made)

    return answer


def test_up_prints_the_lines_that_start_a_farm(capsys):
    assert main(["farm", "up", "--address", "192.0.2.7"]) == 0
    text = capsys.readouterr().out
    assert "ray start --head --node-ip-address=192.0.2.7 --port=6379" in text
    assert '--address=192.0.2.7:6379 --resources="$(harness farm resources)"' in text
    assert "pytest -n 4 --farm ray://192.0.2.7:10001" in text


def test_resources_are_the_chips_of_this_host(capsys):
    assert main(["farm", "resources"]) == 0
    assert json.loads(capsys.readouterr().out) == {"chip:cpu": 1, "pytorch": 1}


def test_status_shows_each_host(answering, capsys):
    answering({"n1": facts()})
    assert main(["farm", "status"]) == 0
    text = capsys.readouterr().out
    assert "first (192.0.2.1), 12 GB free for its cache" in text
    assert "cpu         present, 1 chip(s); provider CPU" in text
    assert "reads    motion8\n" in text
    assert "runs     host: process 7 on first" in text
    assert "cuda" not in text


def test_status_names_what_is_wrong(answering, capsys):
    answers = {"n1": facts("a", "other"), "n2": "it does not answer", "n3": facts(cpu=BROKEN)}
    answering(answers, {"chip:cpu": 2.0})
    assert main(["farm", "status"]) == 1
    text = capsys.readouterr().out
    assert "PROBLEM  a runs the suite of commit c0ffee, whose files differ" in text
    assert "PROBLEM  a was started without the resources of `harness farm up`" in text
    assert "PROBLEM  host 192.0.2.1: it does not answer" in text
    assert "the farm counts 2 chip(s) of cpu on a, which finds 1" in text
    assert "the farm counts 2 chip(s) of cpu on first, which finds 0" in text


def test_doctor_asks_every_host(answering, capsys):
    answering({"n1": (0, "devices\n"), "n2": (1, "no chip\n")})
    assert main(["farm", "doctor"]) == 1
    text = capsys.readouterr().out
    assert "host n1, exit status 0\n  devices" in text
    assert "host n2, exit status 1\n  no chip" in text


def test_a_farm_must_be_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["farm", "status"]) == 2
    assert "no farm is named: give --farm ADDRESS" in capsys.readouterr().err
