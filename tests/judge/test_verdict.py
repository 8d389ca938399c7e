import pytest

from harness.judge.export import judge_export
from harness.judge.limits import DeviceModelLimits
from harness.judge.verdict import Finding, Verdict, at_least, at_most, below, listed
from harness.measure.export import ExportMeasurement, TensorFacts
from harness.measure.passport import Passport
from harness.spec import Status

SOURCE = "test"


@pytest.mark.parametrize("undefined", [None, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("compare", [at_least, at_most, below])
def test_an_undefined_number_meets_no_limit(compare, undefined):
    finding = compare("x", undefined, 1.0)
    assert (finding.is_met, finding.measured) == (False, None)
    assert "undefined" in finding.text


@pytest.mark.parametrize(
    ("compare", "answers"),
    [
        (at_least, (False, True, True)),
        (at_most, (True, True, False)),
        (below, (True, False, False)),
    ],
)
def test_limits_themselves(compare, answers):
    assert tuple(compare("x", value, 1.0).is_met for value in (0.9, 1.0, 1.1)) == answers


@pytest.mark.parametrize(
    "findings",
    [(), (at_least("x", 0.0, 1.0),), (at_least("x", 2.0, 1.0), at_least("y", 0.0, 1.0))],
)
def test_a_pass_without_a_seen_pass_cannot_be_built(findings):
    with pytest.raises(ValueError, match="a pass needs findings"):
        Verdict(status=Status.PASS, reason="looks fine", findings=findings)


def test_a_pass_with_an_undecided_finding_cannot_be_built():
    open_one = at_least("x", 2.0, 1.0).model_copy(update={"is_met": None})
    with pytest.raises(ValueError, match="a pass needs findings"):
        Verdict(status=Status.PASS, reason="looks fine", findings=(open_one,))


def test_a_verdict_survives_json():
    verdict = Verdict(status=Status.PASS, reason="seen", findings=(at_least("x", 2, 1, "clips"),))
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert isinstance(verdict.findings[0], Finding)


def test_long_lists_are_cut_and_counted():
    assert listed(["a", "b", "c"]) == "a; b; c"
    assert listed(["a", "b", "c", "d", "e"], ", ") == "a, b, c and 2 more"


def export(**more):
    facts = {
        "problems": (),
        "ops_checked": 42,
        "opset": 11,
        "op_counts": {"Conv": 42},
        "inputs": (TensorFacts(name="video", shape=(1, 8, 3, 64, 64), dtype="float32"),),
        "outputs": (TensorFacts(name="class", shape=("batch", 8), dtype="float32"),),
        "onnx_bytes": 1000,
    }
    return ExportMeasurement.model_validate(facts | more)


def test_a_good_export_passes():
    verdict = judge_export(export())
    assert verdict.status is Status.PASS
    assert "42 nodes at opset 11" in verdict.reason


def test_an_export_with_problems_fails_by_their_names():
    verdict = judge_export(export(problems=("dynamic dim batch", "op Einsum is not allowed")))
    assert verdict.status is Status.FAIL
    assert "2 problem(s)" in verdict.reason
    assert "op Einsum" in verdict.reason


def test_an_export_that_nobody_looked_at_is_no_pass():
    assert judge_export(export(ops_checked=0)).status is Status.INVALID


LIMITS = DeviceModelLimits(memory_max_mb=30.0, ai_cpu_operators_max=1, source=SOURCE)


def passport(memory=20_000_000, weights=5_000_000, slow=()):
    facts = {"memory_bytes": memory, "weight_bytes": weights, "ai_cpu_operators": slow}
    return Passport(soc_version="Ascend310P3", command="atc", **facts)


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (passport(), Status.PASS, "no problem found"),
        (passport(slow=("a", "b")), Status.FAIL, "operators on the AI CPU is 2, must be <= 1"),
        (
            passport(memory=30_000_000),
            Status.FAIL,
            "memory of the device model is 35 MB, must be <= 30",
        ),
        (passport(memory=None), Status.INVALID, "memory of the device model is undefined"),
        (passport(slow=None), Status.INVALID, "operators on the AI CPU is undefined"),
        (None, Status.INVALID, "undefined"),
    ],
)
def test_a_device_model_is_held_to_the_contract(found, status, words):
    verdict = judge_export(export(passport=found), LIMITS)
    assert (verdict.status, words in verdict.reason) == (status, True), verdict.reason
    assert judge_export(export(passport=found)).status is Status.PASS


def test_export_facts_survive_json():
    facts = export(simplified_bytes=900)
    assert ExportMeasurement.model_validate_json(facts.model_dump_json()) == facts
