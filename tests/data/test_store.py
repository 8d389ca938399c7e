import dataclasses
import json
import math
import os
import shutil

import numpy as np
import pytest

from harness.__main__ import main
from harness.clips import Clip, ClipSet
from harness.data.store import CropStore, about, record_shape
from harness.data.store_list import kept_stores
from harness.errors import ArtifactError
from harness.registry import model_spec


@pytest.fixture
def protocol(nonlocal_protocol):
    return dataclasses.replace(nonlocal_protocol, short_side=16, crop_size=16)


@pytest.fixture
def clip_set(tmp_path):
    clips = tuple(Clip(f"clip {number}", tmp_path / f"{number}.mp4", 0) for number in range(6))
    return ClipSet("six", clips, ("one",), "d" * 64)


def crops_of(protocol, clip):
    generator = np.random.default_rng(int(clip.id.split()[1]))
    return generator.integers(0, 256, record_shape(protocol), dtype=np.uint8)


def fill(store, protocol, clips):
    with store.filling() as is_mine:
        assert is_mine
        for clip in clips:
            store.commit(clip, store.place(clip).write(crops_of(protocol, clip)))


def test_what_was_written_is_read_by_another(tmp_path, protocol, clip_set):
    fill(CropStore(tmp_path / "s", protocol, clip_set), protocol, clip_set.clips)
    store = CropStore(tmp_path / "s", protocol, clip_set)
    for clip in clip_set.clips:
        crops = store.read(clip)
        assert isinstance(crops, np.memmap)
        np.testing.assert_array_equal(crops, crops_of(protocol, clip))
    whole = len(clip_set.clips) * np.prod(record_shape(protocol))
    assert sum(path.stat().st_size for path in store.folder.glob("*.u8")) == whole


def test_the_disk_holds_little_more_than_the_crops(tmp_path, clip_set):
    protocol = model_spec("nonlocal_tiny").protocol
    store = CropStore(tmp_path / "s", protocol, clip_set)
    fill(store, protocol, clip_set.clips)
    crops = len(clip_set.clips) * math.prod(record_shape(protocol))
    # The journal and about.json take a block each, however small the clips are.
    assert crops <= store.nbytes() <= 1.02 * crops


def test_shards_are_of_bounded_size(tmp_path, protocol, clip_set, monkeypatch):
    monkeypatch.setattr("harness.data.store.SHARD_BYTES", 2 * np.prod(record_shape(protocol)) + 1)
    store = CropStore(tmp_path / "s", protocol, clip_set)
    fill(store, protocol, clip_set.clips)
    assert len(list(store.folder.glob("*.u8"))) == 3
    np.testing.assert_array_equal(
        store.read(clip_set.clips[5]), crops_of(protocol, clip_set.clips[5])
    )


def test_a_kill_between_any_two_bytes_loses_one_clip_at_most(tmp_path, protocol, clip_set):
    store = CropStore(tmp_path / "s", protocol, clip_set)
    fill(store, protocol, clip_set.clips[:3])
    journal = (store.folder / "journal.jsonl").read_bytes()
    for cut in range(len(journal)):
        (store.folder / "journal.jsonl").write_bytes(journal[:cut])
        again = CropStore(tmp_path / "s", protocol, clip_set)
        done = [clip for clip in clip_set.clips if again.read(clip) is not None]
        assert done == list(clip_set.clips[: journal[:cut].count(b"\n")])
        fill(again, protocol, clip_set.clips[3:4])
        fresh = CropStore(tmp_path / "s", protocol, clip_set)
        assert fresh.read(clip_set.clips[3]) is not None


def test_a_damaged_record_is_not_read(tmp_path, protocol, clip_set):
    store = CropStore(tmp_path / "s", protocol, clip_set)
    fill(store, protocol, clip_set.clips)
    (shard,) = store.folder.glob("*.u8")
    data = bytearray(shard.read_bytes())
    data[5] ^= 1
    shard.write_bytes(data)
    assert store.read(clip_set.clips[0]) is None
    assert store.read(clip_set.clips[1]) is not None
    shard.write_bytes(data[:-1])
    assert store.read(clip_set.clips[5]) is None
    shard.unlink()
    assert store.read(clip_set.clips[1]) is None


def test_one_process_fills_at_a_time(tmp_path, protocol, clip_set):
    first, second = (CropStore(tmp_path / "s", protocol, clip_set) for _ in range(2))
    with first.filling() as is_mine:
        assert is_mine
        with second.filling() as is_mine_too:
            assert not is_mine_too
        clip = clip_set.clips[2]
        assert second.entry(clip) is None
        first.commit(clip, first.place(clip).write(crops_of(protocol, clip)))
        assert second.read(clip) is not None


def test_an_unreadable_clip_is_kept_with_its_reason(tmp_path, protocol, clip_set):
    store = CropStore(tmp_path / "s", protocol, clip_set)
    with store.filling():
        store.commit(clip_set.clips[0], "", "it is broken")
    again = CropStore(tmp_path / "s", protocol, clip_set)
    assert again.entry(clip_set.clips[0]).unreadable == "it is broken"
    assert again.read(clip_set.clips[0]) is None


def test_the_key_is_what_decides_about_the_bytes(tmp_path, protocol, clip_set, monkeypatch):
    def folder(protocol=protocol, clip_set=clip_set):
        return CropStore(tmp_path, protocol, clip_set).folder

    assert folder() == folder(dataclasses.replace(protocol, mean=(0, 0, 0), layout="MCTHW"))
    assert folder() != folder(dataclasses.replace(protocol, crop_size=15))
    assert folder() != folder(clip_set=dataclasses.replace(clip_set, digest="e" * 64))
    before = folder()
    monkeypatch.setattr("harness.data.video.decoders", lambda: ("av", "numpy"))
    assert folder() != before
    assert set(about(protocol, clip_set)["decoders"]) == {"av", "numpy"}


def test_the_store_says_what_it_is_of(tmp_path, protocol, clip_set):
    store = CropStore(tmp_path / "s", protocol, clip_set)
    for _ in range(2):
        fill(store, protocol, clip_set.clips[:1])
    said = json.loads((store.folder / "about.json").read_text())
    assert said["clips"] == clip_set.digest
    assert store.nbytes() >= np.prod(record_shape(protocol))


def test_a_disk_that_takes_nothing_is_said(tmp_path, protocol, clip_set, monkeypatch):
    store = CropStore(tmp_path / "s", protocol, clip_set)
    place = store.place(clip_set.clips[0])
    with pytest.raises(ArtifactError, match=r"cannot write decoded clips .*make room"):
        place.write(crops_of(protocol, clip_set.clips[0]))
    with pytest.raises(ArtifactError, match="cannot write decoded clips"):
        store.commit(clip_set.clips[0], "x")
    store.folder.mkdir(parents=True)
    monkeypatch.setattr(os, "pwrite", lambda *args: 1)
    with pytest.raises(ArtifactError, match="the disk is full"):
        place.write(crops_of(protocol, clip_set.clips[0]))
    shutil.rmtree(store.folder)


def test_stores_are_listed_and_removed(tmp_path, protocol, clip_set, monkeypatch, capsys):
    monkeypatch.setenv("ACCEPTANCE_CACHE_DIR", str(tmp_path))
    store = CropStore(tmp_path / "crops", protocol, clip_set)
    with store.filling():
        store.commit(clip_set.clips[0], "", "not yet")
    fill(store, protocol, clip_set.clips)
    key = store.folder.name
    assert main(["dataset", "store"]) == 0
    assert capsys.readouterr().out.startswith(f"{key[:12]}  6 clips, ")
    assert main(["dataset", "store", "--remove", "none"]) == 0
    with store.filling():
        assert main(["dataset", "store", "--remove", key[:6]]) == 2
    assert "is being filled" in capsys.readouterr().err
    assert main(["dataset", "store", "--remove", key[:6]]) == 0
    assert capsys.readouterr().out.startswith(f"removed {key[:12]}")
    assert not store.folder.exists()
    assert main(["dataset", "store"]) == 0
    assert capsys.readouterr().out == ""


def test_a_store_that_cannot_be_removed_is_said(tmp_path, protocol, clip_set, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "denied")

    store = CropStore(tmp_path, protocol, clip_set)
    with store.filling():
        pass
    (store.folder / "journal.jsonl").unlink()
    (kept,) = kept_stores(tmp_path)
    assert kept.done == 0
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(ArtifactError, match="cannot remove"):
        kept.remove()


def test_a_flipped_bit_in_the_journal_costs_the_clips_of_its_line(tmp_path, protocol, clip_set):
    store = CropStore(tmp_path / "s", protocol, clip_set)
    fill(store, protocol, clip_set.clips[:3])
    journal = store.folder / "journal.jsonl"
    content = journal.read_bytes()
    for place in range(len(content)):
        flipped = bytes([content[place] ^ 1 << place % 8])
        journal.write_bytes(content[:place] + flipped + content[place + 1 :])
        again = CropStore(tmp_path / "s", protocol, clip_set)
        found = [again.read(clip) for clip in clip_set.clips[:3]]
        # A flipped line end joins two lines.
        assert sum(crops is None for crops in found) <= 2
        for clip, crops in zip(clip_set.clips, found, strict=False):
            assert crops is None or (crops == crops_of(protocol, clip)).all()
    fill(again, protocol, clip_set.clips[:3])
    whole = CropStore(tmp_path / "s", protocol, clip_set)
    assert all(whole.read(clip) is not None for clip in clip_set.clips[:3])
    assert [kept.done for kept in kept_stores(tmp_path / "s")] == [3]
