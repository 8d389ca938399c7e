"""Faults of what a model is fed, which PyTorch and the device share: each red in a run, by its name."""

import dataclasses
import hashlib
import re
import shutil

import cv2
import numpy as np
import pytest

from harness.build import input_check
from harness.build.input_check import InputCheck, check_known_clips
from harness.data import datasets, loading, transforms
from harness.data.known_inputs import KNOWN_INPUTS, known_clips
from harness.data.store import CropStore
from harness.decide.rejudge import rejudged
from harness.errors import MissingInput
from harness.registry import model_names, model_spec
from harness.spec import CHECKS, Cell, Status

CELL = Cell("nonlocal_tiny", "cpu", 4)
INPUTS = hashlib.sha256(KNOWN_INPUTS.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def made_here(make_suite, tmp_path_factory):
    """The answers that mmaction2 makes where the decoders are others than those of the known ones."""
    root = tmp_path_factory.mktemp("answers")
    for name in ("nonlocal_tiny", "timesformer_tiny"):
        check = check_known_clips(model_spec(name), INPUTS, make_suite(root).bench.workshop)
        assert check.problem is None
    return root / "known-inputs"


@pytest.fixture
def run_of(make_suite, tmp_path, made_here):
    """Return what makes a run of an embedded model by a contract that binds known answers."""
    if made_here.exists():
        shutil.copytree(made_here, tmp_path / "cache" / "known-inputs")

    def make(name="nonlocal_tiny", inputs=INPUTS, model=None):
        suite = make_suite(tmp_path / "cache", model=model or model_spec(name))
        file = suite.thresholds.file.model_copy(update={"inputs": inputs})
        thresholds = dataclasses.replace(suite.thresholds, file=file)
        return dataclasses.replace(suite, thresholds=thresholds)

    return make


def around(name, change):
    """Return the path of a function of the way to a tensor, and what makes a faulty one of it."""
    return f"harness.data.{name}", change


def later(indices):
    return lambda protocol, count: tuple(index + 1 for index in indices(protocol, count))


def decoding_later(decode):
    return lambda path, choose: decode(path, lambda count: [index + 1 for index in choose(count)])


def brighter(decode):
    return lambda path, choose: [frame + np.uint8(1) for frame in decode(path, choose)]


def one_pixel_brighter(decode):
    def faulty(path, choose):
        frames = [frame.copy() for frame in decode(path, choose)]
        frames[3][40, 50, 1] += 1
        return frames

    return faulty


def last_frame_dropped(decode):
    return lambda path, choose: decode(path, choose)[:-1]


def blue_green_red(decode):
    return lambda path, choose: [frame[..., ::-1] for frame in decode(path, choose)]


def two_frames_swapped(decode):
    def faulty(path, choose):
        frames = decode(path, choose)
        return [*frames[:3], frames[4], frames[3], *frames[5:]]

    return faulty


def two_frames_swapped_late(crops_from_frames):
    return lambda frames, protocol: crops_from_frames(frames, protocol)[:, [0, 1, 2, 4, 3, 5, 6, 7]]


def resized_by(method):
    def change(_):
        return lambda frame, size: cv2.resize(frame, size, interpolation=method)

    return change


def one_column_right(corners):
    return lambda size, protocol: [(x + 1, y) for x, y in corners(size, protocol)]


def planes_reversed(tensor_from_crops):
    def faulty(crops, protocol, place=None):
        tensor = tensor_from_crops(crops, protocol, place)
        tensor[:] = tensor[:, ::-1].copy()
        return tensor

    return faulty


DECODE = "loading.decode_frames"
FAULTS = {
    "frames shifted by one": (
        around("loading.frame_indices", later),
        r"indices: frames 3, 7, 12, 16, 21, 25, 30, 34 in place of 2, 6, 11, 15, 20, 24, 29, 33",
    ),
    "decoded one frame later": (around(DECODE, decoding_later), r"decode: \d+ of \d+ values"),
    "one value more": (around(DECODE, brighter), r"decode: \d+ of .* by \+1 on average"),
    "one value of one pixel more": (
        around(DECODE, one_pixel_brighter),
        r"decode: values differ between",
    ),
    "one frame dropped": (around(DECODE, last_frame_dropped), r"decode: the model takes 8.* got 7"),
    "blue, green, red": (around(DECODE, blue_green_red), r"colour: the channels are BGR, not RGB"),
    "two frames swapped": (
        around(DECODE, two_frames_swapped),
        r"order: frame 4 at place 3, 3 at place 4",
    ),
    "two frames of the crops swapped": (
        around("loading.crops_from_frames", two_frames_swapped_late),
        r"order: frame 4 at place 3, 3 at place 4",
    ),
    "nearest in place of bilinear": (
        around("transforms._resized", resized_by(cv2.INTER_NEAREST)),
        r"resize: \d+ of",
    ),
    "cubic in place of bilinear": (
        around("transforms._resized", resized_by(cv2.INTER_CUBIC)),
        r"resize: \d+ of",
    ),
    "crop by one pixel": (
        around("transforms._crop_corners", one_column_right),
        r"crop: the picture lies -1 pixels across and \+0 down",
    ),
    "channels reversed late": (
        around("loading.tensor_from_crops", planes_reversed),
        r"layout: plane 2 at place 0, 0 at place 2",
    ),
}
# nonlocal_tiny takes the shipped clips in their own size.
RESIZING = {name for name in FAULTS if "bilinear" in name}


def assert_invalid(record, reason):
    assert record.verdict.status is Status.INVALID, record.verdict.reason
    assert re.search(reason, record.verdict.reason, re.DOTALL), record.verdict.reason
    assert "inputs" not in record.subjects


def plant(monkeypatch, fault):
    path, change = fault
    module, _, name = path.rpartition(".")
    place = {"loading": loading, "transforms": transforms}[module.rpartition(".")[2]]
    monkeypatch.setattr(path, change(getattr(place, name)))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_pytorch_and_the_device_share_is_invalid_by_name(run_of, monkeypatch, name):
    fault, reason = FAULTS[name]
    plant(monkeypatch, fault)
    suite = run_of("timesformer_tiny" if name in RESIZING else "nonlocal_tiny")
    assert_invalid(suite.check(CELL, "parity"), reason)


NORMALISED = {
    "mean": {"mean": (123.0, 116.28, 103.53)},
    "deviation": {"std": (57.375, 57.12, 58.395)},
}


@pytest.mark.parametrize("name", NORMALISED)
def test_another_normalisation_is_invalid_by_name(run_of, name):
    spec = model_spec("nonlocal_tiny")
    protocol = dataclasses.replace(spec.protocol, **NORMALISED[name])
    suite = run_of(model=dataclasses.replace(spec, protocol=protocol))
    assert_invalid(suite.check(CELL, "parity"), r"normalise: \d+ of")


def test_every_check_of_the_cell_is_invalid_and_nothing_is_built(run_of, monkeypatch):
    plant(monkeypatch, FAULTS["blue, green, red"][0])
    suite = run_of()
    for check in CHECKS:
        assert_invalid(suite.check(CELL, check), "inputs of nonlocal_tiny from clip clips/0011")
    assert not [event for event in suite.bench.workshop.store.events if event.kind == "onnx"]


def test_a_known_clip_whose_decoder_hangs_is_an_error_by_name(run_of, monkeypatch, released):
    monkeypatch.setattr("harness.data.loading.decode_frames", lambda *_: released.wait())
    monkeypatch.setattr("harness.host.patience.HANG_S", 3.0)
    verdict = run_of().check(CELL, "export").verdict
    assert verdict.status is Status.ERROR
    assert re.match(r"decode: reading clip .*/0011\.mp4 did not return within 3 s", verdict.reason)


def test_a_store_that_does_not_hold_its_clips_is_invalid(run_of):
    suite, (first, second) = run_of(), known_clips()
    assert suite.bench.input_check("nonlocal_tiny", INPUTS).problem is None
    root = suite.bench.site.cache_dir / "crops"
    store = CropStore(root, model_spec("nonlocal_tiny").protocol, datasets.motion8())
    crops = store.read(second)
    assert crops is not None
    with store.filling():
        store.commit(first, store.place(first).write(np.array(crops)))
    suite = run_of()
    assert_invalid(suite.check(CELL, "accuracy"), rf"store: .*--remove {store.folder.name[:12]}`")
    shutil.rmtree(store.folder)
    assert run_of().bench.input_check("nonlocal_tiny", INPUTS).problem is None


def test_other_known_answers_than_the_contract_s_are_invalid(run_of):
    record = run_of(inputs="0" * 64).check(CELL, "export")
    assert_invalid(record, rf'inputs.json is not the contract\'s.* inputs = "{INPUTS}"')


def test_a_record_says_what_its_inputs_were_compared_with(clean, make_suite, cache, in_process):
    file = clean[0].thresholds.file.model_copy(update={"inputs": INPUTS})
    suite = make_suite(cache)
    suite = dataclasses.replace(suite, thresholds=dataclasses.replace(suite.thresholds, file=file))
    suite.bench.input_check = lambda model, wanted: InputCheck(f"{model} by {wanted[:4]}")
    record = suite.check(CELL, "export")
    assert record.verdict.status is Status.PASS
    assert record.subjects["inputs"] == INPUTS
    assert record.inputs == f"nonlocal_tiny by {INPUTS[:4]}"
    assert rejudged(record, suite.thresholds).verdict == record.verdict
    for digest in ({}, {"inputs": "0" * 64}):
        other = record.model_copy(update={"subjects": digest})
        verdict = rejudged(other, suite.thresholds).verdict
        assert verdict.status is Status.INVALID
        assert f"theirs are {INPUTS[:16]}, the record has" in verdict.reason


def test_the_known_clips_are_fed_as_mmaction2_feeds_them(run_of):
    bench = run_of().bench
    for name in model_names():
        check = check_known_clips(model_spec(name), INPUTS, bench.workshop)
        assert check.problem is None
        assert check.text.startswith(
            "motion8 clips/0011, clips/0029: known answers of mmaction2 0.24.1"
        )


@pytest.fixture
def elsewhere(monkeypatch):
    """Have the decoders of this machine be other ones than those of the known answers."""
    monkeypatch.setattr(input_check, "decoding_environment", lambda: {"machine": "another"})


def test_without_mmaction2_the_known_answers_bound_how_far_decoders_differ(
    run_of, in_process, elsewhere, monkeypatch
):
    def absent(*_):
        raise MissingInput("mmaction2 cannot be imported: no module")

    monkeypatch.setattr(input_check, "write_mmaction_inputs", absent)
    check = run_of().bench.input_check("nonlocal_tiny", INPUTS)
    assert check.problem is None
    assert check.text.endswith(
        "differ; nonlocal_tiny is not read by mmaction2: mmaction2 cannot be imported: no module"
    )
    for name in ("blue, green, red", "two frames swapped", "frames shifted by one"):
        with monkeypatch.context() as patch:
            plant(patch, FAULTS[name][0])
            assert_invalid(run_of().check(CELL, "parity"), FAULTS[name][1])


def test_elsewhere_mmaction2_makes_answers_once_that_count_to_the_last_bit(
    run_of, in_process, elsewhere, monkeypatch
):
    check = run_of().bench.input_check("nonlocal_tiny", INPUTS)
    assert check.problem is None
    assert check.text == (
        "motion8 clips/0011, clips/0029: known answers of mmaction2 0.24.1, as far as decoders differ; "
        "mmaction2 0.24.1 on this machine"
    )
    monkeypatch.setattr(input_check, "write_mmaction_inputs", None)
    plant(monkeypatch, FAULTS["one value more"][0])
    assert_invalid(run_of().check(CELL, "parity"), "decode: .* mmaction2 0.24.1 on this machine")
