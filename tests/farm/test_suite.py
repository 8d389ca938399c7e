"""The narrow model on a farm of two hosts, which are two caches here: the records are those of one machine."""

import dataclasses
import datetime
import io
import time

import numpy as np
import pytest

from harness.errors import DeviceAbsent, RunError, SiteError
from harness.farm import host, workplace
from harness.farm.calls import Placement
from harness.farm.hosts import present_devices
from harness.record.npz import predictions_from_npz
from harness.record.recompute import measurement_problems
from harness.record.record import Record
from harness.spec import CHECKS, Cell, Status
from tests.farm.local import HOSTS, facts, hosts_of

CELL = Cell("nonlocal_tiny", "cpu", 4)


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
        assert records[check].host_facts["host"] in {"first", "second"}
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
    assert record.host_facts["host"] == "second"


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


def test_the_record_of_another_cell_does_not_count(farm, monkeypatch):
    farm_suite, _ = farm()
    measure = host.measure

    def other(say, order, models, accuracy=None):
        return measure(say, dataclasses.replace(order, check="export"), models, accuracy)

    monkeypatch.setattr(host, "measure", other)
    record = farm_suite.check(CELL, "parity")
    assert record.verdict.status is Status.ERROR
    assert "sent nonlocal_tiny-cpu-bs4:export when asked for nonlocal_tiny-cpu-bs4 parity" in (
        record.verdict.reason
    )


def test_a_clock_that_is_wrong_on_a_host_dates_nothing(farm, monkeypatch):
    farm_suite, _ = farm()
    measure = host.measure

    def late(*args):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.time", lambda now=time.time: now() + 300.0)
            return measure(*args)

    monkeypatch.setattr(host, "measure", late)
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    record = farm_suite.check(CELL, "export")
    assert record.verdict.status is Status.PASS
    assert before <= datetime.datetime.fromisoformat(record.started)
    assert record.started <= datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def test_a_verdict_is_the_drivers(farm, monkeypatch):
    farm_suite, _ = farm()
    deliver = workplace.deliver

    def failing(order, bench, known=None, found=None):
        delivery = deliver(order, bench, known, found)
        record = delivery.record.replace(b'"status":"pass"', b'"status":"fail"')
        return dataclasses.replace(delivery, record=record)

    monkeypatch.setattr(host, "deliver", failing)
    assert farm_suite.check(CELL, "export").verdict.status is Status.PASS


def test_a_host_that_makes_the_record_has_no_say_in_what_was_measured(farm, clean, monkeypatch):
    farm_suite, _ = farm()
    conclude = host.conclude

    def flattered(say, order, models, measured, *rest):
        assert measured.top1.k > 0
        worse = measured.top1.model_copy(update={"k": 0})
        delivery = conclude(say, order, models, measured.model_copy(update={"top1": worse}), *rest)
        record = Record.from_json(delivery.record, "here")
        record = record.model_copy(update={"raw": {"predictions": "0" * 64}})
        content = record.model_dump_json().encode()
        raw = {"predictions": (b"others", ".npz")}
        return dataclasses.replace(delivery, record=content, raw=raw)

    monkeypatch.setattr(host, "conclude", flattered)
    record = farm_suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert measurement_problems(record, farm_suite.run) == []
    _, expected = clean
    assert record.measurement == expected["accuracy"].measurement


def test_predictions_that_cannot_be_read_name_the_host(farm, monkeypatch):
    farm_suite, _ = farm()
    predict = host.predict

    def garbled(*args):
        return dataclasses.replace(predict(*args), predictions=b"garbled")

    monkeypatch.setattr(host, "predict", garbled)
    record = farm_suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.INVALID
    assert "first sent predictions that cannot be used: " in record.verdict.reason


def test_a_cell_is_never_a_mix(farm, monkeypatch):
    farm_suite, _ = farm()
    predict = host.predict

    def foreign(say, order, models, shard):
        part = predict(say, order, models, shard)
        return dataclasses.replace(part, subjects={**part.subjects, "device model": str(shard)})

    monkeypatch.setattr(host, "predict", foreign)
    record = farm_suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.INVALID
    assert "differs from the first host in its device model" in record.verdict.reason


def test_a_device_that_no_host_has_is_not_run(farm):
    farm_suite, _ = farm()
    record = farm_suite.check(dataclasses.replace(CELL, device="cuda"), "export")
    assert record.verdict.status is Status.NOT_RUN
    assert "no host of the farm at local has cuda (hosts: first, second)" in record.verdict.reason
    assert not record.is_device_present


def test_hosts_that_are_alike_share_a_cell_and_the_largest_group_gets_it():
    answers = {
        "a": facts("a", ascend310p=(1, {"cann": "8.0"})),
        "b": facts("b", ascend310p=(1, {"cann": "8.0"})),
        "c": facts("c", ascend310p=(1, {"cann": "8.2"})),
    }
    hosts = hosts_of(answers)
    at, kind = hosts.place("ascend310p")
    assert at == Placement(("a", "b"), {"chip:ascend310p": 1.0})
    assert present_devices(hosts.known.values()) == {"ascend310p"}
    with pytest.raises(DeviceAbsent):
        hosts.place("cuda")
    del answers["a"], answers["b"]
    assert hosts.place("ascend310p")[0].hosts == ("c",)
    with pytest.raises(
        RunError, match="a different kind of host cannot take over a cell that was begun"
    ):
        hosts.place("ascend310p", kind)


def test_a_host_that_cannot_take_part_is_refused_before_anything_runs():
    other = dataclasses.replace(facts("b"), suite={"suite.commit": "beef", "suite.files": "other"})
    answers = {"n1": HOSTS["n1"], "n2": other, "n3": "it did not answer within 60 s"}
    with pytest.raises(SiteError) as refused:
        hosts_of(answers)
    assert "b runs the suite of commit beef" in str(refused.value)
    assert "host 192.0.2.1: it did not answer" in str(refused.value)


def test_a_host_whose_chips_the_farm_miscounts_is_refused(monkeypatch):
    monkeypatch.setattr("tests.farm.local.chips", lambda facts: {})
    with pytest.raises(SiteError, match=r"counts 0 chip\(s\) of cpu on first, which finds 1"):
        hosts_of(dict(HOSTS))


def test_a_host_that_joins_takes_part_if_it_may():
    answers, lines = {"n1": HOSTS["n1"]}, []
    hosts = hosts_of(answers, lines)
    answers["n2"] = HOSTS["n2"]
    answers["n3"] = dataclasses.replace(facts("c"), suite={"suite.files": "other"})
    assert sorted(hosts.now()) == ["n1", "n2"]
    assert sorted(hosts.now()) == ["n1", "n2"]
    assert [line.partition(":")[0] for line in lines] == [
        "a host that joined the farm cannot take part"
    ]
    del answers["n1"]
    assert sorted(hosts.now()) == ["n2"]
    assert present_devices(hosts.known.values()) == {"cpu"}


def test_a_record_without_its_raw_files_is_an_error_that_names_host_and_file(farm, monkeypatch):
    farm_suite, _ = farm()
    deliver = workplace.deliver

    def forgetful(order, bench, known=None, found=None):
        delivery = deliver(order, bench, known, found)
        kept = {name: raw for name, raw in delivery.raw.items() if name != "scores"}
        return dataclasses.replace(delivery, raw=kept)

    monkeypatch.setattr(host, "deliver", forgetful)
    record = farm_suite.check(CELL, "parity")
    assert record.verdict.status is Status.ERROR
    assert "first sent a record of nonlocal_tiny-cpu-bs4:parity without its raw scores" in (
        record.verdict.reason
    )
