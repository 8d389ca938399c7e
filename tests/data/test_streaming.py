import contextlib
import dataclasses
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from harness.clips import Clip
from harness.data import streaming
from harness.data.datasets import motion8
from harness.data.loading import Unreadable, sample_from_clip
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.errors import DecodeError, RunError
from harness.predict.run import scored_batches, stream_from_runner
from harness.registry import model_spec

ROOT = Path(__file__).parents[2]
PROTOCOL = model_spec("nonlocal_tiny").protocol
FILLS = """
import sys
from pathlib import Path
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.data.datasets import motion8
from harness.registry import model_spec
if __name__ == "__main__":
    store = CropStore(Path(sys.argv[1]), model_spec("nonlocal_tiny").protocol, motion8())
    for number, item in enumerate(stored_samples(store, motion8().clips, workers=1)):
        print(number, flush=True)
"""

# Each process that decodes imports it, too.
HANGS = f"""
import time
from harness.data import loading
from harness.host import patience
loading.decode_frames = lambda *_: time.sleep(3600.0)
patience.HANG_S = 0.5
{FILLS}
"""


@pytest.fixture
def store(tmp_path):
    return CropStore(tmp_path / "crops", PROTOCOL, motion8())


def assert_same(items, clips):
    expected = [sample_from_clip(clip, PROTOCOL) for clip in clips]
    assert [item.clip_id for item in items] == [item.clip_id for item in expected]
    for item, other in zip(items, expected, strict=True):
        np.testing.assert_array_equal(item.tensor, other.tensor)


def test_processes_decode_what_threads_decode_and_once(store):
    clips = motion8().clips[:24]
    assert_same(list(stored_samples(store, clips, workers=2)), clips)
    assert multiprocessing.active_children() == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "decode_into", None)
        again = CropStore(store.folder.parent, PROTOCOL, motion8())
        assert_same(list(stored_samples(again, clips)), clips)


def test_a_few_clips_need_no_process(store):
    clips = motion8().clips[:3]
    stream = stored_samples(store, clips, workers=0)
    items = [next(stream)]
    assert multiprocessing.active_children() == []
    assert_same([*items, *stream], clips)
    assert all(store.read(clip) is not None for clip in clips)


def test_a_whole_batch_is_ready_before_it_is_asked_for(store):
    clips = motion8().clips[:40]
    with contextlib.closing(stored_samples(store, clips, workers=1, batch=16)) as stream:
        next(stream)
        # 1 x 2 for the worker, 2 for the loaders, 16 ahead; they are decoded unasked.
        deadline = time.monotonic() + 20
        while not store.entry(clips[18]) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.entry(clips[18])
        assert not store.entry(clips[20])


def test_an_unreadable_clip_is_told_by_id_and_tried_again(tmp_path):
    path = tmp_path / "late.mp4"
    clips = (motion8().clips[0], Clip("late", path, 0))
    clip_set = dataclasses.replace(motion8(), clips=clips)
    root = tmp_path / "crops"
    first, second = stored_samples(CropStore(root, PROTOCOL, clip_set), clips, workers=1)
    assert first.clip_id == clips[0].id
    assert isinstance(second, Unreadable)
    assert (second.clip_id, "No such file" in second.reason) == ("late", True)
    path.write_bytes(clips[0].path.read_bytes())
    items = list(stored_samples(CropStore(root, PROTOCOL, clip_set), clips, workers=1))
    np.testing.assert_array_equal(items[0].tensor, items[1].tensor)


def test_closing_early_ends_the_processes(store):
    stream = stored_samples(store, motion8().clips, workers=2)
    next(stream)
    assert len(multiprocessing.active_children()) >= 1
    stream.close()
    assert multiprocessing.active_children() == []
    journal = (store.folder / "journal.jsonl").read_text().splitlines()
    assert len(journal) <= 2 * 2 + 2 + 3


def test_a_process_that_dies_is_an_error_that_names_the_clips(store):
    with contextlib.closing(stored_samples(store, motion8().clips, workers=1)) as stream:
        next(stream)
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(DecodeError, match=r"died, .* in flight were .*clips/00"):
            list(stream)
    assert multiprocessing.active_children() == []
    again = CropStore(store.folder.parent, PROTOCOL, motion8())
    assert again.read(motion8().clips[0]) is not None


def test_a_decoder_that_hangs_is_named_and_leaves_no_process(store, tmp_path):
    script = tmp_path / "hangs.py"
    script.write_text(HANGS)
    done = subprocess.run(
        [sys.executable, script, store.folder.parent],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (1, "")
    said = done.stderr.splitlines()[-1]
    assert re.search(r"DecodeError: reading clip .*/0000\.mp4 did not return within 0.5 s", said)


def run_until(store, count, end):
    """Fill the store in a process of its own and end that after so many clips."""
    child = subprocess.Popen(
        [sys.executable, "-c", FILLS, str(store.folder.parent)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in child.stdout:
        if int(line) >= count:
            end(child)
            break
    child.stdout.close()
    child.stderr.close()
    return child.wait(timeout=30)


def test_a_killed_run_goes_on_where_it_stood(store):
    assert run_until(store, 40, lambda child: child.kill()) == -signal.SIGKILL
    # The workers leave with their parent.
    deadline = time.monotonic() + 20
    while not _is_free(store) and time.monotonic() < deadline:
        time.sleep(0.05)
    kept = (store.folder / "journal.jsonl").read_bytes().count(b"\n")
    assert kept >= 40
    clips = motion8().clips[:60]
    assert_same(list(stored_samples(store, clips, workers=1)), clips)


def _is_free(store):
    with store.filling() as is_mine:
        return is_mine


def test_ctrl_c_ends_the_processes_too(store, interruptible):
    def interrupt(child):
        os.killpg(child.pid, signal.SIGINT)

    assert run_until(store, 5, interrupt) == -signal.SIGINT
    assert _is_free(store)


def test_a_second_process_follows_the_first(store, tmp_path):
    clips = motion8().clips[:3]
    follower = CropStore(store.folder.parent, PROTOCOL, motion8())
    with store.filling():
        stream = stored_samples(follower, clips)
        first = sample_from_clip(clips[0], PROTOCOL)
        for clip in clips[:2]:
            crops = streaming.crops_from_clip(clip, PROTOCOL)
            store.commit(clip, store.place(clip).write(crops))
        np.testing.assert_array_equal(next(stream).tensor, first.tensor)
        next(stream)
    # The first one is gone: the second takes over and writes.
    assert next(stream).clip_id == clips[2].id
    stream.close()
    assert follower.entry(clips[2]).checksum


def test_who_takes_over_decodes_in_processes(store):
    clips = motion8().clips[:20]
    follower = CropStore(store.folder.parent, PROTOCOL, motion8())
    with contextlib.closing(stored_samples(follower, clips, workers=1)) as stream:
        with store.filling():
            crops = streaming.crops_from_clip(clips[0], PROTOCOL)
            store.commit(clips[0], store.place(clips[0]).write(crops))
            items = [next(stream)]
            assert multiprocessing.active_children() == []
        items += [next(stream) for _ in range(3)]
        assert len(multiprocessing.active_children()) == 1
        assert_same([*items, *stream], clips)


def test_a_run_that_breaks_does_not_wait_for_who_fills_the_store(store):
    """The device breaks while the next batch waits for a clip that another process never decodes."""
    clips, stopped = motion8().clips[:4], threading.Event()
    follower = CropStore(store.folder.parent, PROTOCOL, motion8())

    def unplugged(feed):
        raise RunError("unplugged")

    with store.filling():
        store.commit(
            clips[0], store.place(clips[0]).write(streaming.crops_from_clip(clips[0], PROTOCOL))
        )
        with contextlib.closing(stored_samples(follower, clips, stopped=stopped)) as items:
            spec = model_spec("nonlocal_tiny")
            stream = stream_from_runner(unplugged)
            with pytest.raises(RunError, match="unplugged"):
                list(scored_batches(stream, spec, 1, items, stop=stopped.set))


def test_closing_a_follower_ends_its_wait(store):
    follower = CropStore(store.folder.parent, PROTOCOL, motion8())
    clips = motion8().clips[:4]
    with store.filling():
        store.commit(
            clips[0], store.place(clips[0]).write(streaming.crops_from_clip(clips[0], PROTOCOL))
        )
        stream = stored_samples(follower, clips)
        next(stream)
        stream.close()
    assert follower.entry(clips[1]) is None


def test_a_damaged_record_is_decoded_again(store, caplog):
    clips = motion8().clips[:2]
    list(stored_samples(store, clips, workers=1))
    (shard,) = store.folder.glob("*.u8")
    shard.write_bytes(bytes(shard.stat().st_size))
    again = CropStore(store.folder.parent, PROTOCOL, motion8())
    assert_same(list(stored_samples(again, clips)), clips)
    assert "damaged" in caplog.text
    assert again.read(clips[0]) is not None


def test_a_folder_that_cannot_be_written_serves_without_keeping(store, monkeypatch, caplog):
    def refuse(self):
        raise PermissionError("read-only")

    monkeypatch.setattr(CropStore, "filling", refuse)
    gone = Clip(motion8().clips[1].id, Path("gone.mp4"), 0)
    first, second = stored_samples(store, [motion8().clips[0], gone])
    assert first.clip_id == motion8().clips[0].id
    assert isinstance(second, Unreadable)
    assert "decoded clips are not kept" in caplog.text
