"""What a record adds to its series: values, their bounds, and what they are comparable with."""

import pytest

from harness.measure.parity import EdgeParity
from harness.measure.throughput import session_timing, throughput_measurement
from harness.nightly.series import (
    SeriesKey,
    Value,
    changed_facts,
    facts_of,
    host_class,
    series_device,
    values_from_measurement,
    values_from_record,
)
from harness.spec import Status
from tests import made

HOST = "epyc-2cpu"


def test_a_precision_has_series_of_its_own():
    kept = made.record("throughput", precision="origin")
    key = SeriesKey(kept.model, series_device(kept), 1, "throughput", "device.per_s", HOST)
    assert (key.device, key.cell) == ("cpu:origin", kept.cell)
    assert key.id == f"nonlocal_tiny-cpu-bs1-origin:throughput:device.per_s@{HOST}"
    assert series_device(made.record("throughput")) == "cpu"


def test_what_changed_is_said_briefly():
    before = {"device.cann": "7.0", "host": "a", "python": "3.11", "digest.onnx": "a" * 64}
    after = {"device.cann": "8.0", "python": "3.11", "digest.onnx": "b" * 64, "kernel": "6"}
    assert changed_facts(before, after) == (
        "device.cann: 7.0 -> 8.0",
        "digest.onnx: aaaaaaaaaaaa -> bbbbbbbbbbbb",
        "host: a -> absent",
        "kernel: absent -> 6",
    )
    # Digests and commits are cut, names of the same letters are not.
    for word, said in (("a" * 39, "a" * 39), ("a" * 40, "a" * 12), ("a" * 65, "a" * 65)):
        assert changed_facts({"x": word}, {}) == (f"x: {said} -> absent",)


def test_what_shapes_a_result_is_the_first_of_what_changed():
    before, after = {"cpu.model": "a", "device.cann": "7"}, {"cpu.model": "b", "device.cann": "8"}
    assert changed_facts(before, after) == ("device.cann: 7 -> 8", "cpu.model: a -> b")


def test_the_series_of_a_speed_have_its_bounds():
    measured = throughput_measurement([session_timing([ms] * 9) for ms in (9.0, 10.0)], 1)
    (value,) = values_from_measurement(measured)
    bounds = measured.device.per_s.bounds
    assert (value.metric, value.low, value.high) == ("device.per_s", bounds.low, bounds.high)


def test_the_series_of_accuracy_are_shares_with_their_intervals():
    measured = made.measured("accuracy")
    top1, top5 = values_from_measurement(measured)
    for value, name, count in ((top1, "top1", measured.top1), (top5, "top5", measured.top5)):
        assert value.metric == f"{name}.{measured.clip_set}-{count.n}"
        assert value.value == count.k / count.n
        assert (value.low, value.high) == (count.interval.low, count.interval.high)
    one = measured.model_copy(update={"top1": measured.top1.model_copy(update={"n": 1, "k": 1})})
    assert values_from_measurement(one)[0].value == 1.0
    none = measured.top1.model_copy(update={"n": 0})
    nothing = measured.model_copy(update={"top1": none, "top5": none})
    assert values_from_measurement(nothing) == []


def test_the_series_of_parity_are_the_errors_of_the_whole_chain():
    sizes = {"row_count": 1, "class_count": 2}
    edges = (
        EdgeParity(name="torch_to_onnx", max_abs_error=0.5, relative_l2=0.5, **sizes),
        EdgeParity(name="torch_to_device", max_abs_error=0.0, relative_l2=0.25, **sizes),
        EdgeParity(name="file_to_device", relative_l2=0.125, **sizes),
    )
    measured = made.measured("parity").model_copy(update={"edges": edges})
    expected = [
        Value("torch_to_device.max_abs_error", 0.0),
        Value("torch_to_device.relative_l2", 0.25),
        Value("file_to_device.relative_l2", 0.125),
    ]
    assert values_from_measurement(measured) == expected
    kept = made.record("parity", measurement=measured)
    assert values_from_record(kept) == expected
    invalid = kept.verdict.model_copy(update={"status": Status.INVALID})
    assert values_from_record(kept.model_copy(update={"verdict": invalid})) == []
    assert values_from_measurement(made.measured("export")) == []


def test_one_session_has_a_speed_without_bounds():
    (value,) = values_from_measurement(throughput_measurement([session_timing([10.0] * 9)], 1))
    assert value == Value("device.per_s", pytest.approx(100.0))


def test_hosts_of_one_class_have_a_processor_its_cores_and_a_chip():
    def named(environment, **more):
        return host_class(made.record(**more), environment)

    processor = {"cpu.model": " AMD EPYC(tm) 9.6? ", "cpu.usable": "2"}
    assert named({}) == "unknown-?cpu"
    assert named(processor) == "AMD-EPYC-tm-9.6?-2cpu"
    assert named(processor, host_facts={"cpu.usable": "4"}) == "AMD-EPYC-tm-9.6?-4cpu"
    for names in (("name",), ("gpu", "name"), ("chip", "gpu", "name")):
        facts = {name: f"of {name}" for name in reversed(names)}
        assert named({}, device_facts=facts) == f"unknown-?cpu-of-{names[0]}"
    assert named({}, is_emulated=True) == "emulated-unknown-?cpu"


def test_the_facts_behind_a_value_are_those_of_where_it_was_measured():
    kept = made.record(
        host_facts={"host": "there"}, device_facts={"driver": "1"}, subjects={"onnx": "d"}
    )
    facts = {"host": "there", "kernel": "6", "device.driver": "1", "digest.onnx": "d"}
    facts |= {"tier": "smoke", "weights": "unknown", "emulated": "no"}
    assert facts_of(kept, {"host": "here", "kernel": "6"}) == facts
    real = kept.model_copy(update={"weights": "checkpoint", "is_emulated": True})
    assert facts_of(real, {"host": "here", "kernel": "6"}) == {
        **facts,
        "weights": "checkpoint",
        "emulated": "yes",
    }
