import pytest

from harness.decide.problems import Problem
from harness.decide.todo import Reason, ReasonKind, Task, reason_of, reasons_from_problems, todos
from harness.decide.wording import Shown, advice, command, release_sentence, said, todo_lines
from harness.judge.limits import StartupLimits, ThroughputReference
from harness.judge.soak import judge_soak
from harness.judge.startup import judge_startup
from harness.judge.throughput import judge_throughput
from harness.judge.verdict import Verdict, inconclusive
from harness.measure.soak import soak_measurement
from harness.measure.soak_lines import SoakPlan, Stretch
from harness.measure.startup import StartTiming, startup_measurement
from harness.measure.throughput import session_timing, throughput_measurement
from harness.record.record import Record
from harness.spec import Status
from tests import made

CELL = "nonlocal_r50-ascend310-bs4"


def record(check="accuracy", *, is_there=True, status=Status.NOT_RUN, weights="checkpoint"):
    return Record(
        run_id="r",
        tier="nightly",
        model="nonlocal_r50",
        device="ascend310",
        batch=4,
        check=check,
        verdict=Verdict(status=status, reason="why"),
        weights=weights,
        is_device_present=is_there,
        started="now",
        seconds=0.0,
    )


def only(problem, *records):
    (found,) = todos(reasons_from_problems([problem], records))
    return found


def test_what_kept_a_check_from_running_comes_from_the_record_not_from_its_words():
    problem = Problem(f"{CELL}:accuracy", Status.NOT_RUN, "words")
    assert said(only(problem, record(is_there=False))) == "1 check needs an Ascend 310"
    assert said(only(problem, record(weights="seeded"))) == "1 check needs weights"
    assert said(only(problem, record())) == "1 check needs a data set"
    assert said(only(problem)) == "1 check has not run in full"


def test_what_lies_beside_a_record_is_told_from_its_outcome():
    failed = record(status=Status.FAIL)
    name = failed.id
    assert only(Problem(name, Status.FAIL, "off"), failed).task is Task.FIX
    assert only(Problem(name, Status.FAIL, "the waiver is unused"), record()).task is Task.WAIVER
    assert only(Problem(name, Status.ERROR, "was run 2 times"), failed).task is Task.AGAIN
    assert said(only(Problem("(run)", Status.ERROR, "stopped"))) == "1 run does not count"
    assert said(only(Problem("(nothing)", Status.NOT_RUN, "x"))) == "no required check has passed"


def soaked(planned_s):
    stretches = [
        Stretch(start_s=60.0 * n, end_s=60.0 * (n + 1), queries=600, busy_s=60.0) for n in range(2)
    ]
    found = soak_measurement([SoakPlan(seconds=planned_s, interval_s=1.0), *stretches], 4)
    return found, judge_soak(found, None)


def started(limits):
    starts = [StartTiming(cache="warm", load_ms=load_ms) for load_ms in (50.0, 90.0)]
    found = startup_measurement(starts, 4)
    return found, judge_startup(found, limits)


def one_chip(per_s, **more):
    """Time one chip at a golden of 100 clips/s."""
    terms = {"unit": "clips/s", "definition": "device", "scope": "card", "source": "us"} | more
    reference = ThroughputReference(golden=100.0, tolerance=0.05, **terms)
    found = throughput_measurement([session_timing([1000.0 / one] * 20) for one in per_s], 1)
    return found, judge_throughput(found, reference)


@pytest.mark.parametrize(
    ("check", "undecided", "task", "told"),
    [
        ("soak", soaked(120.0), Task.LIMIT, " into models.nonlocal_r50.devices.ascend310.soak.bs4"),
        ("startup", started(None), Task.LIMIT, "devices.ascend310.startup.bs4 of thresholds.toml"),
        ("throughput", one_chip([40.0] * 3, chips=4), Task.LIMIT, "ascend310.throughput.bs4 of"),
        ("soak", soaked(900.0), Task.RUN, "Run them in the tier"),
        ("accuracy", (made.measured("accuracy"), inconclusive("x")), Task.CLIPS, "more clips"),
        (
            "startup",
            started(StartupLimits(warm_load_max_ms=80.0, source="us")),
            Task.REPEAT,
            "Measure for longer (--budget-minutes)",
        ),
        ("throughput", one_chip([80.0, 110.0]), Task.REPEAT, "Measure for longer"),
    ],
)
def test_what_would_decide_a_check_comes_from_what_was_measured(check, undecided, task, told):
    measurement, verdict = undecided
    assert verdict.status is Status.INCONCLUSIVE
    took = getattr(measurement, "session_count", 0)
    update = {"measurement": measurement, "verdict": verdict, "sessions_min": took}
    one = record(check).model_copy(update=update)
    found = only(Problem(one.id, Status.INCONCLUSIVE, verdict.reason), one)
    assert found.task is task
    assert told in advice(found)


def test_sessions_that_are_missing_come_before_a_limit():
    measurement, verdict = one_chip([40.0] * 3, chips=4)
    update = {"measurement": measurement, "verdict": verdict, "sessions_min": 4}
    one = record("throughput").model_copy(update=update)
    found = only(Problem(one.id, Status.INCONCLUSIVE, verdict.reason), one)
    assert (found.task, found.about) == (Task.REPEAT, ())


def test_a_check_counts_once_and_a_failure_is_not_hidden_behind_weights():
    ids = (f"{CELL}:parity", f"{CELL}:export")
    reasons = [
        Reason(kind="seeded", text="seeded weights", ids=ids, task=Task.WEIGHTS, about="x.pth"),
        Reason(kind="partial", text="nightly", ids=ids, task=Task.RUN),
        Reason(kind="fail", text="off", ids=ids[:1], task=Task.FIX, about="fail"),
    ]
    weights, fix = todos(reasons)
    assert (weights.task, weights.ids) == (Task.WEIGHTS, ids[1:])
    assert (fix.task, fix.ids) == (Task.FIX, ids[:1])
    assert [reason.kind for reason in fix.reasons] == ["seeded", "partial", "fail"]


def test_limits_that_are_missing_are_one_task_and_devices_are_one_each():
    reasons = [
        Reason(kind="inconclusive", text="x", ids=(f"{CELL}:{one}",), task=task, about=one)
        for task, names in ((Task.LIMIT, ("soak", "startup")), (Task.DEVICE, ("cpu", "cuda")))
        for one in names
    ]
    found = todos(reasons)
    assert [(one.task, one.about) for one in found] == [
        (Task.DEVICE, ("cuda",)),
        (Task.DEVICE, ("cpu",)),
        (Task.LIMIT, ("soak", "startup")),
    ]


def test_what_nobody_asked_for_stands_apart():
    spared = Problem(f"{CELL}:accuracy", Status.NOT_RUN, "no weights")
    problem = Problem(f"{CELL}:parity", Status.FAIL, "off")
    found = todos(
        reasons_from_problems(
            [problem], [record(weights="seeded"), record("parity", status=Status.FAIL)], [spared]
        )
    )
    assert [(one.task, one.is_required) for one in found] == [
        (Task.FIX, True),
        (Task.WEIGHTS, False),
    ]
    lines = todo_lines(found, "nightly")
    assert lines[3] == "  1 check needs weights (not required)"
    assert "tsm_nl_dot_product_r50" in lines[4]


def test_the_command_runs_every_check_of_a_task():
    ids = (f"{CELL}:parity", "timesformer-ascend310p-bs1:accuracy")
    (found,) = todos([Reason(kind="inconclusive", text="x", ids=ids, task=Task.REPEAT)])
    assert command(found, "release") == (
        "pytest acceptance -m '(ascend310 or ascend310p) and (parity or accuracy)' --tier release "
        "--model nonlocal_r50 --model timesformer --batch-size 4 --batch-size 1 --budget-minutes 10"
    )
    (run,) = todos([Reason(kind="stopped run", text="x", ids=("r",), task=Task.AGAIN)])
    assert command(run, "release") == "pytest acceptance --tier release"


def test_the_noun_is_said_once_for_one_and_for_many():
    reasons = [
        Reason(kind="not run", text="x", ids=(f"{CELL}:export",), task=Task.RUN),
        Reason(
            kind="fail",
            text="x",
            ids=(f"{CELL}:parity", f"{CELL}:accuracy"),
            task=Task.FIX,
            about="fail",
        ),
        Reason(kind="stopped run", text="x", ids=("a", "b"), task=Task.AGAIN),
    ]
    assert release_sentence(todos(reasons), Shown(0, 4, 0)) == (
        "Not yet: 1 check has not run in full, 2 failed, 2 runs do not count"
    )


@pytest.mark.parametrize(
    ("status", "minutes"), [(Status.FAIL, " --minutes 15"), (Status.INVALID, "")]
)
def test_a_soak_is_run_again_for_as_long_unless_that_was_too_short(status, minutes):
    one = record("soak", status=status).model_copy(update={"measurement": soaked(900.0)[0]})
    found = only(Problem(one.id, status, "why"), one)
    assert command(found, "weekly") == f"harness soak {CELL} --tier weekly{minutes}"


def test_a_soak_that_was_too_short_is_not_repeated_for_as_short_for_another_reason():
    one = record("soak").model_copy(update={"measurement": soaked(900.0)[0]})
    texts: dict[ReasonKind, str] = {"invalid": "too short", "unfounded": "other numbers"}
    (found,) = todos([reason_of(kind, text, (one.id,), one) for kind, text in texts.items()])
    assert command(found, "weekly") == f"harness soak {CELL} --tier weekly"
