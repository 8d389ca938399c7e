import datetime
import re
import tomllib
from pathlib import Path

import pytest

import harness
from harness.contract.tables import Waiver
from harness.contract.thresholds import thresholds_from_file
from harness.decide.problems import ExitStatus, exit_status
from harness.decide.summary import decision_lines, table_lines
from harness.decide.waivers import WAIVABLE, corrected_toml, decide, review, waived_lines
from harness.errors import ThresholdsError
from harness.record.record import RunFacts
from harness.spec import Status
from tests.made import record

CONTRACT = Path(harness.__file__).parent.parent / "thresholds.toml"
TODAY = datetime.date(2026, 11, 25)
EXPORT, PARITY = "nonlocal_tiny-cpu-bs1:export", "nonlocal_tiny-cpu-bs1:parity"
TABLE = """
[[waivers]]
cell = "nonlocal_tiny-cpu-bs1"
check = "parity"
reason = "fp16 overflow in block 3"
issue = "NPU-17"
owner = "mei"
expires = 2026-12-31
"""


def waiver(**more):
    values = tomllib.loads(TABLE)["waivers"][0]
    return Waiver.model_validate(values | more)


def facts(*required):
    return RunFacts(
        run_id="r",
        tier="smoke",
        started="2026-11-25T23:59:00+00:00",
        command=(),
        thresholds_digest="d",
        environment={},
        required=required,
        is_over=True,
    )


def decided(records, *waivers, required=(EXPORT, PARITY)):
    return decide(records, facts(*required), waivers, TODAY)


def test_a_check_excused_for_a_device_that_was_found_is_required_again():
    records = [record("export", Status.PASS)]
    excusing = facts(EXPORT, PARITY).model_copy(update={"excused": (PARITY,)})
    (problem,) = decide(records, excusing, (), TODAY).problems
    assert (problem.id, problem.status) == (PARITY, Status.NOT_RUN)
    absent = [record("export", Status.NOT_RUN, is_device_present=False)]
    nothing_there = excusing.model_copy(
        update={"excused": (EXPORT, PARITY), "required": (EXPORT, PARITY)}
    )
    assert PARITY not in {one.id for one in decide(absent, nothing_there, (), TODAY).problems}


# What is waived


@pytest.mark.parametrize("status", sorted(WAIVABLE - {Status.ERROR}))
def test_a_waived_outcome_is_not_red_and_not_a_pass(status):
    records = [record("export", Status.PASS), record(status=status)]
    decision = decided(records, waiver())
    assert exit_status(decision.problems) is ExitStatus.PASSED
    assert decision.waived == {PARITY: waiver()}
    assert table_lines(records, decision.waived)[1].split()[1:3] == ["pass", "waived"]
    text = "\n".join(decision_lines(records, decision, [waiver()], facts(EXPORT, PARITY)))
    line = f"WAIVED: {PARITY}\n    fp16 overflow in block 3 (NPU-17, owner mei, until 2026-12-31)"
    assert line in text
    assert "[[waivers]]" not in text


@pytest.mark.parametrize(
    ("waived", "came", "is_covered"),
    [
        ("BuildError", "BuildError", True),
        (None, "BuildError", False),
        ("RunError", "BuildError", False),
    ],
)
def test_an_error_is_waived_at_its_own_stage_only(waived, came, is_covered):
    records = [record("export", Status.PASS), record(status=Status.ERROR, stage=came)]
    decision = decided(records, waiver(stage=waived))
    assert (PARITY in decision.waived) is is_covered
    assert bool(decision.problems) is not is_covered
    where = "" if waived is None else f"stage {waived}, "
    assert waived_lines({PARITY: waiver(stage=waived)}) == [
        f"WAIVED: {PARITY}",
        f"    fp16 overflow in block 3 ({where}NPU-17, owner mei, until 2026-12-31)",
    ]


def test_a_failure_is_not_covered_by_a_waiver_of_a_stage():
    records = [record("export", Status.PASS), record()]
    decision = decided(records, waiver(stage="BuildError"))
    assert exit_status(decision.problems) is ExitStatus.FAILED
    assert [problem.id for problem in decision.problems] == [PARITY, PARITY]
    assert "unused: it is for an error at stage BuildError" in decision.problems[1].reason


def test_another_check_of_the_cell_stays_red():
    decision = decided([record("export"), record()], waiver())
    assert [problem.id for problem in decision.problems if problem.status is Status.FAIL] == [
        EXPORT
    ]


def test_nothing_but_waived_checks_shows_nothing():
    decision = decided([record()], waiver(), required=(PARITY,))
    assert exit_status(decision.problems) is ExitStatus.INCOMPLETE
    assert "every check that ran is waived" in decision.problems[0].reason


def test_a_waived_check_that_was_tried_again_is_red():
    records = [record("export", Status.PASS), record(), record()]
    assert exit_status(decided(records, waiver()).problems) is ExitStatus.FAILED


def test_what_broke_beside_a_waived_check_is_red():
    broken = facts(EXPORT, PARITY).model_copy(update={"broken": {"test_x": "teardown failed"}})
    records = [record("export", Status.PASS), record()]
    assert exit_status(decide(records, broken, [waiver()], TODAY).problems) is ExitStatus.FAILED


# Strict


def test_an_unexpected_pass_is_red():
    records = [record("export", Status.PASS), record(status=Status.PASS)]
    decision = decided(records, waiver())
    assert exit_status(decision.problems) is ExitStatus.FAILED
    assert "passes though it is waived: remove the waiver" in decision.problems[0].reason
    assert decision.waived == {}


@pytest.mark.parametrize(("day", "is_red"), [(24, True), (25, False), (26, False)])
def test_an_expired_waiver_is_red_from_the_day_after(day, is_red):
    records = [record("export", Status.PASS), record()]
    decision = decided(records, waiver(expires=datetime.date(2026, 11, day)))
    assert bool(decision.problems) is is_red
    if is_red:
        assert "expired on 2026-11-24" in decision.problems[1].reason
        assert decision.problems[0].reason == "off"


@pytest.mark.parametrize("missing", [[], [record(status=Status.NOT_RUN)]])
def test_a_waiver_does_not_excuse_a_check_from_running(missing):
    records = [record("export", Status.PASS), *missing]
    decision = decided(records, waiver())
    assert {problem.status for problem in decision.problems} == {Status.NOT_RUN, Status.FAIL}
    assert "unused because the check did not run" in decision.problems[1].reason
    assert decision.waived == {}


def test_what_this_run_did_not_have_to_run_is_not_reviewed():
    records = [record("export", Status.PASS), record(status=Status.NOT_RUN)]
    assert decided(records, waiver(), required=(EXPORT,)).problems == []
    assert review(records, [waiver()], TODAY).problems == []


@pytest.mark.parametrize("status", [Status.PASS, Status.FAIL])
def test_an_emulator_tells_nothing_of_a_waiver(status):
    records = [record("export", Status.PASS), record(status=status, is_emulated=True)]
    decision = decided(records, waiver())
    assert decision.waived == {}
    assert bool(decision.problems) is (status is Status.FAIL)


# The corrected table


def test_a_failing_run_gets_the_table_that_fits_with_blanks_to_fill():
    reason = 'broke "here"\\ at \x7f\nsecond line'
    records = [record("export", Status.ERROR, reason, stage="ExportError"), record()]
    decision = decided(records, waiver())
    text = corrected_toml(records, [waiver()], decision)
    kept, new = tomllib.loads(text)["waivers"]
    assert Waiver.model_validate(kept) == waiver()
    assert new == {
        "cell": "nonlocal_tiny-cpu-bs1",
        "check": "export",
        "stage": "ExportError",
        "reason": 'error: broke "here"\\ at \x7f',
        "issue": "",
        "owner": "",
        "expires": "",
    }
    assert text in "\n".join(decision_lines(records, decision, [waiver()], facts(EXPORT, PARITY)))


def test_the_corrected_table_drops_what_passes_and_renews_what_has_expired():
    records = [record("export", Status.PASS), record()]
    old = waiver(expires=datetime.date(2026, 1, 1))
    needless = waiver(check="export")
    text = corrected_toml(records, [old, needless], decided(records, old, needless))
    (renewed,) = tomllib.loads(text)["waivers"]
    assert (renewed["check"], renewed["expires"]) == ("parity", "")
    records = [record("export", Status.PASS), record(status=Status.PASS)]
    text = corrected_toml(records, [waiver()], decided(records, waiver()))
    assert tomllib.loads(text) == {}


def test_the_corrected_table_keeps_what_did_not_run():
    records = [record("export")]
    text = corrected_toml(records, [waiver()], decided(records, waiver()))
    assert [table["check"] for table in tomllib.loads(text)["waivers"]] == ["parity", "export"]


def test_a_green_run_proposes_nothing():
    records = [record("export", Status.PASS), record(status=Status.PASS)]
    assert corrected_toml(records, [], decided(records)) is None


# Reading


@pytest.fixture
def read(tmp_path):
    def read_with(tail):
        path = tmp_path / "thresholds.toml"
        path.write_text(CONTRACT.read_text() + tail)
        return thresholds_from_file(path)

    return read_with


def test_waivers_are_read_and_none_is_shipped(read):
    assert read(TABLE).file.waivers == (waiver(),)
    assert read("").file.waivers == ()


@pytest.mark.parametrize(
    ("line", "becomes", "words"),
    [
        ("owner = .*", "", "waivers.0.owner: Field required"),
        ("owner = .*", 'owner = "  "', "waivers.0.owner: String should have at least 1 character"),
        ("issue = .*", 'issue = ""', "waivers.0.issue: String should have at least 1 character"),
        ("expires = .*", "", "waivers.0.expires: Field required"),
        ("expires = .*", 'expires = ""', "waivers.0.expires: Input should be a valid date"),
        ("expires = .*", 'expires = "2026-12-31"', "waivers.0.expires: Input should be a valid d"),
        ("expires = .*", "expires = 20261231", "waivers.0.expires: Input should be a valid date"),
        ("expires = .*", "expires = 2026-12-31T00:00:00", "waivers.0.expires: "),
        ("expires = .*", "expires = 2026-02-30", "is not TOML"),
        ("check = .*", 'check = "speed"', "waivers.0.check: Input should be 'export', 'parity'"),
        ("cell = .*", 'cell = "nonlocal_tiny-tpu-bs1"', "'nonlocal_tiny-tpu-bs1' is not a cell"),
        ("cell = .*", 'cell = "*"', "'*' is not a cell; there are: nonlocal_r50-ascend310-bs1"),
        ("owner = .*", 'owner = "mei"\nuntil = "soon"', "waivers.0.until: Extra inputs"),
    ],
)
def test_a_waiver_that_cannot_be_used_is_refused(read, line, becomes, words):
    with pytest.raises(ThresholdsError) as caught:
        read(re.sub(line, becomes, TABLE))
    assert words in str(caught.value)


def test_a_check_is_waived_once(read):
    with pytest.raises(ThresholdsError, match=f"{PARITY} is waived 2 times; keep one"):
        read(TABLE + TABLE)


def test_an_inconclusive_check_is_offered_no_waiver():
    records = [record("throughput", Status.INCONCLUSIVE), record("parity", Status.FAIL)]
    text = corrected_toml(records, [], decided(records))
    assert text is not None
    assert [table["check"] for table in tomllib.loads(text)["waivers"]] == ["parity"]
    assert corrected_toml(records[:1], [], decided(records[:1])) is None
