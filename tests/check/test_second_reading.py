"""Clips of a user's own set, which mmaction2 reads as well."""

import dataclasses
import re

import numpy as np
import pytest

from harness.build import input_check
from harness.check.second_reading import second_reading
from harness.clips import Clip
from harness.data import loading
from harness.data.datasets import motion8
from harness.errors import InvalidMeasurement, MissingInput
from harness.registry import model_spec

MODEL = "nonlocal_tiny"


@pytest.fixture
def bench_of(make_suite, clip_set, tmp_path, in_process):
    """Return what makes a bench of an embedded model on a set that has no known answers."""

    def make(clips=clip_set):
        return make_suite(tmp_path / "cache", model=model_spec(MODEL), clips=clips).bench

    return make


def named(text):
    return re.findall(r"clips/\d+", text)


def test_some_clips_are_read_by_mmaction2_as_the_seed_says(bench_of, clip_set):
    bench = bench_of()
    text = second_reading(bench, MODEL, clip_set.clips, "one")
    assert re.fullmatch(r"motion8 (clips/\d+(, )?){3}: mmaction2 0.24.1 on this machine", text)
    assert second_reading(bench, MODEL, clip_set.clips, "one") == text
    others = {tuple(named(second_reading(bench, MODEL, clip_set.clips, s))) for s in "abc"}
    assert len(others) == 3


def test_a_fault_on_clips_without_known_answers_is_found(bench_of, clip_set, monkeypatch):
    decode = loading.decode_frames
    monkeypatch.setattr(
        "harness.data.loading.decode_frames",
        lambda path, choose: [frame + np.uint8(1) for frame in decode(path, choose)],
    )
    with pytest.raises(
        InvalidMeasurement, match=r"decode: .* by \+1 on average .* on this machine"
    ):
        second_reading(bench_of(), MODEL, clip_set.clips, "one")


def test_clips_that_cannot_be_read_are_counted_elsewhere(bench_of, clip_set, tmp_path):
    broken = [Clip(f"broken{number}", tmp_path / "none.mp4", 0) for number in range(4)]
    clips = dataclasses.replace(clip_set, clips=(*broken, clip_set.clips[0]))
    assert named(second_reading(bench_of(clips), MODEL, clips.clips, "one")) == ["clips/0000"]
    assert second_reading(bench_of(clips), MODEL, broken, "one") == ""


def test_without_mmaction2_that_is_said(bench_of, clip_set, monkeypatch):
    def absent(*_):
        raise MissingInput("mmaction2 cannot be imported: no module")

    monkeypatch.setattr(input_check, "write_mmaction_inputs", absent)
    text = second_reading(bench_of(), MODEL, clip_set.clips, "one")
    assert text == "motion8 is not read a second time: mmaction2 cannot be imported: no module"


def test_the_shipped_set_has_known_answers(bench_of):
    assert second_reading(bench_of(motion8()), MODEL, motion8().clips, "one") == ""
