"""What single checks do beyond the whole cells of test_suite.py."""

import dataclasses

import numpy as np
import pytest

from harness.check import checks
from harness.check.checks import check_throughput
from harness.check.context import Context
from harness.data.datasets import motion8
from harness.device import DeviceState, Presence
from harness.errors import InvalidMeasurement, MissingInput
from harness.judge.limits import DeviceModelLimits
from harness.judge.measurement import judge_measurement
from harness.measure.measurement import Measurement
from harness.measure.scores import FLOAT16_SMALLEST_NORMAL, FLOAT32_SMALLEST_NORMAL
from harness.measure.throughput import SessionTiming
from harness.predict.device_predictions import open_session
from harness.predict.parity_inputs import parity_inputs
from harness.predict.shards import subset_of_clips
from harness.registry import device_spec
from harness.spec import CHECKS, Cell, Status
from harness.testing import FakeDevice, FakeSession

CELL = Cell("nonlocal_tiny", "cpu", 4)


@pytest.fixture
def context(clean, thresholds):
    """Return the context of a cell of the clean run."""

    def of(cell=CELL, bench=clean[0].bench, **plan):
        tier = thresholds.tier("nightly")
        plans = dict(tier.timing)
        plans["default"] = plans["default"].model_copy(update=plan)
        tier = tier.model_copy(update={"timing": plans})
        return Context(cell, bench, tier, thresholds.limits(cell))

    return of


@pytest.mark.parametrize("check", CHECKS)
def test_a_stored_measurement_is_judged_alike(clean, thresholds, check):
    record = clean[1][check]
    verdict = judge_measurement(
        record.measurement, thresholds.limits(CELL), record.inputs_min, record.sessions_min
    )
    assert verdict == record.verdict


def test_other_limits_give_another_verdict(clean, thresholds):
    record = clean[1]["parity"]
    limits = thresholds.limits(CELL)
    tight = limits.parity.model_copy(update={"max_abs_error": 0.0})
    strict = limits.model_copy(update={"host_parity": tight})
    verdict = judge_measurement(record.measurement, strict, record.inputs_min, 1)
    assert verdict.status is Status.FAIL
    assert judge_measurement(record.measurement, limits, 999, 1).status is Status.INVALID


def test_what_a_built_model_says_of_itself_is_part_of_the_export(context, monkeypatch):
    assert checks.check_export(context()).measurement.passport is None
    said = {"soc_version": "Ascend310P3", "command": "atc", "ai_cpu_operators": ["a", "b"]}
    monkeypatch.setattr("harness.device.Device.passport", lambda self, model: said)
    limits = context().limits.model_copy(
        update={"device_model": DeviceModelLimits(ai_cpu_operators_max=1, source="us")}
    )
    found = checks.check_export(dataclasses.replace(context(), limits=limits))
    assert found.measurement.passport.ai_cpu_operators == ("a", "b")
    assert found.verdict.status is Status.FAIL
    assert "operators on the AI CPU is 2, must be <= 1" in found.verdict.reason


def test_an_unknown_measurement_has_no_judge(clean, thresholds):
    with pytest.raises(TypeError, match="no judge for Measurement"):
        judge_measurement(Measurement(), thresholds.limits(CELL), 1, 1)


def test_a_subset_is_the_same_everywhere_and_part_of_a_larger_one(clip_set):
    ids = [{clip.id for clip in subset_of_clips(clip_set, n).clips} for n in (3, 9, 15)]
    assert ids[0] < ids[1] < ids[2] < {clip.id for clip in clip_set.clips}
    assert [len(one) for one in ids] == [3, 9, 15]
    shuffled = dataclasses.replace(clip_set, clips=clip_set.clips[::-1])
    assert {clip.id for clip in subset_of_clips(shuffled, 9).clips} == ids[1]
    subset = subset_of_clips(clip_set, 9)
    assert subset.digest == subset_of_clips(shuffled, 9).digest != clip_set.digest
    assert not subset.is_whole
    assert subset_of_clips(clip_set, None) is subset_of_clips(clip_set, 16) is clip_set


def test_a_set_that_is_not_the_contract_s_has_no_subset(context, make_suite, cache, clip_set):
    fewer = dataclasses.replace(clip_set, clips=clip_set.clips[:15])
    whole = context(bench=make_suite(cache, clips=fewer).bench)
    tier = whole.tier.model_copy(update={"clips": {"default": 4}})
    assert dataclasses.replace(whole, tier=tier).clip_set is fewer


def test_what_a_device_can_tell_rests_on_its_precision(context, clean, make_suite, cache):
    assert context().smallest == FLOAT32_SMALLEST_NORMAL
    half = dataclasses.replace(CELL, device="ascend310p")
    assert context(half).smallest == FLOAT16_SMALLEST_NORMAL
    assert checks.floor_of_scores(context()) == np.log(FLOAT32_SMALLEST_NORMAL)


def test_logits_have_no_lowest_score(context, make_suite, cache, narrow_spec):
    logits = dataclasses.replace(narrow_spec, softmax_in_graph=False)
    assert checks.floor_of_scores(context(bench=make_suite(cache, model=logits).bench)) == -np.inf


def test_without_its_own_clips_a_model_is_shown_those_of_motion8(
    context, make_suite, cache, narrow_spec
):
    bench = make_suite(cache, model=narrow_spec).bench

    def missing(name):
        raise MissingInput("kinetics400 is not on this machine")

    bench.clip_set = missing
    timed = checks._timed_clips(context(bench=bench))
    assert timed.clips == motion8().clips[: checks.TIMED_CLIPS]
    assert timed.clip_set == motion8()
    inputs = checks._parity_inputs(context(bench=bench))
    assert inputs.ids[:6] == tuple(clip.id for clip in motion8().clips[:6])


def test_parity_reads_the_clips_that_the_accuracy_run_decoded(context, clean, monkeypatch):
    monkeypatch.setattr("harness.data.loading.decode_frames", None)
    stored = checks._parity_inputs(context())
    monkeypatch.undo()
    bench, count = context().bench, stored.counts.total
    decoded = parity_inputs(context().spec, bench.clip_set(CELL.model), count)
    assert stored.digest == decoded.digest


class Held:
    """Stands in for the lock of a chip and notes who holds it."""

    def __init__(self, monkeypatch):
        self.held, self.seen = [], []
        monkeypatch.setattr("harness.build.workbench.exclusive", self)

    def __call__(self, unit, root, on_wait):
        self.unit = unit
        return self

    def __enter__(self):
        self.held.append(self.unit)

    def __exit__(self, *error):
        self.held.remove(self.unit)


def fake(**options):
    state = DeviceState(Presence.PRESENT, "a double", {"by": "checks"}, ("chip7", "chip8"))
    return FakeDevice(device_spec("cuda"), dict, state=state, **options)


def test_a_chip_is_held_while_a_session_is_open(make_suite, cache, clean, monkeypatch):
    locks, double = Held(monkeypatch), fake()
    bench = make_suite(cache, {"cuda": double}).bench
    session = FakeSession(dict)
    monkeypatch.setattr(double, "open", lambda _: session)
    monkeypatch.setattr(bench, "device_model", lambda cell: None)
    with open_session(dataclasses.replace(CELL, device="cuda"), bench) as opened:
        assert opened is session
        assert locks.held == ["chip7"]
    assert session.is_closed
    assert locks.held == []


def test_a_session_is_closed_and_its_chip_freed_after_an_error(make_suite, cache, monkeypatch):
    locks, double, session = Held(monkeypatch), fake(), FakeSession(dict)
    monkeypatch.setattr(double, "open", lambda _: session)
    bench = make_suite(cache, {"cuda": double}).bench
    monkeypatch.setattr(bench, "device_model", lambda cell: None)
    cuda = dataclasses.replace(CELL, device="cuda")
    with pytest.raises(RuntimeError, match="lost"), open_session(cuda, bench):
        raise RuntimeError("lost")
    assert session.is_closed
    assert locks.held == []


@pytest.fixture
def timed(context, make_suite, cache, clean, in_process, monkeypatch):
    """Return what times a double whose sessions take the milliseconds given, one after another."""
    locks = Held(monkeypatch)

    def run(session_ms, **plan):
        bench = make_suite(cache, {"cuda": fake()}).bench
        times = iter(session_ms)
        counted = []

        def time_session(*arguments):
            assert locks.held == ["chip7"]
            counted.append(arguments)
            return SessionTiming(device_ms=(next(times),) * 4, is_output_same=True)

        monkeypatch.setattr(checks, "time_session", time_session)
        cuda = context(dataclasses.replace(CELL, device="cuda"), bench, **plan)
        return check_throughput(cuda), len(counted)

    return run


@pytest.mark.parametrize(
    ("session_ms", "plan", "status", "sessions"),
    [
        # The floor is 95 clips a second, four of them a query: 42.1 ms.
        ([40.0] * 9, {}, Status.PASS, 2),
        ([45.0] * 9, {}, Status.FAIL, 2),
        ([40.0] * 9, {"sessions_min": 3, "sessions_max": 5}, Status.PASS, 3),
        ([45.0] * 9, {"sessions_min": 3, "sessions_max": 5}, Status.FAIL, 3),
        # Two that straddle the floor ask for more, which decide.
        ([40.0, 42.0, *[40.0] * 8], {"sessions_max": 10}, Status.PASS, None),
        ([38.0, 46.0, 38.0], {}, Status.INCONCLUSIVE, 3),
        # A budget of minutes outlasts the number of sessions.
        ([38.0, 46.0, *[38.0] * 30], {"sessions_max": 3, "budget_minutes": 9.0}, Status.PASS, None),
    ],
)
def test_sessions_are_added_until_they_decide(timed, session_ms, plan, status, sessions):
    found, count = timed(session_ms, **plan)
    assert found.verdict.status is status, found.verdict.reason
    assert found.measurement.session_count == count
    assert sessions in (None, count)
    assert count >= 2
    assert (count > plan.get("sessions_max", 3)) == ("budget_minutes" in plan)
    content, suffix = found.raw["latencies"]
    assert suffix == ".jsonl"
    assert len(content.splitlines()) == count


def test_a_clock_that_stands_still_is_an_invalid_measurement(
    clean, make_suite, cache, in_process, monkeypatch
):
    def time_session(*arguments):
        raise InvalidMeasurement("the clock stands still")

    monkeypatch.setattr(checks, "time_session", time_session)
    record = make_suite(cache, {"cuda": fake()}).check(
        dataclasses.replace(CELL, device="cuda"), "throughput"
    )
    assert record.verdict.status is Status.INVALID
    assert record.verdict.reason == "the clock stands still"
    # What was to be timed is named all the same.
    assert "device_model" in record.subjects
