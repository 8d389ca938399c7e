"""What a host that can read the clips does for the chips of those that cannot: it lists and decodes them.

It need have no chip. Its functions run in processes that Ray starts, as those of ``host`` do.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from harness.check.checks import inputs_read_again
from harness.check.context import Context
from harness.clips import ClipSet
from harness.data.sent import SentCrops, crops_to_send
from harness.data.store import CropStore
from harness.data.strips import with_frames
from harness.farm.orders import Listing, Order, Shard
from harness.farm.workplace import Say, context_of, host_name, workplace
from harness.host.digests import digest_from_json
from harness.measure.strips import Strips
from harness.predict.reference import REFERENCE_BATCH
from harness.predict.shards import batches_of_set, block_of_set


def list_clips(say: Say, order: Order) -> Listing:
    """List the clips of an accuracy check for hosts that cannot read them; this one need have no chip.

    Raises:
        HarnessError: the clips cannot be used, or mmaction2 reads some of them differently.
    """
    with workplace(order, say) as bench, bench.beside_others():
        context = context_of(order, bench)
        clip_set, subjects = context.clip_set, _decoding(context)
        return Listing(_elsewhere(clip_set), subjects, inputs_read_again(context, clip_set))


def decode(say: Say, order: Order, shard: Shard) -> SentCrops:
    """Decode one shard of the clips of a cell for another host."""
    with workplace(order, say) as bench, bench.beside_others():
        context = context_of(order, bench)
        clips = clips_of_shard(context.clip_set, shard, order.cell.batch)
        counter = bench.progress.counter(f"{order.cell.id} crops, {shard}", len(clips.clips))
        found = crops_to_send(_store(context), clips, host_name(), _decoding(context), counter)
        return dataclasses.replace(found, clip_set=_elsewhere(clips))


def add_frames(say: Say, order: Order, strips: Strips) -> Strips:
    """Return the strips of an accuracy check with the frames of the clips, which this host can read."""
    with workplace(order, say) as bench, bench.beside_others():
        context = context_of(order, bench)
        return with_frames(strips, context.clip_set, context.spec.protocol)


def clips_of_shard(clip_set: ClipSet, shard: Shard, batch: int) -> ClipSet:
    """Return the clips of a shard: whole batches, of PyTorch's size or of the chips'."""
    if shard.what == "reference":
        return batches_of_set(clip_set, shard.index, shard.count, REFERENCE_BATCH)
    return block_of_set(clip_set, shard.index, shard.count, batch)


def _decoding(context: Context) -> Mapping[str, str]:
    """Return the digests of what decides the crops of this host's clips."""
    about = digest_from_json(_store(context).about)
    return {"clips": context.clip_set.digest, "decoding": about}


def _store(context: Context) -> CropStore:
    root, clip_set = context.bench.site.cache_dir, context.bench.clip_set(context.cell.model)
    return CropStore(root / "crops", context.spec.protocol, clip_set)


def _elsewhere(clip_set: ClipSet) -> ClipSet:
    """Return clips for a host that cannot read them: none of its own files is taken for one."""
    clips = (
        dataclasses.replace(clip, path=Path(f"{host_name()}:{clip.path}"))
        for clip in clip_set.clips
    )
    return dataclasses.replace(clip_set, clips=tuple(clips))
