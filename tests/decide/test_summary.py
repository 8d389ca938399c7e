import datetime
import re
import unicodedata

import pytest

from harness.contract.tables import Waiver
from harness.contract.thresholds import thresholds_from_file
from harness.decide.problems import Problem
from harness.decide.summary import (
    check_line,
    decision_lines,
    is_emulated,
    margin_text,
    problem_lines,
    summary_lines,
    table_lines,
)
from harness.decide.waivers import Decision, decide
from harness.judge.verdict import Finding, Verdict
from harness.language import speaking
from harness.measure.statistics import Interval
from harness.record.record import Record, RunFacts
from harness.spec import Status
from tests import made

SUMMARY = """\
cell                   export              parity                 accuracy            throughput
nonlocal_tiny-cpu-bs8  -                   -                      not run             -
nonlocal_tiny-cpu-bs1  pass                pass 50 % of limit     fail -2 clips       -
nonlocal_tiny-cpu-bs4  -                   waived 200 % of limit  -                   -

FAIL: nonlocal_tiny-cpu-bs1:accuracy
    why

Known failures, waived but not passed:
WAIVED: nonlocal_tiny-cpu-bs4:parity
    rounds (#7, owner ana, until 2026-12-01)

Not required in this run:
NOT RUN: nonlocal_tiny-cpu-bs8:accuracy
    why

To accept this as known, fill in issue, owner and expires, and put these in place of the
[[waivers]] tables of the thresholds file:

[[waivers]]
cell = "nonlocal_tiny-cpu-bs1"
check = "accuracy"
reason = "fail: why"
issue = ""
owner = ""
expires = ""

Run report: On this host's CPU: 2 of 4 required checks passed, 1 waived; 1 check failed; not required: 1 check needs a data set
  1 check failed
    Find out why and fix it; this runs it again:
    $ pytest acceptance -m 'cpu and accuracy' --tier smoke --model nonlocal_tiny --batch-size 1
  1 check needs a data set (not required)
    Name motion8 in site.toml (docs/kinetics.md), then run:
    $ pytest acceptance -m 'cpu and accuracy' --tier smoke --model nonlocal_tiny --batch-size 8"""
ROW = ["pass", "pass", "50", "%", "of", "limit", "fail", "-2", "clips", "-"]


def finding(measured, limit, comparison=">=", bounds=None, is_met=True, unit=""):
    return Finding(
        name="x",
        measured=measured,
        limit=limit,
        comparison=comparison,
        unit=unit,
        is_met=is_met,
        bounds=bounds and Interval(low=bounds[0], high=bounds[1], confidence=0.95),
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
        measurement=made.measured(check) if is_green else None,
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
        ("throughput", [finding(149.0, 100.0, bounds=(38.0, 260.0))], "+49 % (-62 to +160)"),
        ("throughput", [finding(1234.56, 1.0, unit="clips/s")], "1,234.6 clips/s"),
        ("throughput", [finding(None, 100.0)], ""),
        ("throughput", [finding(5.0, 0.0)], ""),
        ("parity", [finding(0.2, 1.0, "<="), finding(0.9, 1.2, "<=")], "75 % of limit"),
        ("parity", [finding(1.0, 0.99), finding(None, 1.0, "<=")], ""),
        ("parity", [finding(0.0, 0.0, "<=")], ""),
        ("startup", [finding(400.0, 500.0, "<="), finding(50.0, 500.0, "<=")], "80 % of limit"),
        ("soak", [finding(0.988, 0.95)], "+4 %"),
        ("soak", [finding(60.0, 80.0, "<=")], "75 % of limit"),
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


def test_a_long_text_widens_its_column():
    head, row = table_lines([record("parity", findings=[finding(1e6, 1.0, "<=")])])
    assert "pass 100000000 % of limit  -" in row
    assert row.index("-", row.index("limit")) == head.index("accuracy")


def test_cells_with_something_not_run_come_first():
    lines = table_lines([record(), record(batch=4), record("parity", Status.NOT_RUN, batch=8)])
    assert [line.split()[0][-3:] for line in lines[1:]] == ["bs8", "bs1", "bs4"]
    assert "not run" in lines[1]


def test_a_check_that_ends_gets_a_line():
    failed = record("accuracy", Status.FAIL, [finding(464, 466)]).model_copy(
        update={"seconds": 7.26}
    )
    assert check_line(failed) == "nonlocal_tiny-cpu-bs1       accuracy    fail -2 clips    7.3 s"
    waived = check_line(failed, {failed.id})
    assert waived == "nonlocal_tiny-cpu-bs1       accuracy    waived -2 clips    7.3 s"


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


def test_the_whole_summary_of_a_run(pytestconfig):
    thresholds = thresholds_from_file(pytestconfig.rootpath / "thresholds.toml")
    known = {
        "reason": "rounds",
        "issue": "#7",
        "owner": "ana",
        "expires": datetime.date(2026, 12, 1),
    }
    waiver = Waiver(cell="nonlocal_tiny-cpu-bs4", check="parity", **known)
    records = [
        record("parity", findings=[finding(0.5, 1.0, "<=")]),
        record("export"),
        record("accuracy", Status.FAIL, [finding(464, 466)]),
        record("parity", Status.FAIL, [finding(2.0, 1.0, "<=")], batch=4),
        record("accuracy", Status.NOT_RUN, batch=8),
    ]
    ids = ("bs1:parity", "bs1:export", "bs1:accuracy", "bs4:parity")
    required = tuple(f"nonlocal_tiny-cpu-{one}" for one in ids)
    facts = FACTS.model_copy(update={"required": required, "is_over": True})
    decision = decide(records, facts, (waiver,), facts.started_on)
    assert "\n".join(summary_lines(records, decision, thresholds, facts)) == SUMMARY
    emulated = [one.model_copy(update={"is_emulated": True}) for one in records]
    decision = decide(emulated, facts, (waiver,), facts.started_on)
    told = summary_lines(emulated, decision, thresholds, facts)
    assert told[0] == "EMULATED: no device was there; this can never be signed off"


def test_an_emulator_is_noticed():
    assert not is_emulated([record()])
    assert is_emulated([record(), record("parity", is_emulated=True)])
    assert not is_emulated([])


# Of a host that was too busy

TOO_BUSY = finding(149.0, 100.0, bounds=(38.0, 260.0), is_met=None)


def straddling(batch, bounds=(38.0, 260.0)):
    noisy = finding(149.0, 100.0, bounds=bounds, is_met=None)
    return record("throughput", Status.INCONCLUSIVE, [noisy], batch)


FACTS = RunFacts(
    run_id="r",
    tier="smoke",
    started="2026-11-25T02:00:00+00:00",
    command=(),
    thresholds_digest="",
    environment={},
    required=("nonlocal_tiny-cpu-bs1:accuracy",),
)


def told(records):
    found = [
        Problem(one.id, one.verdict.status, "why")
        for one in records
        if one.verdict.status is not Status.PASS
    ]
    return decision_lines(records, Decision(found, {}), (), FACTS)


def test_a_host_that_was_too_busy_is_told_first():
    lines = told([record(), straddling(1), straddling(4), straddling(8)])
    assert lines[0] == "host too busy to time: 3 checks; the rest passed"
    assert "--sessions or --budget-minutes" in lines[1]
    assert not any("[[waivers]]" in line for line in lines)
    assert told([record(), straddling(1)])[0] == "host too busy to time: 1 check; the rest passed"


@pytest.mark.parametrize(
    "other",
    [
        record("parity", Status.FAIL),
        record("accuracy", Status.INCONCLUSIVE, [TOO_BUSY]),
        record("accuracy", Status.NOT_RUN),
        # One chip between the floor of a card and its share of it: sessions decide nothing.
        straddling(4, bounds=(60.0, 70.0)),
        record("throughput", Status.INCONCLUSIVE, batch=4),
    ],
)
def test_another_trouble_is_not_the_hosts(other):
    assert not any("host too busy" in line for line in told([record(), straddling(1), other]))


def test_a_green_run_says_nothing_of_the_host():
    assert not any("host too busy" in line for line in told([record()]))


def test_what_was_waived_or_spared_is_not_among_the_rest_that_passed():
    noisy = Problem("nonlocal_tiny-cpu-bs1:throughput", Status.INCONCLUSIVE, "why")
    spared = record("accuracy", Status.NOT_RUN, batch=4)
    lines = decision_lines([straddling(1), spared], Decision([noisy], {}), (), FACTS)
    assert lines[0].endswith("; the rest passed, but 0 waived and 1 not required that did not run")


# In Chinese


def columns(text):
    """Return how many columns of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def test_the_columns_stand_below_each_other_in_chinese():
    records = [
        record("parity", findings=[finding(0.5, 1.0, "<=")]),
        record("export", Status.NOT_RUN),
        record("parity", Status.FAIL, [finding(2.0, 1.0, "<=")], batch=4),
        record("export", batch=4),
    ]
    with speaking("zh"):
        head, *rows = table_lines(records)
    assert head.split() == ["单元", "导出", "一致性", "精度", "吞吐率"]
    starts = [
        columns(row[: row.index(word)]) for row, word in zip(rows, ("通过", "不通过"), strict=True)
    ]
    assert starts == [columns(head[: head.index("一致性")])] * 2


def test_nothing_but_names_stays_english_in_a_chinese_summary(pytestconfig):
    thresholds = thresholds_from_file(pytestconfig.rootpath / "thresholds.toml")
    records = [
        straddling(1),
        record("accuracy", Status.NOT_RUN),
        record("parity", Status.FAIL, [finding(2.0, 1.0, "<=")], is_emulated=True),
        record("export", Status.ERROR, batch=4, stage="build"),
        record("export", Status.INVALID, batch=8),
        *(record("throughput", batch=batch, findings=[finding(2.0, 1.0)]) for batch in (4, 8)),
    ]
    facts = FACTS.model_copy(update={"required": (*FACTS.required, "nonlocal_tiny-cpu-bs2:parity")})
    found = decide(records, facts, (), facts.started_on)
    with speaking("zh"):
        lines = summary_lines(records, found, thresholds, facts)
    start, end = (
        lines.index("[[waivers]]"),
        next(i for i, one in enumerate(lines) if "运行报告" in one),
    )
    said = [one for one in [*lines[:start], *lines[end:]] if not one.lstrip().startswith("$")]
    words = set(re.findall("[a-z]{3,}", " ".join(said).lower()))
    # Ids, checks in them, keys and files of the contract and the site; reasons are as recorded.
    names = "nonlocal tiny cpu why export parity accuracy throughput motion run"
    keys = "issue owner expires thresholds waivers sessions budget minutes site toml docs kinetics"
    assert words - {*names.split(), *keys.split()} == set()
