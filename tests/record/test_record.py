import json
from pathlib import Path

import pydantic
import pytest

from harness.contract.thresholds import thresholds_from_file
from harness.errors import RecordError
from harness.judge.verdict import Finding, Verdict
from harness.measure.export import ExportMeasurement
from harness.record.begun import begun_run, run_folder
from harness.record.record import (
    Record,
    RunFacts,
    StageRecord,
    new_run_directory,
)
from harness.spec import Cell, Status
from tests.limited import full_disk

ROOT = Path(__file__).parents[2]
MET = Finding(name="problems", measured=0.0, limit=0.0, comparison="<=", unit="", is_met=True)
MEASURED = ExportMeasurement(
    problems=(),
    ops_checked=3,
    opset=11,
    op_counts={"Conv": 3},
    inputs=(),
    outputs=(),
    onnx_bytes=10,
)


def record(check="export", status=Status.PASS, **more):
    is_green = status is Status.PASS
    verdict = Verdict(status=status, reason="seen", findings=(MET,) if is_green else ())
    fields = {
        "run_id": "r1",
        "tier": "smoke",
        "model": "nonlocal_tiny",
        "device": "cpu",
        "batch": 1,
        "check": check,
        "verdict": verdict,
        "measurement": MEASURED if is_green else None,
        "is_device_present": True,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 0.5,
    }
    return Record.model_validate(fields | more)


def facts(**more):
    fields = {
        "run_id": "r1",
        "tier": "smoke",
        "started": "2026-01-01T00:00:00+00:00",
        "command": ("pytest",),
        "thresholds_digest": "d" * 64,
        "environment": {"os": "any"},
        "required": ("a", "b"),
    }
    return RunFacts.model_validate(fields | more)


@pytest.fixture
def run(tmp_path):
    found = new_run_directory(tmp_path / "r1")
    found.write_facts(facts())
    return found


def test_a_record_survives_json():
    stage = StageRecord(name="export", seconds=1.5, peak_bytes=10, was_cached=False)
    whole = record(
        stages=(stage,),
        subjects={"onnx": "e" * 64},
        raw={"scores": "f" * 64},
        weights="seeded",
        signoff_blockers=("seeded weights",),
    )
    assert Record.from_json(whole.model_dump_json()) == whole
    assert whole.cell == Cell("nonlocal_tiny", "cpu", 1)
    assert whole.id == "nonlocal_tiny-cpu-bs1:export"


def test_what_was_measured_comes_back_as_its_own_type():
    assert Record.from_json(record().model_dump_json()).measurement == MEASURED
    assert record(status=Status.NOT_RUN).measurement is None


def test_a_measurement_of_another_check_is_refused():
    with pytest.raises(pydantic.ValidationError, match="a measurement of export in a parity check"):
        record("parity")


@pytest.mark.parametrize("missing", [{"measurement": None}, {"is_device_present": False}])
def test_a_pass_that_nobody_saw_is_no_record(missing):
    with pytest.raises(pydantic.ValidationError, match="a pass needs a measurement"):
        record(**missing)


@pytest.mark.parametrize("check", ["exports", ""])
def test_an_unknown_check_is_no_record(check):
    with pytest.raises(pydantic.ValidationError):
        record(check)


def test_records_are_appended_one_line_each(run):
    written = [record(), record("parity", Status.FAIL), record("accuracy", Status.NOT_RUN)]
    for one in written:
        run.append(one)
    lines = (run.root / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["check"] for line in lines] == ["export", "parity", "accuracy"]
    assert run.records() == written


def test_a_reason_of_several_lines_stays_one_line(run):
    verdict = Verdict(status=Status.ERROR, reason="first\nsecond\u2028third\r\nfourth")
    run.append(record(status=Status.ERROR, verdict=verdict))
    run.append(record("parity", Status.FAIL))
    assert [one.verdict.reason for one in run.records()] == [verdict.reason, "seen"]


def test_a_run_without_records_has_none(run):
    assert run.records() == []


def test_a_truncated_line_is_named(run):
    run.append(record())
    path = run.root / "records.jsonl"
    path.write_text(path.read_text() + record().model_dump_json()[:40])
    with pytest.raises(RecordError, match=r"line 2 is truncated or damaged.*remove that line"):
        run.records()


@pytest.mark.parametrize("line", ["[]", "3", "", "{"])
def test_a_line_that_is_no_record_is_named(run, line):
    (run.root / "records.jsonl").write_text(line + "\n")
    with pytest.raises(RecordError, match="line 1 is truncated or damaged"):
        run.records()


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_schema_is_refused(run, version):
    line = {**json.loads(record().model_dump_json()), "schema_version": version}
    (run.root / "records.jsonl").write_text(json.dumps(line))
    with pytest.raises(RecordError, match=f"has schema version {version}, this harness reads 1"):
        run.records()


def test_an_unknown_field_is_refused(run):
    line = {**json.loads(record().model_dump_json()), "colour": "green"}
    (run.root / "records.jsonl").write_text(json.dumps(line))
    with pytest.raises(RecordError, match=r"line 1 is not a valid Record(.|\n)*colour"):
        run.records()


def test_an_edited_outcome_is_no_pass(run):
    line = json.loads(record(status=Status.FAIL).model_dump_json())
    line["verdict"]["status"] = "pass"
    (run.root / "records.jsonl").write_text(json.dumps(line))
    with pytest.raises(RecordError, match="a pass needs findings"):
        run.records()


def test_a_check_that_stands_twice_is_refused(run):
    run.append(record(status=Status.FAIL))
    run.append(record())
    with pytest.raises(RecordError, match=r"line 2: nonlocal_tiny-cpu-bs1:export is there twice"):
        run.records()


def test_a_record_of_another_run_is_refused(run):
    run.append(record(run_id="yesterday"))
    with pytest.raises(RecordError, match="bs1:export is of run yesterday, not r1"):
        run.records()


def test_raw_files_are_kept_by_digest(run):
    digest = run.keep(b"times", ".jsonl")
    assert run.keep(b"times", ".jsonl") == digest
    assert [path.name for path in (run.root / "raw").iterdir()] == [f"{digest}.jsonl"]
    run.append(record(raw={"latencies": digest}))
    assert run.records()[0].raw == {"latencies": digest}


def test_a_missing_raw_file_is_named(run):
    run.append(record(raw={"latencies": "0" * 64}))
    with pytest.raises(RecordError, match=r"raw latencies: raw file 0+ is missing"):
        run.records()


def test_a_changed_raw_file_is_named(run):
    digest = run.keep(b"times", ".jsonl")
    run.append(record(raw={"latencies": digest}))
    (run.root / "raw" / f"{digest}.jsonl").write_bytes(b"better times")
    with pytest.raises(RecordError, match="changed since the run"):
        run.records()


def test_a_changed_file_beside_the_right_one_is_named(run):
    digest = run.keep(b"times", ".jsonl")
    run.append(record(raw={"latencies": digest}))
    for suffix in (".bin", ".npz"):
        (run.root / "raw" / f"{digest}{suffix}").write_bytes(b"other times")
    with pytest.raises(RecordError, match="changed since the run"):
        run.records()


def test_facts_come_back_and_are_replaced(run):
    assert run.facts() == facts()
    run.write_facts(facts(tier="nightly"))
    assert run.facts().tier == "nightly"
    assert [path.name for path in run.root.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "late",
    [
        {"is_over": False, "closing": ""},
        {"excused": ["a"]},
        {"broken": {}},
        {"environment_after": {}},
        {"closing": ""},
        {"closing": "0" * 64},
    ],
)
def test_what_a_run_learns_at_its_end_is_bound_to_it(tmp_path, late):
    held = new_run_directory(tmp_path / "r")
    held.write_facts(facts(run_id="r", binds_its_end=True))
    for batch in (1, 4):
        held.append(record(run_id="r", batch=batch))
    held.close(
        held.facts().model_copy(
            update={"is_over": True, "broken": {"t": "x"}, "environment_after": {"host": "h"}}
        )
    )
    assert len(held.records()) == 2
    stored = json.loads((held.root / "run.json").read_text())
    (held.root / "run.json").write_text(json.dumps(stored | late))
    if late.get("is_over") is False:
        # A run that was stopped binds no end, and is never green.
        assert held.facts().faults
    else:
        with pytest.raises(RecordError, match="are not bound to each other"):
            held.records()


def test_a_record_that_is_taken_away_is_missed(tmp_path):
    held = new_run_directory(tmp_path / "r")
    held.write_facts(facts(run_id="r", binds_its_end=True))
    for batch in (1, 4):
        held.append(record(run_id="r", batch=batch))
    held.close(held.facts().model_copy(update={"is_over": True}))
    lines = (held.root / "records.jsonl").read_text().splitlines(keepends=True)
    (held.root / "records.jsonl").write_text(lines[0])
    with pytest.raises(RecordError, match="are not bound to each other"):
        held.records()


def test_excused_checks_need_not_pass():
    assert facts(excused=("b",)).must_pass == ("a",)
    assert facts().must_pass == ("a", "b")


def test_a_run_that_did_not_end_is_held_against_it():
    assert facts(broken={"t": "x"}).faults == {
        "t": "x",
        "(run)": "it was stopped or broke before it finished",
    }
    assert facts(broken={"t": "x"}, is_over=True).faults == {"t": "x"}


def test_a_folder_without_a_run_is_named(tmp_path):
    held = new_run_directory(tmp_path / "r")
    with pytest.raises(RecordError, match=r"run\.json cannot be read.*is it a run folder\?"):
        held.facts()
    with pytest.raises(RecordError, match="is it a run folder"):
        held.records()


def test_damaged_facts_are_named(run):
    (run.root / "run.json").write_text("{}")
    with pytest.raises(RecordError, match=r"run\.json is not a valid RunFacts"):
        run.facts()


@pytest.mark.parametrize("name", ["run.json", "records.jsonl"])
def test_a_folder_that_holds_a_run_is_refused(tmp_path, name):
    (tmp_path / name).write_text("kept")
    with pytest.raises(RecordError, match="holds a run already; name another folder"):
        new_run_directory(tmp_path)
    assert (tmp_path / name).read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="file is a file, not a folder"):
        new_run_directory(tmp_path / "file")
    with pytest.raises(RecordError, match=r"cannot make the run folder .*file/r: Not a directory"):
        new_run_directory(tmp_path / "file" / "r")


def test_a_run_is_named_by_its_time_and_never_the_same_twice(tmp_path):
    first, second = run_folder(tmp_path), run_folder(tmp_path)
    assert first != second
    assert first.parent == second.parent == tmp_path.resolve()
    assert run_folder(tmp_path, tmp_path / "mine" / ".." / "own") == tmp_path.resolve() / "own"


@pytest.mark.parametrize("room_bytes", [0, 100])
def test_a_full_disk_loses_no_record_that_was_kept(run, room_bytes):
    first, second = record(), record(batch=4)
    run.append(first)
    path = run.root / "records.jsonl"
    size = path.stat().st_size
    with (
        full_disk(size + room_bytes),
        pytest.raises(RecordError, match="File too large; make room"),
    ):
        run.append(second)
    assert path.stat().st_size == size
    run.append(second)
    assert [one.batch for one in run.records()] == [1, 4]


@pytest.mark.parametrize(("room_bytes", "file"), [(100, "thresholds.toml"), (40_000, "run.json")])
def test_a_start_on_a_full_disk_leaves_a_folder_that_the_next_start_may_take(
    tmp_path, room_bytes, file
):
    thresholds = thresholds_from_file(ROOT / "thresholds.toml")
    required = tuple(f"a-cpu-bs{number}:export" for number in range(2000))
    with full_disk(room_bytes), pytest.raises(RecordError, match=rf"{file} cannot be written: "):
        begun_run(tmp_path / "run", thresholds, "nightly", required)
    assert list((tmp_path / "run").iterdir()) == []
    run = begun_run(tmp_path / "run", thresholds, "nightly", required)
    assert (run.records(), run.facts().required) == ([], required)


def test_a_full_disk_leaves_no_part_of_a_raw_file_and_the_facts_as_they_were(run):
    with full_disk(10):
        with pytest.raises(RecordError, match="File too large; make room"):
            run.keep(b"a thousand numbers", ".npz")
        with pytest.raises(RecordError, match=r"run\.json cannot be written"):
            run.write_facts(facts(tier="nightly"))
    assert list((run.root / "raw").iterdir()) == []
    assert run.facts() == facts()
