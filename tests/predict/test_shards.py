"""Blocks of a clip set by the hash of the ids: every clip once, in whole batches, the same everywhere."""

import dataclasses
from pathlib import Path

import pytest

from harness.clips import Clip, ClipSet
from harness.predict.shards import block_of_set

CLIPS = tuple(Clip(f"clip {number}", Path(), 0) for number in range(100))
WHOLE = ClipSet("s", CLIPS, ("a",), "d" * 64)


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [100]), (3, [40, 40, 20]), (9, [16] * 6 + [4, 0, 0])]
)
def test_blocks_have_every_clip_once_in_whole_batches(count, sizes):
    blocks = [block_of_set(WHOLE, index, count, 8) for index in range(count)]
    assert [len(block.clips) for block in blocks] == sizes
    assert sorted(clip.id for block in blocks for clip in block.clips) == sorted(
        clip.id for clip in CLIPS
    )
    assert not any(block.is_whole for block in blocks)


def test_a_block_is_the_same_however_the_clips_are_listed():
    other = dataclasses.replace(WHOLE, clips=CLIPS[::-1])
    assert block_of_set(WHOLE, 2, 5, 8).clips == block_of_set(other, 2, 5, 8).clips
