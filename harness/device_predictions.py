"""What a device says of a whole clip set, or of a shard of it: through the store, resumable."""

import functools
import hashlib
from collections.abc import Sequence

from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.resume import Work, journal_at, predict_resumed
from harness.run import stream_from_session
from harness.spec import Cell, Clip, Predictions, Session, digest_from_json
from harness.workbench import Workbench


def device_predictions(
    cell: Cell,
    bench: Workbench,
    session: Session,
    smallest: float,
    shard: tuple[int, int] = (0, 1),
) -> Predictions:
    """Run a shard of the clip set of a cell; what a killed run did today is kept.

    Args:
        cell: what is run.
        bench: finds its clips and keeps what is decoded.
        session: of the device model of the cell.
        smallest: probability below which the device tells nothing.
        shard: its number, from 0, and how many there are.

    Raises:
        RunError: the device failed.
        DecodeError: a process that decodes clips died.
    """
    spec, clip_set, cache = (
        bench.model(cell.model),
        bench.clip_set(cell.model),
        bench.site.cache_dir,
    )
    clips = shard_of_clips(clip_set.clips, *shard)
    key = digest_from_json(
        {
            "cell": cell.id,
            "device_model": bench.device_model(cell).artifact.sha256,
            "facts": dict(bench.state(cell.device).facts),
            "protocol": spec.protocol,
            "clips": clip_set.digest,
            "shard": shard,
        }
    )
    samples = functools.partial(stored_samples, CropStore(cache / "crops", spec.protocol, clip_set))
    progress = bench.progress.counter(f"{cell.id} accuracy", len(clips))
    with journal_at(cache / "partial" / f"{key}.scores", spec, clips) as journal:
        work, stream = Work(clips, samples, journal), stream_from_session(session)
        return predict_resumed(stream, spec, cell.batch, work, progress, smallest)


def shard_of_clips(clips: Sequence[Clip], index: int, count: int) -> tuple[Clip, ...]:
    """Return the clips whose id hashes to ``index`` of ``count``: the same on every machine."""
    return tuple(clip for clip in clips if shard_of_id(clip.id, count) == index)


def shard_of_id(clip_id: str, count: int) -> int:
    """Return the shard of a clip, by the sha256 of its id."""
    digest = hashlib.sha256(clip_id.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count
