"""The six batch sizes of Nonlocal from one decode, against the guide's procedure for each.

The guide prepares float32 files anew for each batch size: mmaction2's pipeline, one file per batch,
read back for the device. The harness decodes each clip once into the tensor store and reads it for
each batch size. Both run in one process on one core; disk space is as the file system counts it.

python benchmarks/batches.py [--clips DIR] [--count N]
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import kinetics_like
import numpy as np
from measured import finish

from harness.clips import Clip, ClipSet
from harness.data.loading import crops_from_clip, sample_from_crops
from harness.data.store import CropStore
from harness.data.transforms import batch_rows
from harness.predict.run import feed_from_samples
from harness.registry import model_spec

GOAL = 8.0
GOAL_DISK = 0.26
BATCHES = (1, 4, 8, 16, 32, 64)
SPEC = model_spec("nonlocal_r50")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path, help="folder of clips; default: made from real ones")
    parser.add_argument("--count", type=int, default=64, help="clips, taken in turn")
    options = parser.parse_args()
    kinetics_like.use_one_core()
    guide = kinetics_like.guide_pipeline(SPEC)
    with tempfile.TemporaryDirectory() as folder:
        paths = list(kinetics_like.clips(options.clips, Path(folder)).values())
        clips = tuple(
            Clip(f"{number:05d}", paths[number % len(paths)], 0) for number in range(options.count)
        )
        guide(paths[0])
        guide_s = guide_disk = 0.0
        print(f"  CPU seconds for {len(clips)} clips\n  {'batch':>7}{'guide':>9}{'harness':>9}")
        store, decode_s = filled(Path(folder) / "store", clips)
        ours_s = decode_s
        print(f"  {'decode':>7}{'':>9}{decode_s:>9.2f}")
        for batch in BATCHES:
            taken_s, disk = guide_once(guide, clips, batch, Path(folder) / "bins")
            read_s = read_once(store, clips, batch)
            guide_s, guide_disk, ours_s = guide_s + taken_s, guide_disk + disk, ours_s + read_s
            print(f"  {batch:>7}{taken_s:>9.2f}{read_s:>9.2f}", flush=True)
        share = store.nbytes() / (guide_disk / len(BATCHES))
        whole = store.nbytes() / guide_disk
    print(f"  disk: {share:.4f} of the files of one batch size (goal <= {GOAL_DISK})")
    print(f"  disk: {whole:.4f} of the files of all six")
    status = finish("batches", guide_s / ours_s, GOAL, at_least=True)
    return status or int(share > GOAL_DISK)


def chunked(clips: tuple[Clip, ...], size: int) -> list[tuple[Clip, ...]]:
    """Split the clips into batches; the last may be shorter."""
    return [clips[start : start + size] for start in range(0, len(clips), size)]


def filled(root: Path, clips: tuple[Clip, ...]) -> tuple[CropStore, float]:
    """Decode every clip once into a store."""
    store = CropStore(root, SPEC.protocol, ClipSet("made", clips, ("any",), "d" * 64))
    start_s = time.process_time()
    with store.filling():
        for clip in clips:
            store.commit(clip, store.place(clip).write(crops_from_clip(clip, SPEC.protocol)))
    return store, time.process_time() - start_s


def read_once(store: CropStore, clips: tuple[Clip, ...], batch: int) -> float:
    """Read every clip, checked and normalised, into feeds of a batch size."""
    start_s = time.process_time()
    for part in chunked(clips, batch):
        pairs = zip(map(store.read, part), batch_rows(SPEC.protocol, batch), strict=False)
        samples = [
            sample_from_crops(clip.id, crops, SPEC.protocol, row)
            for clip, (crops, row) in zip(part, pairs, strict=False)
            if crops is not None
        ]
        feed_from_samples(SPEC, batch, samples)
    return time.process_time() - start_s


def guide_once(guide, clips, batch: int, out: Path) -> tuple[float, int]:  # type: ignore[no-untyped-def]
    """Prepare the guide's files of one batch size, read them back, and return time and bytes."""
    out.mkdir()
    start_s = time.process_time()
    for number, part in enumerate(chunked(clips, batch)):
        imgs = np.stack([guide(clip.path) for clip in part])
        padded = np.concatenate([imgs, np.zeros((batch - len(part), *imgs.shape[1:]), np.float32)])
        padded.astype(np.float32, copy=False).tofile(out / f"{number}.bin")
    for path in out.iterdir():
        np.fromfile(path, np.float32)
    taken_s = time.process_time() - start_s
    size = sum(path.stat().st_blocks * 512 for path in out.iterdir())
    shutil.rmtree(out)
    return taken_s, size


if __name__ == "__main__":
    sys.exit(main())
