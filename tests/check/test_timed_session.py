import dataclasses
import shutil
import types
from pathlib import Path

import numpy as np
import pytest

from harness.check import timed_session
from harness.check.timed_session import TimedClips, expected_answers, time_session
from harness.clips import Predictions
from harness.data.loading import crops_from_clip
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.errors import ClipError, RunError
from harness.host.clocks import Reading
from harness.judge.limits import ParityLimits
from harness.measure import timing
from harness.measure.throughput import throughput_measurement
from harness.registry import device_spec
from harness.spec import Artifact, DeviceModel, OnnxModel
from harness.testing import FakeClock, FakeDevice, FakeSession
from harness.timings import LoopSettings, LoopTimes

SETTINGS = LoopSettings(warmup_queries=2, min_queries=8, min_seconds=0.0)
LOOP = LoopTimes(device_ms=(10.0,) * 8, device_io_ms=(12.0,) * 8)


def uniform(feed):
    return {"class": np.full((len(feed["video"]), 8), 0.125, np.float32)}


class Session(FakeSession):
    """Gives prepared times and output from its loop and counts its queries."""

    def __init__(self, clock, loop=LOOP, function=uniform):
        super().__init__(function, 0.020, clock)
        self.prepared, self.queries = loop, 0
        self.batches, self.threads = [], []

    def run(self, feed):
        self.queries += 1
        self.batches.append(feed["video"])
        return super().run(feed)

    def loop(self, feed, settings):
        self.settings = settings
        if self.prepared is LOOP:
            return dataclasses.replace(LOOP, output=uniform(feed))
        return self.prepared


EXPORTED = Path("exported.onnx")


class Clocks(FakeClock):
    """Clocks that only the sessions move; processor time passes as fast as ``processor`` says."""

    processor = 1.0

    def read(self):
        now_s = self()
        worked_s = self.processor * now_s
        return Reading(now_s, worked_s, worked_s, 0.0, now_s, self.ticks_s, worked_s)

    @property
    def ticks_s(self):
        return self()


@pytest.fixture
def clock(monkeypatch):
    clock = Clocks()
    monkeypatch.setattr(timed_session, "read_clocks", clock.read)
    monkeypatch.setattr(
        timed_session,
        "measure_session",
        lambda *args: timing.measure_session(*args, clock=clock),
    )
    return clock


@pytest.fixture
def unoptimised(clock, monkeypatch):
    """A graph that takes 60 ms a query; returns what was opened, and how."""
    opened = []

    def ort_session(path, **how):
        opened.append((path, how))
        return types.SimpleNamespace(
            get_inputs=lambda: [types.SimpleNamespace(name="video")],
            get_outputs=list,
            run=lambda *_: clock.advance(0.060) or [],
        )

    monkeypatch.setattr("harness.runtimes.ort.session.ort_session", ort_session)
    return opened


@pytest.fixture
def run(narrow_spec, clip_set, tmp_path, monkeypatch):
    """Return what times a session of a model at batch 3."""
    # Set by the session for its own process, which is this one here.
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    artifact = Artifact("device", tmp_path / "m.onnx", "00", {})
    model = DeviceModel(OnnxModel(narrow_spec, 3, "seeded", artifact), "cpu", artifact)
    double = FakeDevice(device_spec("cpu"), uniform)

    def time_it(session, beside=None, clips=clip_set.clips[:4], settings=SETTINGS, expected=None):
        def opened(_, threads=None):
            session.threads.append(threads)
            session.is_closed = False
            return session

        monkeypatch.setattr(double, "open", opened)
        timed = TimedClips(tuple(clips), clip_set, tmp_path / "crops")
        return time_session(double, model, timed, settings, beside, expected)

    return time_it


def test_three_definitions_are_kept_apart(run, clock):
    session = Session(clock)
    times = run(session)
    assert times.device_ms == LOOP.device_ms
    assert times.device_io_ms == LOOP.device_io_ms
    np.testing.assert_allclose(times.e2e_ms, 20.0)
    assert times.pytorch_ms == ()
    assert times.is_output_same is True
    assert session.settings == SETTINGS
    assert session.is_closed


def test_how_the_host_was_is_noted_after_what_the_device_noted(run, clock):
    noted = dataclasses.replace(LOOP, notes=("before: chip OK",))
    *of_device, of_host = run(Session(clock, loop=noted)).notes
    assert of_device == ["before: chip OK"]
    assert of_host.startswith("host: load ")


def test_queries_from_the_file_are_fewer_and_take_clips_in_turn(run, clock):
    session = Session(clock)
    times = run(session, settings=LoopSettings(2, 40, 1.0))
    # A quarter of 1 s at 20 ms a query, which is more than a quarter of 40.
    assert len(times.e2e_ms) == 13
    first, second, *_ = (batch for batch in session.batches)
    assert first.shape == (3, 8, 3, 32, 32)
    # Four clips in batches of three: the second begins with the last clip, then the first again.
    np.testing.assert_array_equal(second[1], first[0])
    assert not np.array_equal(second[0], first[0])


def test_the_first_batch_is_read_where_it_is_decoded_and_the_others_never(
    run, clock, monkeypatch, narrow_spec, clip_set, tmp_path
):
    store = CropStore(tmp_path / "crops", narrow_spec.protocol, clip_set)
    list(stored_samples(store, clip_set.clips[:3], workers=0))
    decoded = []

    def decode(clip, protocol):
        decoded.append(clip.id)
        return crops_from_clip(clip, protocol)

    monkeypatch.setattr(timed_session, "crops_from_clip", decode)
    stored, ids = Session(clock), [clip.id for clip in clip_set.clips[:4]]
    run(stored)
    assert decoded[:4] == [ids[3], *ids[:3]]
    shutil.rmtree(store.folder)
    decoded.clear()
    fresh = Session(clock)
    run(fresh)
    assert decoded[:4] == ids
    np.testing.assert_array_equal(stored.batches[0], fresh.batches[0])


def test_a_host_is_timed_in_turns_with_the_unoptimised_graph_on_one_thread_each(
    run, clock, unoptimised
):
    session = Session(clock)
    times = run(session, beside=EXPORTED)
    turns = times.turns
    np.testing.assert_allclose(turns.processor_ms, 20.0)
    np.testing.assert_allclose(turns.unoptimised_processor_ms, 60.0)
    np.testing.assert_allclose(turns.wall_ms, 20.0)
    np.testing.assert_allclose(turns.waiting_ms, 0.0, atol=1e-9)
    assert len(turns.processor_ms) == len(turns.unoptimised_processor_ms) == 8
    assert unoptimised == [(EXPORTED, {"level": "none", "threads": 1})]
    assert session.threads == [None, 1]
    assert times.host_use.usable >= 1
    # What the wall clock says is not judged, so a quarter of it is enough.
    assert session.settings == LoopSettings(warmup_queries=2, min_queries=2, min_seconds=0.0)
    assert (times.device_ms, times.problems) == (LOOP.device_ms, ())


def test_a_device_with_processors_of_its_own_has_no_turns(run, clock):
    times = run(Session(clock))
    assert (times.turns, times.host_use) == (None, None)


def test_a_query_that_sleeps_is_seen_to_wait(run, clock, unoptimised):
    clock.processor = 0.25
    times = run(Session(clock), beside=EXPORTED)
    np.testing.assert_allclose(times.turns.processor_ms, 5.0)
    np.testing.assert_allclose(times.turns.waiting_ms, 15.0)


def test_clocks_that_disagree_make_the_session_invalid(run, clock, monkeypatch):
    """Every clock that Python reads runs ten times slow, and the kernel counts on."""
    monkeypatch.setattr(Clocks, "ticks_s", property(lambda self: 10.0 * self()))
    times = run(Session(clock), settings=LoopSettings(2, 40, 4.0))
    (problem,) = times.problems
    assert problem.startswith("the clock that queries are timed by says 1.0")
    assert throughput_measurement([times], 3).invalid_reasons == (f"session 1: {problem}",)


OUTPUTS = [
    (None, None),
    ({"class": np.full((3, 8), 0.125)}, True),
    ({"class": np.full((3, 8), 0.125 * 1.0005)}, True),
    ({"class": np.full((3, 8), 0.125 * 1.01)}, False),
    ({"class": np.full((3, 8), np.nan)}, False),
    ({"class": np.full((1, 8), 0.125)}, False),
    ({"other": np.full((3, 8), 0.125)}, False),
    ({}, False),
]


@pytest.mark.parametrize(("output", "is_same"), OUTPUTS, ids=str)
def test_timed_queries_must_compute_the_same(run, clock, output, is_same):
    loop = dataclasses.replace(LOOP, output=output)
    assert run(Session(clock, loop)).is_output_same is is_same


@pytest.mark.parametrize(("output", "is_same"), OUTPUTS[1:], ids=str)
def test_beside_the_unoptimised_graph_the_untimed_query_of_the_turns_is_what_counts(
    run, clock, unoptimised, output, is_same
):
    session = Session(clock, dataclasses.replace(LOOP, output=output))
    times = run(session, beside=EXPORTED, settings=LoopSettings(1, 1, 0.0))
    assert times.is_output_same is is_same
    # One from the clip, one untimed, and the two of a turn.
    assert session.queries == 4


LIMITS = ParityLimits(
    fp64_factor=1.0,
    fp64_atol=0.0,
    max_abs_error=0.05,
    p999_abs_error=0.0,
    relative_l2=0.01,
    cosine=1.0,
    top1_agreement=1.0,
    top5_overlap=1.0,
    source="test",
)


def expected_of(clips, scores):
    ids = tuple(clip.id for clip in clips)
    preds = Predictions(ids, np.stack([scores] * len(ids)).astype(np.float32))
    return expected_answers(preds, clips, LIMITS, 1e-38)


EVEN = np.full((1, 8), np.log(0.125))


@pytest.mark.parametrize(
    ("scores", "is_same"),
    [
        (EVEN, True),
        (EVEN + 0.02, True),
        (EVEN + 0.06, False),
        (EVEN + 0.04, False),
        (EVEN * np.nan, False),
        (np.full((2, 8), np.log(0.125)), False),
    ],
    ids=["same", "near", "too far", "near each, far in all", "NaN", "of another shape"],
)
def test_every_timed_answer_must_be_that_of_the_accuracy_run(run, clock, clip_set, scores, is_same):
    clips = clip_set.clips[:4]
    times = run(Session(clock), expected=expected_of(clips, scores))
    assert times.is_output_same is is_same
    assert times.clips_compared == 4
    assert times.differing_clips == (() if is_same else tuple(sorted(c.id for c in clips)))


def test_clips_that_the_accuracy_run_has_not_are_not_held_against_it(run, clock, clip_set):
    times = run(Session(clock), expected=expected_of(clip_set.clips[10:12], EVEN))
    assert (times.is_output_same, times.clips_compared) == (True, 0)
    assert expected_answers(None, clip_set.clips, LIMITS, 1e-38) is None


def test_the_last_query_beside_the_unoptimised_graph_is_looked_at_too(run, clock, unoptimised):
    def tiring(feed):
        tiring.count += 1
        return uniform(feed) if tiring.count <= 4 else {"class": uniform(feed)["class"] * 1.01}

    tiring.count = 0
    assert run(Session(clock, function=tiring), beside=EXPORTED).is_output_same is False


def test_an_unreadable_clip_is_named_and_closes_nothing_that_is_not_open(
    run, clock, clip_set, tmp_path
):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    clips = (dataclasses.replace(clip_set.clips[0], path=path),)
    with pytest.raises(ClipError, match=rf"timing needs clip {clips[0].id}: .*broken"):
        run(Session(clock), clips=clips)


def test_an_unreadable_clip_in_the_middle_closes_the_session(run, clock, clip_set, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    session = Session(clock)
    clips = (*clip_set.clips[:3], dataclasses.replace(clip_set.clips[3], path=path))
    with pytest.raises(ClipError, match="timing needs clip"):
        run(session, clips=clips)
    assert session.is_closed


def test_an_output_of_another_shape_is_no_timing(run, clock):
    session = Session(clock, function=lambda feed: {"class": np.zeros((3, 7), np.float32)})
    with pytest.raises(RunError, match=r"\(3, 7\).*wrong shape"):
        run(session)
    assert session.is_closed
