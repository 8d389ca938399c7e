import dataclasses
import datetime
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import harness
from benchmarks.simulated import SimulatedNight, simulated_run
from harness.contract.thresholds import thresholds_from_file
from harness.errors import BaselineError
from harness.nightly.baseline import (
    Baseline,
    _refuse_change,
    freeze,
    read_baseline,
    refuse_foreign,
    write_baseline,
)
from harness.nightly.series import SeriesKey
from harness.selftest.bends import bind
from harness.spec import Cell
from tests.made import wide

ROOT = Path(harness.__file__).parent.parent
THRESHOLDS = wide(thresholds_from_file(ROOT / "thresholds.toml"))
CELL, OTHER = Cell("nonlocal_tiny", "cpu", 1), Cell("timesformer_tiny", "cpu", 1)
TODAY = datetime.date(2026, 2, 1)


@pytest.fixture
def night(tmp_path):
    def write(number, cells=(CELL,), folder="runs", **more):
        return simulated_run(tmp_path / folder, THRESHOLDS, cells, SimulatedNight(number, **more))

    return write


def frozen(*runs, cells="*", reviewer="R. Viewer", reason="release 1.0"):
    return freeze(runs, cells, reviewer, reason, TODAY)


def test_a_baseline_says_what_who_and_why(night, tmp_path):
    baseline = frozen(night(0), night(1, speed=1.1))
    write_baseline(baseline, tmp_path / "baseline.json")
    found = read_baseline(tmp_path / "baseline.json")
    assert found == baseline
    assert (found.reviewer, found.reason, found.frozen) == (
        "R. Viewer",
        "release 1.0",
        "2026-02-01",
    )
    assert found.runs == ("night-0000", "night-0001")
    assert found.newest_started == "2022-01-02T02:00:00+00:00"
    assert found.thresholds_digest == THRESHOLDS.digest
    (one,) = (one for one in found.series if one.metric == "processor.x_unoptimised")
    golden = THRESHOLDS.limits(CELL).throughput.golden
    assert one.values == pytest.approx((golden, 1.1 * golden))
    assert found.by_key()[one.key] is one


def test_cells_are_chosen_by_a_pattern(night):
    baseline = frozen(night(0, cells=(CELL, OTHER)), cells="timesformer_*")
    assert {one.model for one in baseline.series} == {"timesformer_tiny"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"speed": 0.1},
            r"not green and makes no baseline: nonlocal_tiny-cpu-bs1:throughput is fa",
        ),
        ({"is_emulated": True}, "nonlocal_tiny-cpu-bs1:throughput was emulated"),
        ({"weights": "seeded"}, "ran with seeded weights.*leave such cells out with --cells"),
    ],
)
def test_only_green_runs_of_a_device_and_a_checkpoint_make_one(night, more, words):
    with pytest.raises(BaselineError, match=words):
        frozen(night(0, **more))


def test_seeded_cells_may_be_left_out(night, tmp_path):
    run = night(0, cells=(CELL, OTHER))
    path = run.root / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["weights"] = "seeded"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bind(run.root)
    with pytest.raises(BaselineError, match="seeded"):
        frozen(run)
    assert {one.model for one in frozen(run, cells="nonlocal_*").series} == {"nonlocal_tiny"}


def test_a_check_that_did_not_have_to_run_keeps_no_other_out(night):
    run = night(0, cells=(CELL, OTHER))
    path = run.root / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0] |= {"measurement": None, "verdict": {"status": "not run", "reason": "no weights"}}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.write_facts(run.facts().model_copy(update={"required": (f"{OTHER.id}:throughput",)}))
    bind(run.root)
    assert {one.model for one in frozen(run).series} == {"timesformer_tiny"}


def test_a_run_that_lacks_a_required_check_makes_none(night):
    run = night(0, cells=(CELL, OTHER))
    path = run.root / "records.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    with pytest.raises(BaselineError, match="timesformer_tiny-cpu-bs1:throughput is not run"):
        frozen(run)


def test_a_run_that_was_stopped_makes_none(night):
    run = night(0)
    run.write_facts(run.facts().model_copy(update={"is_over": False}))
    with pytest.raises(BaselineError, match="it was stopped or broke before it finished"):
        frozen(run)


def test_runs_have_to_belong_together(night):
    run = night(0)
    with pytest.raises(BaselineError, match="of different tiers: nightly, smoke"):
        frozen(run, night(1, tier="smoke"))
    other = night(2)
    other.write_facts(other.facts().model_copy(update={"thresholds_digest": "0" * 64}))
    with pytest.raises(BaselineError, match="of different contracts"):
        frozen(run, other)
    with pytest.raises(BaselineError, match=r"^a run is named twice; each counts once$"):
        frozen(run, run)


def test_runs_across_a_change_of_level_make_none_and_the_night_is_named(night):
    runs = [night(number, speed=1.0 + 0.01 * (number % 3)) for number in range(6)]
    slower = [night(number, speed=0.9 + 0.01 * (number % 3)) for number in range(6, 10)]
    with pytest.raises(
        BaselineError, match=r"level changed .*-10.1 % since 2022-01-07 \(night-0006\)"
    ):
        frozen(*slower, *runs)
    assert len(frozen(*runs).runs) == 6


def test_many_series_share_the_chance_to_refuse_a_freeze():
    facts = [SimpleNamespace(run_id=f"r{n}", started=f"2026-01-{n + 1:02}") for n in range(10)]
    key = SeriesKey("m", "cpu", 1, "throughput", "device.per_s", "epyc")
    noise = [0.009, -0.009, 0.009, -0.009, 0.0]
    step = [level + one for level in (1.0, 0.97) for one in noise]
    with pytest.raises(BaselineError, match=r"level changed .*-3\.0 % since 2026-01-06 \(r5\);"):
        _refuse_change({key: step}, facts)
    steady = {dataclasses.replace(key, batch=n): [1.0] * 10 for n in range(2, 60)}
    _refuse_change({key: step, **steady}, facts)


def test_a_baseline_of_nothing_is_none(night):
    with pytest.raises(BaselineError, match=r"^a baseline is frozen from at least one run$"):
        frozen()
    run = night(0)
    with pytest.raises(BaselineError, match="no check was required, so nothing was shown"):
        frozen(run, cells="resnet*")


@pytest.mark.parametrize("name", ["reviewer", "reason"])
def test_nobody_reviewed_is_not_reviewed(night, name):
    with pytest.raises(BaselineError, match=f"--{name} must say something"):
        frozen(night(0), **{name: "  "})


def test_a_baseline_is_never_replaced(night, tmp_path):
    path = tmp_path / "baseline.json"
    write_baseline(frozen(night(0)), path)
    before = path.read_bytes()
    with pytest.raises(BaselineError, match=r"never replaced: name a new file, .* be reviewed$"):
        write_baseline(frozen(night(1, speed=1.1)), path)
    assert path.read_bytes() == before
    with pytest.raises(BaselineError, match="cannot write"):
        write_baseline(frozen(night(2)), tmp_path / "nowhere" / "b.json")


def test_an_edited_baseline_is_found(night, tmp_path):
    path = tmp_path / "baseline.json"
    write_baseline(frozen(night(0)), path)
    path.write_text(path.read_text().replace("release 1.0", "release 1.1"))
    with pytest.raises(
        BaselineError, match=r"was edited since it was frozen: .* freeze the runs again$"
    ):
        read_baseline(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read as a baseline"),
        ("[]", "cannot be read as a baseline"),
        ('{"schema_version": 2}', "has schema version 2, this harness reads 1"),
        ('{"schema_version": 1, "tier": "nightly"}', "is not a valid Baseline"),
        (None, "cannot be read as a baseline: .*harness baseline freeze"),
    ],
)
def test_what_is_no_baseline_is_named(tmp_path, content, words):
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BaselineError, match=words):
        read_baseline(path)


def test_a_baseline_holds_no_nan(night):
    fields = json.loads(frozen(night(0)).model_dump_json())
    fields["series"][0]["values"] = [float("nan")]
    with pytest.raises(ValueError, match="finite"):
        Baseline.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize(
    ("name", "value"), [("model", "resnet"), ("device", "cuda"), ("host_class", "EPYC-2cpu")]
)
def test_a_baseline_of_something_else_is_refused(night, name, value):
    baseline = frozen(night(0))
    keys = [one.key for one in baseline.series]
    path = Path("b.json")
    refuse_foreign(baseline, "nightly", keys, path)
    others = [dataclasses.replace(key, **{name: value}) for key in keys]
    with pytest.raises(BaselineError, match=f"a baseline of another {name}: .*run has {value}"):
        refuse_foreign(baseline, "nightly", others, path)
    with pytest.raises(BaselineError, match="of tier nightly, this run is of tier release"):
        refuse_foreign(baseline, "release", keys, path)
