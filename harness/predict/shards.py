"""Shards of a clip set by the hash of the clip ids: the same on every machine, and mergeable."""

import dataclasses
import functools
import hashlib
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from harness.clips import Clip, ClipSet, Predictions
from harness.errors import ClipError
from harness.host.digests import digest_from_json


def shard_of_clips(clips: Sequence[Clip], index: int, count: int) -> tuple[Clip, ...]:
    """Return the clips whose id hashes to ``index`` of ``count``: the same on every machine."""
    return tuple(clip for clip in clips if shard_of_id(clip.id, count) == index)


def shard_of_set(clip_set: ClipSet, index: int, count: int) -> ClipSet:
    """Return the shard of a clip set whose ids hash to ``index`` of ``count``."""
    if count == 1:
        return clip_set
    clips = shard_of_clips(clip_set.clips, index, count)
    return dataclasses.replace(clip_set, clips=clips, is_whole=False)


def block_of_set(clip_set: ClipSet, index: int, count: int, batch: int) -> ClipSet:
    """Return block ``index`` of ``count`` of the clips in the order of the hashes of their ids.

    The same on every machine. A block is whole batches, so that a device computes no padding but for
    the last one; all blocks but the last are of one size, so that chips end together.
    """
    clips = sorted(clip_set.clips, key=lambda clip: _hash_of_id(clip.id))
    size = math.ceil(len(clips) / count / batch) * batch
    block = tuple(clips[index * size : (index + 1) * size])
    return dataclasses.replace(clip_set, clips=block, is_whole=False)


def batches_of_set(clip_set: ClipSet, index: int, count: int, batch: int) -> ClipSet:
    """Return every ``count``-th batch of a clip set, from batch ``index`` on.

    What rounds a row by the rest of its batch, as PyTorch does, gives for whole batches what it gives
    for the whole set.
    """
    clips = tuple(clip for at, clip in enumerate(clip_set.clips) if at // batch % count == index)
    digest = digest_from_json({"batches of": clip_set.digest, "batch": batch, "of": [index, count]})
    return dataclasses.replace(clip_set, clips=clips, digest=digest, is_whole=False)


def subset_of_clips(clip_set: ClipSet, count: int | None) -> ClipSet:
    """Return the ``count`` clips whose ids hash lowest, in their order; the whole set if None.

    The same on every machine, and a smaller subset is part of a larger one.
    """
    if count is None or count >= len(clip_set.clips):
        return clip_set
    chosen = sorted((clip.id for clip in clip_set.clips), key=_hash_of_id)[:count]
    kept = set(chosen)
    return dataclasses.replace(
        clip_set,
        clips=tuple(clip for clip in clip_set.clips if clip.id in kept),
        digest=digest_from_json({"subset of": clip_set.digest, "clips": sorted(chosen)}),
        is_whole=False,
    )


def shard_of_id(clip_id: str, count: int) -> int:
    """Return the shard number of a clip, by the sha256 of its id."""
    return int.from_bytes(_hash_of_id(clip_id)[:8], "big") % count


# A host looks for its clips once for each shard.
@functools.lru_cache(maxsize=1 << 17)
def _hash_of_id(clip_id: str) -> bytes:
    return hashlib.sha256(clip_id.encode("utf-8", "surrogateescape")).digest()


def merged(shards: Sequence[Predictions], clip_set: ClipSet) -> Predictions:
    """Join the predictions of shards, in the order of the clip set.

    Raises:
        ClipError: together they differ from the clip set: clips are missing, foreign or duplicated.
    """
    ids = [name for shard in shards for name in (*shard.clip_ids, *shard.unreadable)]
    wanted = {clip.id for clip in clip_set.clips}
    for names, what in (
        (wanted - set(ids), "are in none of the shards"),
        (set(ids) - wanted, "are not in the data set"),
        ({name for name, count in Counter(ids).items() if count > 1}, "are in two shards"),
    ):
        if names:
            shown = ", ".join(sorted(names)[:5])
            raise ClipError(f"{len(names)} clips {what}: {shown}; name every shard once")
    shapes = {shard.scores.shape[1:] for shard in shards}
    if len(shapes) > 1:
        listed = ", ".join(str(list(shape)) for shape in sorted(shapes))
        raise ClipError(f"the shards have scores of {listed}: they come from different models")
    row = {name: row for row, name in enumerate(n for shard in shards for n in shard.clip_ids)}
    order = tuple(clip.id for clip in clip_set.clips if clip.id in row)
    scores = np.concatenate([shard.scores for shard in shards])
    unreadable = {name: why for shard in shards for name, why in shard.unreadable.items()}
    rows = scores[np.array([row[name] for name in order], int)]
    return Predictions(order, rows, unreadable, shards[0].averaging)
