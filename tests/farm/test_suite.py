"""The narrow model on a farm of two hosts, which are two caches here: the records are those of one machine."""

import contextlib
import dataclasses
import io
import os
import pickle

import numpy as np
import pytest

from harness.device import DeviceState, Presence
from harness.errors import ArtifactError, DeviceAbsent, SiteError
from harness.farm import host, orders, workplace
from harness.farm.cluster import Placement
from harness.farm.orders import HostFacts
from harness.farm.suite import FarmSuite, joined_hosts, placement, present_devices
from harness.host.progress import Progress
from harness.host.suite_code import suite_digest
from harness.record.npz import npz_from_predictions, predictions_from_npz
from harness.spec import CHECKS, Cell, Status
from harness.testing import run_here

CELL = Cell("nonlocal_tiny", "cpu", 4)


class LocalCluster:
    """Runs each call here, in the environment of a host in turn; values are pickled on their way."""

    address = "local"

    def __init__(self, environments, answers=None):
        self.environments = environments
        self.answers = answers
        self.calls = []

    def call(self, function, *args, at, title):
        return self.map(function, [args], at, title)[0]

    held = call

    def map(self, function, calls, at, title, on_done=lambda done: None):
        values = []
        for number, args in enumerate(calls):
            node = at.hosts[number % len(at.hosts)]
            self.calls.append((function.__name__, node))
            with self.inside(node):
                value = function(lambda line: None, *pickle.loads(pickle.dumps(args)))
            values.append(pickle.loads(pickle.dumps(value)))
            on_done(number + 1)
        return values

    def describe(self):
        return self.answers

    @contextlib.contextmanager
    def inside(self, node):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environments[node].items():
                patch.setenv(name, value)
            yield


def facts(name, **devices):
    states = {
        device: DeviceState(Presence.PRESENT, "", dict(versions), tuple("ab"[:chips]))
        for device, (chips, versions) in devices.items()
    }
    weights = {"nonlocal_tiny": "some"}
    files = {"suite.commit": "c0ffee", "suite.files": suite_digest()}
    return HostFacts(name, files, {"cpu": "same"}, states, weights, (), 10.0)


HOSTS = {"n1": facts("first", cpu=(1, {})), "n2": facts("second", cpu=(1, {}))}


@pytest.fixture
def farm(make_suite, tmp_path, monkeypatch):
    """Return what makes a suite that measures on two hosts of their own caches."""
    benches = {}

    def bench(site, log_dir, progress):
        name = os.environ[workplace.HOST_NAME]
        if name not in benches:
            benches[name] = make_suite(tmp_path / name).bench
        return benches[name]

    monkeypatch.setattr(workplace, "Workbench", bench)
    monkeypatch.setattr(orders, "SHARD_CLIPS", 4)
    monkeypatch.setattr("harness.build.build.run_in_child", run_here)
    environments = {
        node: {workplace.HOST_NAME: one.name, "ACCEPTANCE_CACHE_DIR": str(tmp_path / one.name)}
        for node, one in HOSTS.items()
    }
    plain = make_suite(tmp_path / "driver")

    def make(hosts=HOSTS):
        contract = plain.thresholds.path.read_bytes()
        cluster = LocalCluster(environments)
        made = plain.thresholds, contract, "nightly", plain.run, cluster, hosts, Progress()
        return FarmSuite(*made), benches

    return make


def predictions(run, record, what):
    return predictions_from_npz(io.BytesIO(run.read(record, what)))


def test_a_farm_gives_the_records_of_one_machine(farm, clean):
    one_machine, expected = clean
    farm_suite, benches = farm()
    records = {}
    for check in CHECKS:
        records[check] = farm_suite.check(CELL, check)
        farm_suite.run.append(records[check])
        assert records[check].verdict.status is Status.PASS, records[check].verdict.reason
        assert records[check].run_id == farm_suite.run.id
        assert records[check].device_facts["host"] in {"first", "second"}
    for what in ("predictions", "reference"):
        merged = predictions(farm_suite.run, records["accuracy"], what)
        alone = predictions(one_machine.run, expected["accuracy"], what)
        assert merged.clip_ids == alone.clip_ids
        assert np.array_equal(merged.scores, alone.scores), what
    notes = farm_suite.run.read(records["accuracy"], "notes").decode()
    assert "predictions, shards by host: first 2, second 2" in notes
    assert records["throughput"].measurement.clips_compared > 0
    # Built on one host, and carried to the other.
    built = {
        name: {event.kind for event in bench.workshop.store.events if not event.hit}
        for name, bench in benches.items()
    }
    assert {"onnx", "simplified", "device"} <= built["first"]
    assert not {"onnx", "simplified", "device"} & built["second"]


def test_a_model_is_exported_where_its_device_need_not_be(farm):
    first = dataclasses.replace(HOSTS["n1"], devices={})
    farm_suite, _ = farm({"n1": first, "n2": HOSTS["n2"]})
    record = farm_suite.check(CELL, "export")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    exports = [node for name, node in farm_suite.cluster.calls if name == "export"]
    assert exports == ["n1"]
    assert record.device_facts["host"] == "second"


def test_what_a_host_measured_is_computed_again(farm, monkeypatch):
    farm_suite, _ = farm()
    deliver = workplace.deliver

    def bent(order, bench, known=None, found=None):
        delivery = deliver(order, bench, known, found)
        record = delivery.record.replace(b'"max_abs_error":', b'"max_abs_error":0.0,"was":')
        assert record != delivery.record
        return dataclasses.replace(delivery, record=record.replace(b',"was":', b',"x":'))

    monkeypatch.setattr(host, "deliver", bent)
    record = farm_suite.check(CELL, "parity")
    assert record.verdict.status is Status.ERROR
    assert "RecordError" in record.verdict.reason


def test_a_verdict_is_the_drivers(farm, monkeypatch):
    farm_suite, _ = farm()
    deliver = workplace.deliver

    def failing(order, bench, known=None, found=None):
        delivery = deliver(order, bench, known, found)
        record = delivery.record.replace(b'"status":"pass"', b'"status":"fail"')
        return dataclasses.replace(delivery, record=record)

    monkeypatch.setattr(host, "deliver", failing)
    assert farm_suite.check(CELL, "export").verdict.status is Status.PASS


def test_merged_predictions_are_those_that_were_sent(farm, monkeypatch):
    farm_suite, _ = farm()
    compare = host.compare

    def swapped(say, order, models, parts, reference):
        preds = predictions_from_npz(io.BytesIO(parts[0].predictions))
        preds = dataclasses.replace(preds, scores=np.roll(preds.scores, 1, axis=0))
        first = dataclasses.replace(parts[0], predictions=npz_from_predictions(preds))
        return compare(say, order, models, [first, *parts[1:]], reference)

    monkeypatch.setattr(host, "compare", swapped)
    record = farm_suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.INVALID
    assert "merged other predictions than the hosts sent" in record.verdict.reason


def test_a_cell_is_never_a_mix(farm, monkeypatch):
    farm_suite, _ = farm()
    predict = host.predict

    def foreign(say, order, models, index, count):
        part = predict(say, order, models, index, count)
        return dataclasses.replace(part, subjects={**part.subjects, "device model": str(index)})

    monkeypatch.setattr(host, "predict", foreign)
    record = farm_suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.INVALID
    assert "ran with another device model than the first host" in record.verdict.reason


def test_a_device_that_no_host_has_is_not_run(farm):
    farm_suite, _ = farm()
    record = farm_suite.check(dataclasses.replace(CELL, device="cuda"), "export")
    assert record.verdict.status is Status.NOT_RUN
    assert "no host of the farm at local has cuda (hosts: first, second)" in record.verdict.reason
    assert not record.is_device_present


def test_hosts_that_are_alike_share_a_cell_and_the_largest_group_gets_it():
    hosts = {
        "a": facts("a", ascend310p=(1, {"cann": "8.0"})),
        "b": facts("b", ascend310p=(1, {"cann": "8.0"})),
        "c": facts("c", ascend310p=(1, {"cann": "8.2"})),
    }
    expected = Placement(("a", "b"), {"chip:ascend310p": 1.0})
    assert placement(hosts, "local", "ascend310p") == expected
    assert present_devices(hosts) == {"ascend310p"}
    with pytest.raises(DeviceAbsent):
        placement(hosts, "local", "cuda")


def test_a_host_that_is_silent_or_runs_another_suite_is_refused():
    other = dataclasses.replace(facts("b"), suite={"suite.commit": "beef", "suite.files": "other"})
    answers = {"n1": HOSTS["n1"], "n2": other, "n3": "it does not answer within 60 s"}
    with pytest.raises(SiteError) as refused:
        joined_hosts(LocalCluster({}, answers))
    assert "b runs the suite of commit beef" in str(refused.value)
    assert "host n3: it does not answer" in str(refused.value)
    assert joined_hosts(LocalCluster({}, {"n1": HOSTS["n1"]})) == {"n1": HOSTS["n1"]}


def test_a_parcel_that_changed_on_its_way_is_refused(workshop, tmp_path):
    made = workshop.store.get_or_build(
        "onnx", "a.onnx", {"of": "a"}, lambda path: write(path, b"1")
    )
    parcel = workplace.parcel_of(made)
    assert parcel.content == b"1"
    with pytest.raises(ArtifactError, match="changed on its way"):
        workplace.unpack(dataclasses.replace(parcel, content=b"2"), workshop.store)


def test_an_adopted_artifact_replaces_an_own_build(workshop):
    workshop.store.get_or_build("onnx", "a.onnx", {"of": "a"}, lambda path: write(path, b"own"))
    adopted = workshop.store.adopt("onnx", "a.onnx", {"of": "a"}, b"theirs", {})
    assert adopted.path.read_bytes() == b"theirs"
    again = workshop.store.get_or_build("onnx", "a.onnx", {"of": "a"}, None)
    assert again.sha256 == adopted.sha256


def write(path, content):
    path.write_bytes(content)
    return {}
