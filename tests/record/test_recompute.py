import io
import json

import numpy as np
import pytest

from harness.clips import Predictions
from harness.errors import RecordError
from harness.record.npz import npz_from_predictions, predictions_from_npz
from harness.record.recompute import differences, founded_records, measurement_from_raw
from harness.spec import Status


@pytest.mark.parametrize(
    "argument", [{}, {"parity": 9.0, "accuracy": 60, "throughput": 1.1}], ids=["green", "red"]
)
def test_every_measurement_comes_back_from_its_raw_files(make_run, found, tmp_path, argument):
    run = make_run(tmp_path / "run", {check: found[check](one) for check, one in argument.items()})
    for record in run.records():
        assert measurement_from_raw(record, run) == record.measurement
        is_green = record.check not in argument
        assert (record.verdict.status is Status.PASS) is is_green
    assert founded_records(run) == run.records()


def test_the_divergent_node_is_carried_over(make_run, found, tmp_path):
    measurement, raw = found["parity"](9.0)
    named = measurement.model_copy(update={"first_divergent_node": "/layer/Conv"})
    run = make_run(tmp_path / "run", {"parity": (named, raw)})
    (record,) = [one for one in run.records() if one.check == "parity"]
    assert "/layer/Conv" in record.verdict.reason
    assert measurement_from_raw(record, run) == named
    assert founded_records(run) == run.records()


def test_nothing_measured_cannot_be_recomputed(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    record = run.records()[1]
    nothing = record.model_copy(update={"measurement": None})
    with pytest.raises(RecordError, match="nothing was measured"):
        measurement_from_raw(nothing, run)


def test_raw_files_are_looked_at_before_they_are_used(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    record = next(one for one in run.records() if one.check == "accuracy")
    path = run.root / "raw" / f"{record.raw['reference']}.npz"
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    with pytest.raises(RecordError, match=f"{path.name} changed since the run"):
        measurement_from_raw(record, run)
    path.unlink()
    with pytest.raises(RecordError, match=r"raw reference: raw file .* is missing"):
        measurement_from_raw(record, run)


def test_an_archive_with_other_arrays_is_refused(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    record = next(one for one in run.records() if one.check == "parity")
    path = tmp_path / "other.npz"
    np.savez(path, exact=np.zeros((4, 8)))
    digest = run.keep(path.read_bytes(), ".npz")
    other = record.model_copy(update={"raw": {"scores": digest}})
    with pytest.raises(RecordError, match="raw scores cannot be used"):
        measurement_from_raw(other, run)


def test_a_damaged_line_of_latencies_is_refused(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    record = next(one for one in run.records() if one.check == "throughput")
    digest = run.keep(b'{"device_ms": ["fast"]}', ".jsonl")
    other = record.model_copy(update={"raw": {"latencies": digest}})
    with pytest.raises(RecordError, match="raw latencies is not a valid SessionTiming"):
        measurement_from_raw(other, run)


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ({"a": [1.0, {"b": "x"}]}, []),
        ({"a": [1.0 + 1e-13, {"b": "x"}]}, []),
        ({"a": [1.0001, {"b": "x"}]}, ["v.a[0] is 1.0001, comes to 1.0"]),
        ({"a": [1.0, {"b": "y"}]}, ['v.a[1].b is "y", comes to "x"']),
        ({"a": [1.0]}, ['v.a is [1.0], comes to [1.0, {"b": "x"}]']),
        ({"a": [1.0, {"b": "x"}], "c": True}, ["v.c is true, comes to null"]),
        ({"a": [True, {"b": "x"}]}, ["v.a[0] is true, comes to 1.0"]),
        ({"a": [None, {"b": "x"}]}, ["v.a[0] is null, comes to 1.0"]),
    ],
)
def test_only_rounding_may_differ(theirs, expected):
    assert list(differences({"a": [1.0, {"b": "x"}]}, theirs, "v")) == expected


def test_a_long_difference_is_cut():
    (text,) = differences("x" * 1000, "y" * 1000, "v")
    assert len(text) < 500
    assert json.dumps("y" * 1000)[:100] in text


@pytest.mark.parametrize("averaging", ["prob", "score"])
def test_predictions_keep_how_their_views_are_averaged(averaging):
    preds = Predictions(("a",), np.zeros((1, 2, 3), np.float32), {"b": "gone"}, averaging)
    again = predictions_from_npz(io.BytesIO(npz_from_predictions(preds)))
    assert (again.averaging, again.clip_ids, again.unreadable) == (averaging, ("a",), {"b": "gone"})
