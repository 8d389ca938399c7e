import dataclasses
import time

import numpy as np
import pytest

from harness.build import build, source
from harness.build.build import WeightsFile
from harness.clips import Predictions
from harness.errors import CheckpointError, InvalidMeasurement, RunError
from harness.host.child_process import StageCost
from harness.host.progress import Progress
from harness.predict import reference
from harness.predict.journal import Journal
from harness.predict.parity_inputs import parity_inputs
from harness.predict.reference import REFERENCE_BATCH, reference_predictions, reference_scores
from harness.record.npz import npz_from_predictions, predictions_from_npz

SEEDED = WeightsFile("seeded", "seed:1")
NOTHING = Predictions((), np.empty((0, 1, 8), np.float32), {})


@pytest.fixture
def weights(fitted):
    _, path = fitted
    return WeightsFile("checkpoint", path.stem, path)


@pytest.fixture
def inputs(narrow_spec, clip_set):
    return parity_inputs(narrow_spec, clip_set, 3)


def test_scores_of_both_precisions(fitted, weights, inputs, workshop, in_process):
    spec, _ = fitted
    scores = reference_scores(spec, weights, inputs, workshop)
    assert scores.fp32.shape == scores.fp64.shape == (3, 8)
    assert scores.fp32.dtype == scores.fp64.dtype == np.float64
    # Both are log-probabilities, equal up to the rounding of float32 and not beyond it.
    np.testing.assert_allclose(np.exp(scores.fp64).sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(scores.fp32, scores.fp32.astype(np.float32))
    assert 0.0 < np.abs(scores.fp32 - scores.fp64).max() < 1e-3
    again = reference_scores(spec, weights, inputs, workshop)
    np.testing.assert_array_equal(again.fp64, scores.fp64)
    assert [event.hit for event in workshop.store.events] == [False, True]
    assert workshop.store.events[0].facts["peak_bytes"] == 4096


def test_predictions_of_a_clip_set(fitted, weights, clip_set, workshop, in_process, tmp_path):
    spec, _ = fitted
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    broken = dataclasses.replace(clip_set.clips[9], path=path)
    clips = dataclasses.replace(clip_set, clips=(*clip_set.clips[:9], broken))
    preds = reference_predictions(spec, weights, clips, workshop)
    assert preds.clip_ids == tuple(clip.id for clip in clips.clips[:9])
    assert preds.unreadable.keys() == {broken.id}
    best = preds.scores[:, 0].argmax(axis=1)
    np.testing.assert_array_equal(best, [clip.label for clip in clips.clips[:9]])
    assert workshop.store.events[0].facts["unreadable"] == 1
    assert reference_predictions(spec, weights, clips, workshop).clip_ids == preds.clip_ids


def test_a_clip_that_can_be_read_again_gets_its_prediction(
    fitted, weights, clip_set, workshop, in_process, tmp_path
):
    spec, _ = fitted
    late = tmp_path / "late.mp4"
    absent = [dataclasses.replace(clip_set.clips[n], path=late) for n in (0, 2)]
    gone = dataclasses.replace(clip_set.clips[3], path=tmp_path / "gone.mp4")
    clips = dataclasses.replace(clip_set, clips=(absent[0], clip_set.clips[1], absent[1], gone))

    def predicted():
        return reference_predictions(spec, weights, clips, workshop)

    assert predicted().unreadable.keys() == {absent[0].id, absent[1].id, gone.id}
    late.write_bytes(clip_set.clips[0].path.read_bytes())
    preds = predicted()
    assert preds.clip_ids == tuple(clip.id for clip in clips.clips[:3])
    assert preds.unreadable.keys() == {gone.id}
    assert preds.scores[0, 0].argmax() == clip_set.clips[0].label
    np.testing.assert_allclose(preds.scores[2], preds.scores[0], atol=1e-4)
    # Kept like the rest: nothing is predicted a third time.
    count = len(workshop.store.events)
    np.testing.assert_array_equal(predicted().scores, preds.scores)
    assert all(event.hit for event in workshop.store.events[count:])


def test_the_predictions_tell_how_many_are_done(fitted, weights, clip_set, workshop, monkeypatch):
    clips, told = dataclasses.replace(clip_set, clips=clip_set.clips[:11]), []
    beats = []

    def counter(progress, title, total):
        told.append(f"{title}: {total}")
        return told.append

    def run(function, *args, heartbeat, **_):
        beats.append(heartbeat)
        return function(*args), StageCost(0.25, 4096)

    def append(journal, clip_ids, scores, kept=Journal.append):
        kept(journal, clip_ids, scores)
        beats[0](1.0)

    monkeypatch.setattr(Progress, "counter", counter)
    monkeypatch.setattr("harness.build.build.run_in_child", run)
    monkeypatch.setattr(Journal, "append", append)
    reference_predictions(fitted[0], weights, clips, workshop)
    title = f"pytorch predictions {fitted[0].name}: 11"
    done = [*range(REFERENCE_BATCH, 11, REFERENCE_BATCH), 11, 11]
    assert told == [title, *done]
    reference_predictions(fitted[0], weights, clips, workshop)
    assert told == [title, *done]


def test_a_checkpoint_that_does_not_fit_reaches_the_caller(
    fitted, inputs, workshop, in_process, weights
):
    other = dataclasses.replace(
        fitted[0],
        overrides=fitted[0].overrides | {"cls_head": {"num_classes": 9, "in_channels": 128}},
    )
    with pytest.raises(CheckpointError, match=r"wrong shapes: .*fc_cls"):
        reference_scores(other, weights, inputs, workshop)


def hangs(*_):
    time.sleep(3600.0)


def test_a_reference_that_hangs_is_killed_and_named(
    fitted, weights, inputs, clip_set, workshop, monkeypatch
):
    for kind in ("scores", "predictions"):
        monkeypatch.setattr(reference, f"write_reference_{kind}", hangs)
    monkeypatch.setattr("harness.predict.reference.HANG_S", 0.2)
    with pytest.raises(RunError, match=r"hangs \(log: .*\): stopped at its limit of 0\.4 s"):
        reference_scores(fitted[0], weights, inputs, workshop)
    monkeypatch.setattr("harness.host.patience.HANG_S", 0.2)
    with pytest.raises(RunError, match=r"predictions .* nothing more .* within 0\.2 s: it hangs"):
        reference_predictions(fitted[0], weights, clip_set, workshop)


@pytest.mark.parametrize(
    "preds",
    [
        Predictions(("a", "ü/b c"), np.arange(16, dtype=np.float32).reshape(2, 1, 8), {"x": "e\n"}),
        Predictions((), np.empty((0, 3, 8), np.float32), {}),
    ],
    ids=["two", "none"],
)
def test_predictions_come_back_from_a_file(preds, tmp_path):
    path = tmp_path / "preds.npz"
    path.write_bytes(npz_from_predictions(preds))
    read = predictions_from_npz(path)
    assert (read.clip_ids, read.unreadable) == (preds.clip_ids, preds.unreadable)
    np.testing.assert_array_equal(read.scores, preds.scores)
    assert read.scores.dtype == np.float32


@pytest.fixture
def keys(monkeypatch, workshop, narrow_spec, inputs, clip_set):
    """Return the keys of both references; nothing is computed."""

    def write(workshop, title, failure, function, *args, **_):
        fp32 = np.eye(2)
        np.savez(args[-1], fp32=fp32, fp64=fp32, again=fp32[:1])
        return {}

    monkeypatch.setattr(build.Workshop, "run", write)
    monkeypatch.setattr(reference, "predictions_from_npz", lambda path: NOTHING)

    def of(spec=narrow_spec, weights=SEEDED, inputs=inputs, clips=clip_set):
        reference_scores(spec, weights, inputs, workshop)
        reference_predictions(spec, weights, clips, workshop)
        return [event.key for event in workshop.store.events[-2:]]

    return of


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("nothing", [False, False]),
        ("weights", [True, True]),
        ("spec", [True, True]),
        ("inputs", [True, False]),
        ("clips", [False, True]),
        ("torch", [True, True]),
        ("av", [False, True]),
        ("opencv-contrib-python-headless", [False, True]),
        ("harness.build.torch_model", [True, True]),
        ("harness.build.narrow_tsm", [True, True]),
        ("harness.build.inference", [True, True]),
        ("harness.build.seeded_weights", [True, True]),
        ("harness.measure.scores", [True, True]),
        ("harness.data.transforms", [False, True]),
        ("harness.data.sampling", [False, True]),
        ("harness.data.video", [False, True]),
        ("harness.data.whole", [False, True]),
        ("processor", [True, True]),
    ],
)
def test_a_reference_is_keyed_by_all_that_shapes_it(
    keys, monkeypatch, narrow_spec, inputs, clip_set, change, changed
):
    before = keys()
    options = {
        "weights": {"weights": WeightsFile("seeded", "seed:2")},
        "spec": {"spec": dataclasses.replace(narrow_spec, softmax_in_graph=False)},
        "inputs": {"inputs": dataclasses.replace(inputs, digest="others")},
        "clips": {"clips": dataclasses.replace(clip_set, digest="others")},
    }.get(change, {})
    for name in ("package_versions", "code_digest"):
        real = getattr(reference, name)

        def other(*names, real=real):
            return {key: "other" if key == change else value for key, value in real(*names).items()}

        for module in (reference, source):
            monkeypatch.setattr(module, name, other)
    if change == "processor":
        monkeypatch.setattr(reference, "rounding_facts", lambda: {"cpu.model": "another"})
    after = keys(**options)
    assert [old != new for old, new in zip(before, after, strict=True)] == changed


def made(fault, fp32):
    """PyTorch's scores [input, class] with a fault, and those of the first input again."""
    if fault == "constant":
        fp32[:] = fp32[0]
    if fault == "infinite":
        fp32[2, 1] = np.inf
    return fp32, fp32[:1] + (0.1 if fault == "random" else 0.0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("infinite", "NaN or Inf in 1 of 48"),
        ("constant", "the same scores for every input"),
        ("random", "other scores when it runs the same input again"),
        (None, None),
    ],
)
@pytest.mark.usefixtures("in_process")
def test_a_reference_must_mean_something(
    fitted, weights, inputs, workshop, monkeypatch, fault, said
):
    def write(spec, checkpoint, given, target):
        fp32, again = made(fault, np.random.default_rng(0).standard_normal((3, 8)))
        with target.open("wb") as file:
            np.savez(file, fp32=fp32, fp64=np.nan_to_num(fp32, posinf=9.0), again=again)
        return {}

    monkeypatch.setattr("harness.predict.reference.write_reference_scores", write)
    if said is None:
        assert reference_scores(fitted[0], weights, inputs, workshop).fp32.shape == (3, 8)
        return
    with pytest.raises(InvalidMeasurement, match=said):
        reference_scores(fitted[0], weights, inputs, workshop)
