"""Clips that no host with a chip can read: another one decodes them, and the records are those of one machine."""

import dataclasses
import io

import numpy as np
import pytest

from harness.decide.rejudge import judged_today
from harness.errors import MissingInput, RunError
from harness.farm import host, reader
from harness.farm.calls import PYTORCH, Placement
from harness.measure.strips import Strips
from harness.record.npz import npz_from_predictions, predictions_from_npz
from harness.record.stints import stints_of
from harness.spec import Cell, Status
from tests.farm.local import facts, hosts_of

CELL = Cell("nonlocal_tiny", "cpu", 4)
HOSTS = {
    "n1": facts("first", (), cpu=(1, {})),
    "n2": facts("second", (), cpu=(1, {})),
    "n3": facts("reader"),
}


def predictions(run, record, what):
    return predictions_from_npz(io.BytesIO(run.read(record, what)))


def shards_of(suite, record, name):
    return [stint.part for stint in stints_of(record, suite.run) if stint.host == name]


def test_clips_come_from_the_host_that_can_read_them(farm, clean):
    one_machine, expected = clean
    suite, benches = farm(HOSTS)
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    for what in ("predictions", "reference"):
        sent = predictions(suite.run, record, what)
        alone = predictions(one_machine.run, expected["accuracy"], what)
        assert sent.clip_ids == alone.clip_ids
        assert sent.scores.tobytes() == alone.scores.tobytes(), what
    assert record.subjects["clips"] == expected["accuracy"].subjects["clips"]
    calls = set(suite.cluster.calls)
    assert {node for name, node in calls if name in {"list_clips", "decode"}} == {"n3"}
    assert {node for name, node in calls if name in {"predict", "refer"}} == {"n1", "n2"}
    # The record says who decoded which clips.
    parts = [f"shard {number} of 4" for number in (1, 2, 3, 4)]
    assert sorted(filter(None, shards_of(suite, record, "reader"))) == sorted(2 * parts)
    # Crops do not stay where they were sent.
    caches = [benches[name].site.cache_dir for name in ("first", "second")]
    assert [list((cache / "crops").iterdir()) for cache in caches] == [[], []]


def test_nothing_crosses_where_a_host_with_a_chip_can_read(farm):
    suite, _ = farm({**HOSTS, "n2": facts("third", cpu=(1, {}))})
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert {node for name, node in suite.cluster.calls if name in {"predict", "refer"}} == {"n2"}
    assert "n3" not in {node for _, node in suite.cluster.calls}


def test_a_data_set_that_no_host_can_read_is_named_with_the_hosts_and_the_key(farm):
    suite, _ = farm({**HOSTS, "n3": facts("reader", ("kinetics400",))})
    verdict = suite.check(CELL, "accuracy").verdict
    assert verdict.status is Status.NOT_RUN
    assert "can read data set motion8 (hosts: first, reader, second)" in verdict.reason
    assert "in [datasets.motion8] in the site.toml of a host that has the clips" in verdict.reason


def test_hosts_that_decode_are_alike_and_like_the_chips_if_any_is():
    other = {"cpu": "other"}
    answers = {
        "a": facts("a", (), ascend310p=(1, {})),
        "b": dataclasses.replace(facts("b"), machine=other),
        "c": dataclasses.replace(facts("c"), machine=other),
        "d": facts("d"),
    }
    hosts = hosts_of(answers)
    at, _ = hosts.place("ascend310p")
    decode = {"resources": {PYTORCH: 1.0}, "limit_s": at.limit_s}
    assert hosts.reading(at, "motion8") == (at, Placement(("d",), **decode))
    del answers["d"]
    assert hosts.reading(at, "motion8") == (at, Placement(("b", "c"), **decode))
    with pytest.raises(MissingInput, match="data set kinetics400"):
        hosts.reading(at, "kinetics400")


def test_crops_that_changed_on_their_way_are_not_run(farm, monkeypatch):
    decode = reader.decode

    def bent(*args):
        sent = decode(*args)
        sent.crops[0, 0, 0, 0, 0, 0] ^= 1
        return sent

    monkeypatch.setattr(reader, "decode", bent)
    suite, _ = farm(HOSTS)
    verdict = suite.check(CELL, "accuracy").verdict
    assert verdict.status is Status.INVALID
    assert "reader sent crops that cannot be used: they changed on their way" in verdict.reason


def test_other_pictures_are_run_and_thrown_out_with_the_host_that_sent_them(
    farm, clean, monkeypatch
):
    decode, (one_machine, expected) = reader.decode, clean

    def inverted(*args):
        sent = decode(*args)
        return dataclasses.replace(sent, crops=255 - sent.crops).sealed()

    monkeypatch.setattr(reader, "decode", inverted)
    suite, _ = farm(HOSTS)
    record = suite.check(CELL, "accuracy")
    alone = predictions(one_machine.run, expected["accuracy"], "predictions")
    assert not np.array_equal(predictions(suite.run, record, "predictions").scores, alone.scores)
    suite.run.append(record)
    for without, status in (([], record.verdict.status), (["reader"], Status.INVALID)):
        _, (again, *_), _ = judged_today(suite.run, suite.thresholds, without)
        assert again.verdict.status is status
    assert record.verdict.status is not Status.INVALID
    assert "results of reader were thrown out" in again.verdict.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"subjects": {"decoding": "other"}},
            "reader differs from the first host in its clips, de",
        ),
        ({"host": ""}, "ran crops of a host that does not say its name"),
    ],
)
def test_crops_of_other_clips_or_of_nobody_are_not_mixed_in(farm, monkeypatch, change, reason):
    decode = reader.decode
    monkeypatch.setattr(
        reader, "decode", lambda *args: dataclasses.replace(decode(*args), **change)
    )
    suite, _ = farm(HOSTS)
    verdict = suite.check(CELL, "accuracy").verdict
    assert verdict.status is Status.INVALID
    assert reason in verdict.reason


def test_what_an_earlier_run_had_decoded_names_its_host_too(farm, monkeypatch):
    conclude = host.conclude

    def broken(*args):
        raise RunError("the host is lost")

    monkeypatch.setattr(host, "conclude", broken)
    suite, _ = farm(HOSTS)
    assert suite.check(CELL, "accuracy").verdict.status is Status.ERROR
    monkeypatch.setattr(host, "conclude", conclude)
    suite.cluster.calls.clear()
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert "decode" not in {name for name, _ in suite.cluster.calls}
    assert len(list(filter(None, shards_of(suite, record, "reader")))) == 2 * 4


def test_the_frames_of_clips_that_flip_come_from_the_same_host(farm, monkeypatch):
    predict = host.predict

    def flipped(*args):
        part = predict(*args)
        preds = part.unpacked()
        preds = dataclasses.replace(preds, scores=np.roll(preds.scores, 1, axis=2))
        return dataclasses.replace(part, predictions=npz_from_predictions(preds))

    monkeypatch.setattr(host, "predict", flipped)
    suite, _ = farm(HOSTS)
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.FAIL
    strips = Strips.from_json(suite.run.read(record, "strips")).strips
    assert len(strips) > 1
    assert all(strip.jpeg and not strip.missing for strip in strips)
