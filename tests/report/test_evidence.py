import pytest

from harness.errors import RecordError
from harness.measure.strips import Strips
from harness.report.evidence import (
    Evidence,
    Mover,
    class_name,
    confused,
    evidence_from_records,
    movers,
)


@pytest.fixture
def cell(release_cells):
    return release_cells[8]


def evidence_of(run, cell):
    return evidence_from_records(run.records(), [run])[cell.id]


def test_every_check_leaves_its_measurement(make_run, cell):
    found = evidence_of(make_run("run", [cell]), cell)
    assert found.export.ops_checked == 458
    assert len(found.parity.edges) == 4
    assert found.accuracy.clip_count == 19_796
    assert found.throughput.session_count == len(found.sessions) == 5
    assert found.strips is None


def test_what_was_not_measured_is_none(make_run, cell):
    plans = {f"{cell.id}:{check}": None for check in ("parity", "accuracy", "throughput")}
    found = evidence_of(make_run("run", [cell], plans), cell)
    assert (found.parity, found.accuracy, found.throughput, found.sessions) == (None,) * 3 + ((),)


def test_strips_are_read_from_the_raw_file(make_run, cell, strips_of):
    strips = strips_of("clip a", "clip b")
    found = evidence_of(make_run("run", [cell], {f"{cell.id}:accuracy": {"strips": strips}}), cell)
    assert found.strips == strips


def test_a_raw_file_that_is_none_is_refused(make_run, cell, strips_of):
    plans = {f"{cell.id}:accuracy": {"strips": strips_of("clip")}}
    run = make_run("run", [cell], plans)
    records = [
        record.model_copy(update={"raw": {"strips": run.keep(b"{}", ".json")}})
        for record in run.records()
        if record.check == "accuracy"
    ]
    with pytest.raises(RecordError, match="is not a valid Strips"):
        evidence_from_records(records, [run])


def test_movers_are_the_classes_that_gain_or_lose(make_run, cell):
    plans = {f"{cell.id}:accuracy": {"lost": 2, "gained": 1, "classes": 8}}
    measured = evidence_of(make_run("run", [cell], plans), cell).accuracy
    found = movers(measured)
    assert [(mover.label, mover.change) for mover in found] == [(0, -1), (1, -1), (2, 1)]
    assert Mover(0, 10, 5, 3).change == -2
    assert movers(measured.model_copy(update={"paired": None})) == ()


def test_the_largest_confusions_come_first(make_run, cell):
    measured = evidence_of(make_run("run", [cell]), cell).accuracy
    entries = ((0, 0, 9), (0, 1, 2), (1, 0, 5), (2, 1, 2))
    measured = measured.model_copy(update={"confusion": entries})
    assert confused(measured, most=2) == ((1, 0, 5), (0, 1, 2))


def test_classes_are_named_with_their_number():
    found = Evidence(class_names=("abseiling", "air drumming"))
    assert class_name(1, found) == "air drumming (1)"
    assert class_name(4, found) == "class 4"
    assert class_name(-1, found) == "no answer or a tie"
    strips = Strips(flip_count=0, class_names={"4": "juggling"}, strips=())
    assert class_name(4, Evidence(strips=strips)) == "juggling (4)"
