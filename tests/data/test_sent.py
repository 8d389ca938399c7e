"""Crops that are sent are those that are decoded; what is not as it was sent is refused."""

import dataclasses

import numpy as np
import pytest

from harness.clips import Clip
from harness.data.datasets import motion8
from harness.data.loading import Unreadable, sample_from_clip
from harness.data.sent import crops_to_send
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.errors import ArtifactError, InvalidMeasurement
from harness.registry import model_spec

PROTOCOL = model_spec("nonlocal_tiny").protocol


@pytest.fixture(scope="module")
def clip_set(tmp_path_factory):
    """Three clips, of which the second cannot be read."""
    broken = tmp_path_factory.mktemp("clips") / "broken.mp4"
    broken.write_bytes(b"no video")
    first, last = motion8().clips[:2]
    clips = first, Clip("broken", broken, 0), last
    return dataclasses.replace(motion8(), clips=clips, digest="three")


@pytest.fixture(scope="module")
def sent(clip_set, tmp_path_factory):
    store = CropStore(tmp_path_factory.mktemp("there"), PROTOCOL, clip_set)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.data.streaming.usable_processors", lambda: 0)
        done = []
        found = crops_to_send(store, clip_set, "there", {"clips": "three"}, done.append)
        assert done == [1, 2, 3]
        # The second time, only the clip that could not be read is tried again.
        again = crops_to_send(store, clip_set, "there", {"clips": "three"}, done.append)
    assert done == [1, 2, 3, 3]
    assert again.digest == found.digest
    return found


def test_what_arrives_is_what_decoding_gives_here(sent, clip_set, tmp_path):
    sent.refuse_others(PROTOCOL)
    gone = [dataclasses.replace(clip, path=tmp_path / "gone") for clip in clip_set.clips]
    there = dataclasses.replace(clip_set, clips=tuple(gone), digest="sent")
    store = CropStore(tmp_path / "crops", PROTOCOL, there)
    with dataclasses.replace(sent, clip_set=there).unpacked(store):
        again = CropStore(tmp_path / "crops", PROTOCOL, there)
        items = list(stored_samples(again, there.clips, workers=1))
        with pytest.raises(ArtifactError, match="another process"), sent.unpacked(again):
            pass
    for item, clip in zip(items, clip_set.clips, strict=True):
        known = sample_from_clip(clip, PROTOCOL)
        if isinstance(known, Unreadable):
            assert item == known
        else:
            np.testing.assert_array_equal(item.tensor, known.tensor)
    assert [isinstance(item, Unreadable) for item in items] == [False, True, False]
    assert list((tmp_path / "crops").iterdir()) == []


def test_what_is_not_as_it_was_sent_is_refused_by_the_name_of_the_host(sent):
    bent = sent.crops.copy()
    bent[-1, -1, -1, -1, -1, -1] ^= 1
    for change, reason in (
        ({"crops": bent}, "they changed on their way"),
        ({"unreadable": {"broken": "another reason"}}, "they changed on their way"),
        ({"clip_ids": sent.clip_ids[::-1]}, "they changed on their way"),
        ({"unreadable": {}}, "they are of other clips than they say"),
        ({"crops": sent.crops[..., :2]}, "the model takes uint8 of"),
        ({"crops": sent.crops.astype(np.float32)}, "they are float32 of"),
    ):
        with pytest.raises(InvalidMeasurement, match=f"there sent crops .*: .*{reason}"):
            dataclasses.replace(sent, **change).refuse_others(PROTOCOL)
