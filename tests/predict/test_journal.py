import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest

from harness.clips import Clip, Sample
from harness.data.loading import Unreadable
from harness.errors import RunError
from harness.host.locks import try_hold
from harness.predict.journal import (
    MAX_AGE_S,
    Journal,
    Work,
    journal_at,
    journal_path,
    predict_resumed,
)
from harness.predict.run import stream_from_runner
from harness.registry import model_spec
from harness.spec import TensorSpec

SPEC = dataclasses.replace(
    model_spec("nonlocal_tiny"),
    class_count=3,
    input=TensorSpec("video", (1, 2)),
    output=TensorSpec("class", (1, 3)),
    softmax_in_graph=False,
)
CLIPS = tuple(Clip(f"ü {number}", Path(f"{number}.mp4"), 0) for number in range(10))


def samples(clips):
    for clip in clips:
        number = int(clip.id.split()[1])
        if number == 7:
            yield Unreadable(clip.id, "broken")
        else:
            yield Sample(clip.id, np.full((1, 2), number, np.float32))


def run(feed):
    (values,) = feed.values()
    return {"class": np.stack([values[:, 0], values[:, 1] + 1, -values[:, 0]], axis=1)}


class Flaky:
    """A device that is unplugged after so many batches."""

    def __init__(self, batches):
        self.left = batches

    def __call__(self, feed):
        if not self.left:
            raise RunError("unplugged")
        self.left -= 1
        return run(feed)


def predict(folder, runner=run, key="a", clips=CLIPS, progress=lambda done: None):
    with journal_at(folder, {"key": key}, SPEC, clips) as journal:
        work = Work(clips, samples, journal)
        return predict_resumed(stream_from_runner(runner), SPEC, 2, work, progress)


def files(folder):
    return [path for path in folder.iterdir() if path.suffix == ".scores"]


def test_a_run_that_breaks_goes_on_where_it_stood(tmp_path):
    with pytest.raises(RunError, match="unplugged"):
        predict(tmp_path, Flaky(3))
    counts = []
    last = Flaky(2)
    preds = predict(tmp_path, last, progress=counts.append)
    assert last.left == 0
    assert counts[-1] == 10
    whole = predict(tmp_path / "other")
    assert preds.clip_ids == whole.clip_ids == tuple(c.id for c in CLIPS if c.id != "ü 7")
    np.testing.assert_array_equal(preds.scores, whole.scores)
    assert preds.unreadable == {"ü 7": "broken"}
    # The next night measures again.
    assert files(tmp_path) == []


def test_another_device_model_or_clip_set_starts_anew(tmp_path):
    for key, clips in (("a", CLIPS), ("b", CLIPS), ("a", CLIPS[:9])):
        with pytest.raises(RunError):
            predict(tmp_path, Flaky(1), key, clips)
    assert len(files(tmp_path)) == 3
    assert {path.stat().st_size for path in files(tmp_path)} == {2 * (8 + 12)}


def test_a_record_that_is_cut_or_damaged_is_not_there(tmp_path):
    journal = Journal(tmp_path / "j", SPEC, CLIPS)
    assert journal.scores() == {}
    journal.cut()
    journal.append(["ü 1", "ü 2"], np.ones((2, 1, 3), np.float32))
    data = bytearray(journal.path.read_bytes())
    journal.path.write_bytes(data[:-1])
    assert set(journal.scores()) == {"ü 1"}
    journal.cut()
    assert journal.path.stat().st_size == len(data) // 2
    data[10] ^= 1
    journal.path.write_bytes(data)
    assert set(journal.scores()) == {"ü 2"}
    data[len(data) // 2] = 99
    journal.path.write_bytes(data)
    assert journal.scores() == {}


def test_what_a_device_said_long_ago_is_not_taken(tmp_path):
    with pytest.raises(RunError):
        predict(tmp_path, Flaky(3))
    (path,) = files(tmp_path)
    os.utime(path, (0, time.time() - MAX_AGE_S - 60))
    again = Flaky(5)
    predict(tmp_path, again)
    assert again.left == 0


def test_two_processes_do_not_share_a_journal(tmp_path):
    with journal_at(tmp_path, {"key": "a"}, SPEC, CLIPS) as mine:
        lock = mine.path.with_name(mine.path.name + ".lock")
        with try_hold(lock) as is_free:
            assert not is_free
        with journal_at(tmp_path, {"key": "a"}, SPEC, CLIPS) as other:
            assert other.path != mine.path
            other.append(["ü 1"], np.ones((1, 1, 3), np.float32))
        assert not other.path.parent.exists()


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path):
    (tmp_path / "file").touch()
    assert len(predict(tmp_path / "file" / "below").clip_ids) == 9


def test_a_full_disk_is_said(tmp_path):
    journal = Journal(tmp_path / "none" / "j", SPEC, CLIPS)
    with pytest.raises(RunError, match="cannot keep predictions"):
        journal.append(["ü 1"], np.ones((1, 1, 3), np.float32))


def test_no_clips_give_no_predictions(tmp_path):
    assert predict(tmp_path, clips=()).scores.shape == (0, 1, 3)


def test_another_process_can_see_how_many_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.predict.run.GROUP_S", 0.0)
    seen = Journal(journal_path(tmp_path, {"key": "a"}, CLIPS), SPEC, CLIPS)
    assert seen.count() == 0
    counts = []
    predict(tmp_path, progress=lambda done: counts.append(seen.count()))
    assert counts == [2, 4, 6, 8, 9]
    # The journal is gone with the run.
    assert seen.count() == 0
