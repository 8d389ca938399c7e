import pytest

from harness.decide.problems import Problem
from harness.decide.summary import is_emulated, margin_text, problem_lines, table_lines
from harness.judge import Finding, Verdict
from harness.record.record import Record
from harness.spec import Status

ROW = ["pass", "pass", "50", "%", "of", "limit", "fail", "-2", "clips", "-"]


def finding(measured, limit, comparison=">="):
    return Finding(
        name="x", measured=measured, limit=limit, comparison=comparison, unit="", is_met=True
    )


def record(check="export", status=Status.PASS, findings=(), batch=1, **more):
    is_green = status is Status.PASS
    findings = findings or ((finding(1.0, 1.0),) if is_green else ())
    return Record(
        run_id="r",
        tier="smoke",
        model="nonlocal_tiny",
        device="cpu",
        batch=batch,
        check=check,
        verdict=Verdict(status=status, reason="why", findings=tuple(findings)),
        measurement={} if is_green else None,
        is_device_present=True,
        started="now",
        seconds=0.0,
        **more,
    )


@pytest.mark.parametrize(
    ("check", "findings", "text"),
    [
        ("accuracy", [finding(470, 466)], "+4 clips"),
        ("accuracy", [finding(466, 466)], "+0 clips"),
        ("accuracy", [finding(464, 466), finding(480, 476)], "-2 clips"),
        ("accuracy", [finding(None, 466)], ""),
        ("throughput", [finding(110.0, 100.0)], "+10 %"),
        ("throughput", [finding(95.0, 100.0)], "-5 %"),
        ("throughput", [finding(None, 100.0)], ""),
        ("throughput", [finding(5.0, 0.0)], ""),
        ("parity", [finding(0.2, 1.0, "<="), finding(0.9, 1.2, "<=")], "75 % of limit"),
        ("parity", [finding(1.0, 0.99), finding(None, 1.0, "<=")], ""),
        ("parity", [finding(0.0, 0.0, "<=")], ""),
        ("export", [finding(0.0, 1.0, "<=")], ""),
    ],
)
def test_the_margin_to_the_nearest_limit(check, findings, text):
    assert margin_text(record(check, Status.FAIL, findings)) == text


def test_what_did_not_run_has_no_margin():
    assert margin_text(record("accuracy", Status.NOT_RUN, [finding(1, 1)])) == ""


def test_a_row_a_cell_and_a_column_a_check():
    lines = table_lines(
        [
            record("parity", findings=[finding(0.5, 1.0, "<=")]),
            record("export"),
            record("accuracy", Status.FAIL, [finding(1, 3)]),
        ]
    )
    assert [line.split() for line in lines] == [
        ["cell", "export", "parity", "accuracy", "throughput"],
        ["nonlocal_tiny-cpu-bs1", *ROW],
    ]


def test_cells_with_something_not_run_come_first():
    lines = table_lines([record(), record(batch=4), record("parity", Status.NOT_RUN, batch=8)])
    assert [line.split()[0][-3:] for line in lines[1:]] == ["bs8", "bs1", "bs4"]
    assert "not run" in lines[1]


def test_a_table_of_nothing_is_its_header():
    assert len(table_lines([])) == 1


def test_problems_with_one_reason_stand_together():
    found = [
        Problem("a-cpu-bs1:export", Status.NOT_RUN, "no weights"),
        Problem("a-cpu-bs1:parity", Status.NOT_RUN, "no weights"),
        Problem("b-cpu-bs1:parity", Status.NOT_RUN, "no weights"),
        Problem("b-cpu-bs1:export", Status.FAIL, "no weights"),
        Problem("(nothing)", Status.NOT_RUN, "nothing was shown"),
    ]
    assert problem_lines(found) == [
        "NOT RUN: a-cpu-bs1:export,parity  b-cpu-bs1:parity",
        "    no weights",
        "FAIL: b-cpu-bs1:export",
        "    no weights",
        "NOT RUN: (nothing)",
        "    nothing was shown",
    ]


def test_the_name_of_a_test_is_shown_whole():
    name = "acceptance/test_export.py::test_export[a-cpu-bs1]"
    lines = problem_lines([Problem(name, Status.ERROR, "broke")])
    assert lines == [f"ERROR: {name}", "    broke"]


def test_an_emulator_is_noticed():
    assert not is_emulated([record()])
    assert is_emulated([record(), record("parity", is_emulated=True)])
    assert not is_emulated([])
