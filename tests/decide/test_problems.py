import pytest

from harness.decide.problems import ExitStatus, Problem, exit_status, left_out, problems
from harness.spec import Status
from tests.made import record

EXPORT, PARITY = "nonlocal_tiny-cpu-bs1:export", "nonlocal_tiny-cpu-bs1:parity"


def decided(records, required, **more):
    return exit_status(problems(records, required, **more))


def test_a_seen_pass_of_all_that_is_required_is_green():
    records = [record("export", Status.PASS), record("parity", Status.PASS)]
    assert problems(records, [EXPORT, PARITY]) == []
    assert decided(records, [EXPORT, PARITY]) is ExitStatus.PASSED
    assert [int(status) for status in ExitStatus] == [0, 1, 6, 7]


@pytest.mark.parametrize("records", [[], [record("export", Status.PASS)]])
def test_nothing_required_is_not_green(records):
    assert [problem.id for problem in problems(records, [])] == ["(nothing)"]
    assert decided(records, []) is ExitStatus.INCOMPLETE


def test_a_failure_shows_even_where_nothing_is_required():
    assert decided([record("export", Status.FAIL)], []) is ExitStatus.FAILED


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.FAIL, ExitStatus.FAILED),
        (Status.INVALID, ExitStatus.FAILED),
        (Status.ERROR, ExitStatus.FAILED),
        (Status.NOT_RUN, ExitStatus.INCOMPLETE),
        (Status.INCONCLUSIVE, ExitStatus.INCONCLUSIVE),
    ],
)
def test_only_a_pass_is_green(status, expected):
    records = [record("export", status, "why"), record("parity", Status.PASS)]
    assert problems(records, [EXPORT, PARITY]) == [Problem(EXPORT, status, "why")]
    assert decided(records, [EXPORT, PARITY]) is expected


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.PASS])
def test_no_other_outcome_of_a_required_check_is_green(status):
    assert decided([record("export", status)], [EXPORT]) != ExitStatus.PASSED


@pytest.mark.parametrize("status", [Status.FAIL, Status.INVALID, Status.ERROR])
def test_red_is_red_though_nobody_required_it(status):
    records = [record("export", Status.PASS), record("parity", status)]
    assert decided(records, [EXPORT]) is ExitStatus.FAILED


def test_an_open_answer_is_not_green_though_nobody_required_it():
    records = [record("export", Status.PASS), record("parity", Status.INCONCLUSIVE)]
    assert decided(records, [EXPORT]) is ExitStatus.INCONCLUSIVE


def test_a_required_check_without_a_record_is_named():
    found = problems([record("export", Status.PASS)], [EXPORT, PARITY])
    assert found == [
        Problem(PARITY, Status.NOT_RUN, "required, but it was not collected or was deselected")
    ]
    assert exit_status(found) is ExitStatus.INCOMPLETE


def test_what_need_not_run_is_listed_and_not_red():
    records = [record("export", Status.PASS), record("parity", Status.NOT_RUN, "no weights")]
    assert decided(records, [EXPORT]) is ExitStatus.PASSED
    assert left_out(records, [EXPORT]) == [Problem(PARITY, Status.NOT_RUN, "no weights")]
    assert left_out(records, [EXPORT, PARITY]) == []


def test_a_check_that_was_tried_until_it_passed_is_red():
    records = [record("export", Status.PASS), record("export", Status.PASS)]
    (found,) = problems(records, [EXPORT])
    assert (found.id, found.status) == (EXPORT, Status.ERROR)
    assert "was run 2 times" in found.reason
    assert decided([record("export", Status.FAIL), records[0]], [EXPORT]) is ExitStatus.FAILED


def test_what_broke_outside_of_the_records_is_red():
    records = [record("export", Status.PASS)]
    found = problems(records, [EXPORT], {"test_x": "teardown failed"})
    assert found == [Problem("test_x", Status.ERROR, "teardown failed")]
    assert exit_status(found) is ExitStatus.FAILED


def test_red_goes_before_incomplete_before_inconclusive():
    some = [Problem("a", status, "") for status in (Status.INCONCLUSIVE, Status.NOT_RUN)]
    assert exit_status(some) is ExitStatus.INCOMPLETE
    assert exit_status([*some, Problem("b", Status.FAIL, "")]) is ExitStatus.FAILED


def test_what_did_not_run_comes_first():
    records = [record("export", Status.INCONCLUSIVE), record("parity", Status.FAIL)]
    found = problems(records, [EXPORT, "nonlocal_tiny-cpu-bs1:accuracy"], {"test_x": "broke"})
    assert [problem.status for problem in found] == [
        Status.NOT_RUN,
        Status.ERROR,
        Status.FAIL,
        Status.INCONCLUSIVE,
    ]
