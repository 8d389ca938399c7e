import pytest

from harness.judge.export import judge_export
from harness.judge.limits import DeviceModelLimits, MultiplyAddsLimits
from harness.measure.export import ExportMeasurement, MultiplyAdds
from harness.measure.passport import Passport
from harness.spec import Status


def exported(problems=(), ops_checked=1, **passport):
    return ExportMeasurement(
        problems=problems,
        ops_checked=ops_checked,
        opset=13,
        op_counts={},
        inputs=(),
        outputs=(),
        onnx_bytes=1,
        passport=Passport(soc_version="Ascend310P3", command="atc", **passport),
    )


@pytest.mark.parametrize(
    ("measured", "status", "words", "is_met"),
    [
        (exported(), Status.PASS, "1 nodes at opset 13 checked", [True, True]),
        (exported(("bad",)), Status.FAIL, "1 problem(s) in the ONNX file: bad", [False, True]),
        (exported(ops_checked=0), Status.INVALID, "no node of the ONNX file was", [True, False]),
    ],
)
def test_a_file_passes_without_a_problem_and_with_something_looked_at(
    measured, status, words, is_met
):
    verdict = judge_export(measured)
    assert (verdict.status, verdict.reason.startswith(words)) == (status, True)
    assert [one.is_met for one in verdict.findings] == is_met
    assert [one.name for one in verdict.findings] == ["problems", "nodes checked"]


LIMITS = DeviceModelLimits(memory_max_mb=3.0, ai_cpu_operators_max=1, source="test")
FITS = {"memory_bytes": 1_000_000, "weight_bytes": 2_000_000, "ai_cpu_operators": ("TopK",)}


@pytest.mark.parametrize(
    ("change", "status", "found"),
    [
        ({}, Status.PASS, [(3.0, "MB", ""), (1.0, "", "TopK")]),
        ({"ai_cpu_operators": ()}, Status.PASS, [(3.0, "MB", ""), (0.0, "", "")]),
        ({"weight_bytes": 2_000_001}, Status.FAIL, [(3.000001, "MB", ""), (1.0, "", "TopK")]),
        ({"ai_cpu_operators": ("A", "B")}, Status.FAIL, [(3.0, "MB", ""), (2.0, "", "A; B")]),
        ({"ai_cpu_operators": None}, Status.INVALID, [(3.0, "MB", ""), (None, "", "")]),
        ({"memory_bytes": None}, Status.INVALID, [(None, "MB", ""), (1.0, "", "TopK")]),
    ],
)
def test_a_device_model_is_held_against_its_limits(change, status, found):
    verdict = judge_export(exported(**{**FITS, **change}), LIMITS)
    assert verdict.status is status
    assert [(one.measured, one.unit, one.note) for one in verdict.findings[2:]] == found
    if status is not Status.PASS:
        assert verdict.reason.startswith("the device model is not within its limits: ")


def test_a_device_model_without_a_passport_is_no_pass():
    bare = exported().model_copy(update={"passport": None})
    assert judge_export(bare, LIMITS).status is Status.INVALID


WORK = MultiplyAddsLimits(tolerance=0.02, source="test")


@pytest.mark.parametrize(
    ("torch", "files", "status", "words"),
    [
        (1_000, (1_000, 1_000), Status.PASS, "; multiply-adds as in PyTorch"),
        (1_000, (1_020, 980), Status.PASS, "; multiply-adds as in PyTorch"),
        (0, (0, 0), Status.PASS, "; multiply-adds as in PyTorch"),
        (
            *(1_000_000_000, (1_150_000_000, 1_000_000_000), Status.FAIL),
            "not PyTorch's: difference in multiply-adds of the exported file is 0.15, must be <= 0.02 (1.15 G in",
        ),
        # What is not counted in the file could grow unseen.
        (1_000, (1_000, 979), Status.FAIL, "of the simplified file is 0.021, must be <= 0.02"),
        (
            1_000,
            (1_000, None),
            Status.INVALID,
            "not compared: difference in multiply-adds of the sim",
        ),
        (None, (1_000, 1_000), Status.INVALID, "(1e-06 G in place of unknown)"),
    ],
)
def test_both_files_have_the_multiply_adds_of_pytorch(torch, files, status, words):
    counts = MultiplyAdds(torch=torch, exported=files[0], simplified=files[1])
    verdict = judge_export(exported().model_copy(update={"multiply_adds": counts}), None, WORK)
    assert verdict.status is status
    assert words in verdict.reason
    assert len(verdict.findings) == 4


def test_an_exported_file_of_unknown_sizes_is_not_compared_and_the_verdict_says_so():
    counts = MultiplyAdds(torch=9, exported=None, simplified=9)
    verdict = judge_export(exported().model_copy(update={"multiply_adds": counts}), None, WORK)
    assert verdict.status is Status.PASS
    assert verdict.reason.endswith("as in PyTorch, of the exported one not known")


def test_files_whose_multiply_adds_nobody_counted_are_invalid_and_the_reason_says_so_once():
    verdict = judge_export(exported(), None, WORK)
    assert verdict.status is Status.INVALID
    assert "limits the multiply-adds, which this run did not count" in verdict.reason
    assert [finding.name for finding in verdict.findings] == ["problems", "nodes checked"]


def test_a_file_that_is_held_against_nothing_says_so():
    assert judge_export(exported()).reason.endswith("; multiply-adds held against nothing")
