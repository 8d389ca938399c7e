import contextlib
import dataclasses
import datetime
import hashlib
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from benchmarks.simulated import ENVIRONMENT, SimulatedNight, simulated_run
from harness.contract.thresholds import thresholds_from_file
from harness.errors import HistoryError, RecordError
from harness.nightly import history as history_module
from harness.nightly.history import History
from harness.nightly.schema import APPLICATION_ID, SCHEMA_VERSION
from harness.nightly.seen import stored_digest
from harness.nightly.series import (
    SeriesKey,
    Value,
    facts_of,
    values_from_record,
)
from harness.record.record import RunDirectory
from harness.selftest.bends import bind
from harness.spec import Cell, Status
from tests.made import record as made_record

ROOT = Path(harness.__file__).parent.parent
THRESHOLDS = thresholds_from_file(ROOT / "thresholds.toml")
CELL = Cell("nonlocal_tiny", "cpu", 1)
OTHER = Cell("nonlocal_tiny", "cpu", 4)
HOST = "Simulated-CPU-8cpu"


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "history.sqlite")


@pytest.fixture
def night(tmp_path):
    def write(number, cells=(CELL,), folder="runs", **more):
        return simulated_run(tmp_path / folder, THRESHOLDS, cells, SimulatedNight(number, **more))

    return write


def edit(run, **fields):
    run.write_facts(run.facts().model_copy(update=fields))
    bind(run.root)
    return run


# What it keeps


def test_a_run_makes_the_file_and_its_series(history, night):
    run = night(0, device_facts={"driver": "1.0"}, subjects={"onnx": "a" * 64})
    assert history.append(run).is_new
    series = history.series("*:processor.x_unoptimised")
    (one,) = series
    metric = "processor.x_unoptimised"
    assert one.key == SeriesKey("nonlocal_tiny", "cpu", 1, "throughput", metric, HOST)
    assert one.key.id == f"nonlocal_tiny-cpu-bs1:throughput:{metric}@{HOST}"
    (point,) = one.points
    golden = THRESHOLDS.limits(CELL).throughput.golden
    assert point.value == pytest.approx(golden)
    assert (point.run_id, point.status) == ("night-0000", Status.PASS)
    assert point.started == "2022-01-01T02:00:00+00:00"
    expected = {"device.driver": "1.0", "digest.onnx": "a" * 64, "tier": "nightly", **ENVIRONMENT}
    assert expected.items() <= point.facts.items()
    assert (point.facts["weights"], point.facts["emulated"]) == ("checkpoint", "no")


def test_nights_come_in_order_whatever_the_order_of_adding(history, night):
    for number in (2, 0, 1):
        history.append(night(number, speed=1.0 + number / 10))
    (one,) = history.series("*processor.x_unoptimised")
    assert [point.run_id for point in one.points] == ["night-0000", "night-0001", "night-0002"]
    assert one.values == sorted(one.values)
    assert [one.run_id for one in history.nights()] == ["night-0000", "night-0001", "night-0002"]


def test_patterns_choose_series_with_or_without_their_host(history, night):
    history.append(night(0, cells=(CELL, OTHER)))
    assert {one.key.cell for one in history.series()} == {CELL, OTHER}
    assert {one.key.batch for one in history.series("*-bs4:*")} == {4}
    assert len(history.series(f"*:device.per_s@{HOST}")) == 2
    assert history.series("resnet*") == []


def test_hosts_chips_and_emulators_do_not_share_a_series(history, night):
    history.append(night(0))
    history.append(night(1, environment={"cpu.usable": "4"}))
    history.append(night(2, device_facts={"chip": "310P3"}))
    history.append(night(3, device_facts={"chip": "310P3"}, is_emulated=True))
    hosts = {one.key.host_class for one in history.series()}
    assert hosts == {
        HOST,
        "Simulated-CPU-4cpu",
        f"{HOST}-310P3",
        f"emulated-{HOST}-310P3",
    }


def test_tiers_do_not_mix_where_one_is_asked_for(history, night):
    history.append(night(0))
    history.append(night(1, tier="smoke"))
    (one,) = history.series("*device.per_s", tier="nightly")
    assert [point.run_id for point in one.points] == ["night-0000"]
    assert len(history.series("*device.per_s")[0].points) == 2
    assert [one.tier for one in history.nights("smoke")] == ["smoke"]


def test_a_measurement_that_does_not_count_is_no_point(history, night):
    run = night(0)
    path = run.root / "records.jsonl"
    record = json.loads(path.read_text())
    record["verdict"] = {"status": "invalid", "reason": "throttled"}
    path.write_text(json.dumps(record) + "\n")
    bind(run.root)
    history.append(run)
    assert history.series() == []
    assert len(history.nights()) == 1


def test_the_file_holds_all_that_was_recorded(history, night):
    now = datetime.datetime(2022, 1, 3, 4, 5, 6, 789, tzinfo=datetime.UTC)
    runs = [
        night(number, device_facts={"chip": "310P3"}, subjects={"onnx": "a"}) for number in (0, 1)
    ]
    for run in runs:
        history.append(run, now)
    rows, added = rows_of(history.path), ("2022-01-03T04:05:06+00:00", "simulated", "")
    assert rows["runs"] == [
        (run.id, stored_digest(run), "nightly", f"2022-01-0{day}T02:00:00+00:00", *added)
        for day, run in enumerate(runs, start=1)
    ]
    # Both nights have the same facts, which are kept once.
    text = json.dumps(facts_of(runs[0].records()[0], ENVIRONMENT), sort_keys=True)
    assert rows["facts"] == [(1, hashlib.sha256(text.encode()).hexdigest(), text)]
    reason, cell = runs[0].records()[0].verdict.reason, ("nonlocal_tiny", "cpu", 1, "throughput")
    assert rows["checks"] == [
        (number, run.id, *cell, f"{HOST}-310P3", "pass", reason, "checkpoint", 0, 1)
        for number, run in enumerate(runs, start=1)
    ]
    assert sorted(rows["metrics"]) == sorted(
        (number, *dataclasses.astuple(value))
        for number, run in enumerate(runs, start=1)
        for value in values_from_record(run.records()[0])
    )


def rows_of(path):
    with contextlib.closing(sqlite3.connect(path)) as file:
        tables = ("runs", "facts", "checks", "metrics")
        return {name: file.execute(f"SELECT * FROM {name}").fetchall() for name in tables}


def test_series_come_by_name_and_runs_of_one_moment_by_theirs(history, night):
    for number in (1, 0):
        history.append(edit(night(number, cells=(OTHER, CELL)), started="2022-01-01T02:00:00Z"))
    series = history.series()
    assert [one.key for one in series] == sorted(one.key for one in series)
    assert [point.run_id for point in series[0].points] == ["night-0000", "night-0001"]
    assert [one.run_id for one in history.nights()] == ["night-0000", "night-0001"]


# Added once


def test_a_second_time_changes_nothing(history, night):
    run = night(0)
    assert history.append(run).is_new
    content = history.path.read_bytes()
    assert not history.append(run).is_new
    assert history.path.read_bytes() == content


def test_two_runs_with_one_id_are_told(history, night):
    history.append(night(0))
    with pytest.raises(
        HistoryError,
        match=r"has a run night-0000 already, with another content .*; nothing was changed$",
    ):
        history.append(night(0, folder="others", speed=2.0))
    assert len(history.series("*device.per_s")[0].points) == 1


def test_a_run_that_is_not_over_is_refused(history, night):
    with pytest.raises(
        HistoryError, match=r"takes no run that is not over: night-0000 .* stays a missing night$"
    ):
        history.append(edit(night(0), is_over=False))
    assert not history.path.exists()


# Clocks


def test_a_run_from_the_future_is_refused(history, night):
    now = datetime.datetime(2022, 1, 1, 1, 0, tzinfo=datetime.UTC)
    with pytest.raises(HistoryError, match="in the future of this clock"):
        history.append(night(0), now)
    assert history.append(night(0, folder="b"), now + datetime.timedelta(hours=1)).is_new


def test_the_clocks_of_hosts_may_differ_by_ten_minutes(history, night):
    now = datetime.datetime(2022, 1, 1, 1, 50, tzinfo=datetime.UTC)
    with pytest.raises(HistoryError, match=r"^.*: run night-0000 .* run again$"):
        history.append(night(0), now - datetime.timedelta(seconds=1))
    assert history.append(night(0, folder="b"), now).is_new


def test_a_clock_that_went_backwards_between_runs_is_said(history, night):
    assert history.append(night(5)).note == ""
    same = edit(night(7), started=night(5, folder="b").facts().started)
    assert history.append(same).note == ""
    found = history.append(night(4))
    history.append(night(6))
    assert re.fullmatch(
        r"started before night-000[57], which simulated added first: .*, or the clock went backwards; "
        r"the series are in the order of the starts",
        found.note,
    )
    assert "started before night-0006, which" in history.append(night(2)).note
    assert history.append(night(4, folder="again")).note == found.note
    other = night(3, environment={"host": "elsewhere"})
    assert history.append(other).note == ""


def test_a_clock_that_went_backwards_during_a_run_is_said(history, night):
    run = edit(night(0), started="2022-01-01T09:00:00+00:00")
    assert re.fullmatch(
        r"the clock went backwards during the run: nonlocal_tiny-cpu-bs1:throughput started before .*",
        history.append(run).note,
    )
    assert "backwards during the run" in history.nights()[0].note


@pytest.mark.parametrize(
    ("started", "words"), [("yesterday", "not an ISO 8601 time"), ("2022-01-01", "no time zone")]
)
def test_a_start_that_is_no_time_is_refused(history, night, started, words):
    with pytest.raises(HistoryError, match=words):
        history.append(edit(night(0), started=started))


def test_time_zones_are_one_time(history, night):
    history.append(edit(night(0), started="2022-01-01T03:00:00+02:00"))
    assert history.nights()[0].started == "2022-01-01T01:00:00+00:00"


# Values that are not numbers


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(history, night, monkeypatch, bad):
    run = night(0)
    monkeypatch.setattr(
        history_module, "values_from_record", lambda record: [Value("device.per_s", bad)]
    )
    with pytest.raises(HistoryError, match=r"takes no nonlocal_tiny-cpu-bs1:throughput with dev"):
        history.append(run)
    assert not history.path.exists()


def test_an_error_may_be_zero_and_not_less(monkeypatch):
    def checked(value):
        monkeypatch.setattr(
            history_module, "values_from_record", lambda record: [Value("x", value)]
        )
        return history_module._checked(made_record("parity"), Path("h"))

    assert checked(0.0) == [Value("x", 0.0)]
    for bad in (-1e-9, math.inf, math.nan):
        with pytest.raises(
            HistoryError, match=r"^h takes no .*:parity with x = .*: harness judge$"
        ):
            checked(bad)


@pytest.mark.parametrize("bad", ["NaN", "0.0", "-3.0"])
def test_a_record_with_a_time_that_is_none_is_refused(history, night, bad):
    run = night(0)
    path = run.root / "records.jsonl"
    record = json.loads(path.read_text())
    record["measurement"]["device"]["per_s"]["mean"] = "@"
    path.write_text(json.dumps(record).replace('"@"', bad) + "\n")
    bind(run.root)
    with pytest.raises(RecordError):
        history.append(run)
    assert not history.path.exists()


def test_a_record_of_another_schema_is_refused(history, night):
    run = night(0)
    path = run.root / "records.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}) + "\n")
    with pytest.raises(RecordError, match="schema version 2, this harness reads 1"):
        history.append(run)


def test_a_run_that_comes_back_under_another_name_is_refused(history, night):
    """Whoever renames a run, dates it anew and binds its records again has its numbers still."""
    run = night(0)
    history.append(run)
    facts = run.facts().model_copy(update={"run_id": "tonight", "nonce": ""})
    raw = {name: run.read(run.records()[0], name) for name in run.records()[0].raw}
    records = run.records()
    run.write_facts(facts)
    (run.root / "records.jsonl").write_text("")
    kept = {name: run.keep(content, ".jsonl") for name, content in raw.items()}
    for record in records:
        run.append(record.model_copy(update={"run_id": "tonight", "raw": kept, "binding": ""}))
    with pytest.raises(HistoryError, match="of run tonight already, as run night-0000"):
        history.append(run)
    assert len(history.nights()) == 1


def test_the_file_itself_takes_no_infinite_value(history, night):
    history.append(night(0))
    file = sqlite3.connect(history.path)
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        file.execute("UPDATE metrics SET value = 9e999")
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        file.execute("UPDATE metrics SET value = ?", (float("nan"),))
    file.close()


# Files that are not a history


def use(history):
    history.series()


def test_a_missing_history_is_named(history):
    with pytest.raises(HistoryError, match=r"there is no history .*history add"):
        use(history)
    assert not history.path.exists()


def test_an_empty_file_is_no_history_but_may_become_one(history, night):
    history.path.touch()
    with pytest.raises(HistoryError, match="something else, or empty"):
        use(history)
    assert history.append(night(0)).is_new


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"x" * 5000])
def test_a_corrupt_file_is_named_and_kept(history, night, content):
    history.path.write_bytes(content)
    for act in (use, lambda history: history.append(night(0, folder=os.urandom(4).hex()))):
        with pytest.raises(HistoryError, match=r"cannot be used: .*move it away"):
            act(history)
    assert history.path.read_bytes() == content


def test_a_damaged_page_is_found(history, night):
    for number in range(30):
        history.append(night(number))
    content = bytearray(history.path.read_bytes())
    content[4096 + 40 : 4096 * 4] = b"\xaa" * (4096 * 3 - 40)
    history.path.write_bytes(content)
    with pytest.raises(HistoryError, match="cannot be used"):
        use(history)


def test_a_schema_that_is_not_utf_8_is_found(history, night):
    history.append(night(0))
    content = history.path.read_bytes()
    # SQLite complains of the statement, and gives the name.
    damaged = content.replace(b"tableruns", b"tabler\xa3ns", 1)
    damaged = damaged.replace(b"CREATE TABLE runs", b"CREATE TABEL runs", 1)
    history.path.write_bytes(damaged)
    with pytest.raises(UnicodeDecodeError):
        sqlite3.connect(history.path).execute("SELECT count(*) FROM sqlite_master")
    with pytest.raises(HistoryError, match=r"cannot be used: .*move it away"):
        use(history)


def test_a_truncated_file_is_found(history, night):
    history.append(night(0))
    history.path.write_bytes(history.path.read_bytes()[:6000])
    with pytest.raises(HistoryError, match="cannot be used"):
        use(history)


def test_a_database_of_something_else_is_refused(history, night):
    file = sqlite3.connect(history.path)
    file.execute("CREATE TABLE coverage (line INTEGER)")
    file.commit()
    file.close()
    content = history.path.read_bytes()
    with pytest.raises(HistoryError, match=r"a database of something else, .* name another file$"):
        use(history)
    with pytest.raises(HistoryError, match=r"a database of something else, .* name another file$"):
        history.append(night(0))
    assert history.path.read_bytes() == content


def test_another_schema_is_refused(history, night):
    history.append(night(0))
    file = sqlite3.connect(history.path)
    assert file.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert file.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    file.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    file.close()
    with pytest.raises(
        HistoryError, match=r"schema version 2, this harness reads 1: use .* to a new file$"
    ):
        use(history)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ("UPDATE facts SET json = '[1]'", r"is damaged: the facts '\[1\]' are not an object"),
        ("UPDATE checks SET status = 'fine'", "is damaged: .*fine"),
    ],
)
def test_an_edited_row_is_damage_by_name(history, night, edit, words):
    history.append(night(0))
    with contextlib.closing(sqlite3.connect(history.path)) as file:
        file.execute(edit)
        file.commit()
    with pytest.raises(HistoryError, match=words):
        use(history)


def test_a_folder_in_place_of_the_file_is_named(history, night):
    history.path.mkdir()
    with pytest.raises(HistoryError, match=r"there is no history .*add` makes one$"):
        use(history)
    with pytest.raises(HistoryError, match=r"is not a plain file; name another one$"):
        history.append(night(0))


def test_a_folder_that_is_not_there_is_named(tmp_path, night):
    with pytest.raises(HistoryError, match="unable to open"):
        History(tmp_path / "nowhere" / "h.sqlite").append(night(0))


# Many writers, and one that dies

WRITER = """
import sys
from pathlib import Path
from harness.nightly.history import History
from harness.record.record import RunDirectory
for name in sys.argv[2:]:
    History(Path(sys.argv[1])).append(RunDirectory(Path(name)))
"""


def test_writers_at_the_same_time_lose_nothing(history, night):
    runs = [night(number) for number in range(24)]
    groups = [[str(run.root) for run in runs[first::4]] for first in range(4)]
    command = [sys.executable, "-c", WRITER, str(history.path)]
    writers = [
        subprocess.Popen([*command, *group, str(runs[0].root)], cwd=ROOT) for group in groups
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0, 0]
    assert len(history.nights()) == 24
    assert len(history.series("*device.per_s")[0].points) == 24


# A cache of one page, so that the file is written to before the end of the transaction.
DYING = """
import os, signal, sys
from pathlib import Path
from harness.nightly import history
from harness.nightly.history import History
from harness.record.record import RunDirectory
insert, count = history._insert, 0

def dying(file, *arguments):
    global count
    file.execute("PRAGMA cache_size = 1")
    insert(file, *arguments)
    count += 1
    if count == 3:
        file.execute("CREATE TABLE filler (x TEXT)")
        file.execute("INSERT INTO filler VALUES (?)", ("x" * 100_000,))
        os.kill(os.getpid(), signal.SIGKILL)

history._insert = dying
History(Path(sys.argv[1])).append(RunDirectory(Path(sys.argv[2])))
"""


def test_a_kill_in_mid_write_leaves_the_nights_before(history, night):
    history.append(night(0))
    cells = [cell for cell in THRESHOLDS.cells() if cell.device == "cpu"]
    run = night(1, cells=cells)
    command = [sys.executable, "-c", DYING, str(history.path), str(run.root)]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert Path(f"{history.path}-journal").exists(), "nothing was written before the kill"
    assert [one.run_id for one in history.nights()] == ["night-0000"]
    assert history.append(RunDirectory(run.root)).is_new
    assert [one.run_id for one in history.nights()] == ["night-0000", "night-0001"]


def test_a_host_of_a_farm_has_its_own_series_and_versions(history, night):
    run = night(0)
    there = {"cpu.model": "Far CPU", "cpu.usable": "64", "host": "second", "package.torch": "9.9"}
    lines = [record.model_copy(update={"host_facts": there}) for record in run.records()]
    (run.root / "records.jsonl").write_text("".join(map(run.line, lines)))
    history.append(run)
    (series, *_) = history.series()
    assert series.key.host_class == "Far-CPU-64cpu"
    facts = series.points[0].facts
    assert (facts["host"], facts["package.torch"]) == ("second", "9.9")
