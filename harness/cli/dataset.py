"""The data set commands: ``harness dataset scan``, and the commands that use its manifest."""

import argparse
import contextlib
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.cli.arguments import (
    add_cell,
    add_command,
    add_group,
    positive,
    site_of,
    workbench_of,
    write_output,
)
from harness.clips import Predictions
from harness.data.bins import CLIPS, INFO, write_bins
from harness.data.datasets import class_names
from harness.data.labels import KINETICS400
from harness.data.manifest import (
    Manifest,
    clip_set_from_manifest,
    problem_count,
    read_manifest,
    write_manifest,
)
from harness.data.rawframes import SHORT_SIDE, extract, write_listing
from harness.data.scan import Source, scan
from harness.data.store import CropStore
from harness.data.store_list import kept_stores
from harness.data.streaming import Item, stored_samples
from harness.errors import ClipError, first_line
from harness.host.progress import Counter, Progress
from harness.measure.accuracy import accuracy_measurement
from harness.predict.chips import chip_predictions
from harness.predict.shards import merged, shard_of_set
from harness.record.npz import npz_from_predictions, predictions_from_npz
from harness.spec import Cell

SHOWN = 20


def add_commands(commands: Any) -> None:
    """Add ``dataset`` to the subcommands of ``harness``."""
    text = "scan a data set, extract raw frames, write the guides' files"
    actions = add_group(commands, "dataset", text)
    _add_scan(actions)
    _add_rawframes(actions)
    _add_predict(actions)
    _add_merge(actions)
    added = add_command(
        actions, "store", _store, "list the stores of decoded clips, or remove some"
    )
    added.add_argument("--remove", metavar="KEY", help="first letters of the key, as listed")
    _add_preprocess(commands)


def _add_scan(actions: Any) -> None:
    text = (
        "scan every clip and write a manifest: labels come from a list, from val.csv, or from the "
        "class folders; exit status 1 if something is wrong with the set"
    )
    added = add_command(actions, "scan", _scan, text, "write the manifest of a data set")
    added.add_argument("root", type=Path, help="folder of the clips: videos or raw frames")
    added.add_argument("--output", type=Path, required=True, metavar="MANIFEST")
    added.add_argument(
        "--name", default=KINETICS400, help=f"name of the set; default {KINETICS400}"
    )
    added.add_argument("--annotations", type=Path, metavar="CSV", help="val.csv of the data set")
    added.add_argument("--list", type=Path, help="lines of: path label, or: folder frames label")
    added.add_argument("--label-map", type=Path, metavar="FILE", help="one class name per line")
    added.add_argument("--content", action="store_true", help="digest the bytes, not the sizes")


def _add_rawframes(actions: Any) -> None:
    text = (
        "extract the frames of the videos of a manifest, as the guides do: one folder per clip, "
        "with img_00001.jpg and so on; an interrupted run resumes where it stopped"
    )
    added = add_command(actions, "rawframes", _rawframes, text, "extract frames to JPEG")
    added.add_argument("manifest", type=Path)
    added.add_argument("out", type=Path, help="folder of the raw frames")
    added.add_argument(
        "--short-side",
        type=_pixels,
        default=SHORT_SIDE,
        metavar="PIXELS",
        help=f"of the frames; default, as in the guides: {SHORT_SIDE}; 0 keeps the video's size",
    )
    added.add_argument("--workers", type=positive, default=1, metavar="N")


def _add_predict(actions: Any) -> None:
    text = "run one shard of a model's data set on a device, clip by clip; a rerun resumes"
    added = add_command(actions, "predict", _predict, text, "predict a shard")
    add_cell(added)
    added.add_argument("--shard", type=_shard, default=(0, 1), metavar="I/N", help="1/N to N/N")
    added.add_argument("--output", type=Path, required=True, metavar="FILE", help="an .npz file")


def _add_merge(actions: Any) -> None:
    text = "join the shards of a data set and count the correct answers; no clip may be missing"
    added = add_command(actions, "merge", _merge, text, "join shards")
    added.add_argument("model", help="name, as `harness models` lists it")
    added.add_argument("shards", type=Path, nargs="+", help="files written by `dataset predict`")
    added.add_argument("--output", type=Path, required=True, metavar="FILE", help="an .npz file")


def _add_preprocess(commands: Any) -> None:
    text = "write a data set as the guides' files: <n>.bin for each batch, and k400.info"
    parser = add_command(commands, "preprocess", _preprocess, text)
    parser.add_argument("model", help="name, as `harness models` lists it")
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--batch-size", type=positive, default=1, metavar="N")
    parser.add_argument("--manifest", type=Path, help="default: the data set in site.toml")


def _scan(options: argparse.Namespace) -> int:
    source = Source(
        root=options.root,
        class_names=class_names(options.name, options.label_map),
        name=options.name,
        annotations=options.annotations,
        listing=options.list,
        is_content=options.content,
    )
    manifest = scan(source, lambda total: Progress(sys.stderr).counter("scan", total))
    write_manifest(manifest, options.output)
    _print_manifest(manifest)
    print(f"manifest {options.output}, digest {manifest.digest}")
    return 1 if problem_count(manifest.problems) else 0


def _print_manifest(manifest: Manifest) -> None:
    classes = len({clip.label for clip in manifest.clips})
    print(f"{manifest.name}: {len(manifest.clips)} clips of {classes} classes in {manifest.root}")
    for note in manifest.notes:
        print(f"note: {note}")
    for kind, lines in manifest.problems.items():
        print(f"{kind}: {len(lines)}")
        for line in lines[:SHOWN]:
            print(f"  {line}")
        if len(lines) > SHOWN:
            print(f"  and {len(lines) - SHOWN} more; all are in the manifest")


def _rawframes(options: argparse.Namespace) -> int:
    manifest = read_manifest(options.manifest)
    clips = clip_set_from_manifest(manifest).clips
    counter = Progress(sys.stderr).counter("rawframes", len(clips))
    done = []
    for one in extract(clips, options.out, options.short_side, options.workers):
        done.append(one)
        counter(len(done))
    listed = write_listing(options.out, clips, done)
    there = sum(one.was_there for one in done)
    unreadable = [one for one in done if one.unreadable]
    print(f"{len(done) - len(unreadable)} clips in {options.out}, {there} of them from before")
    print(f"list {listed}")
    for one in unreadable:
        print(f"unreadable: {one.clip_id}: {one.unreadable}")
    return 1 if unreadable else 0


def _predict(options: argparse.Namespace) -> int:
    bench, cell = workbench_of(options), Cell(options.model, options.device, options.batch_size)
    require_writable(options.output)
    index, count = options.shard
    shard = shard_of_set(bench.clip_set(cell.model), index, count)
    with bench.beside_others():
        preds, _ = chip_predictions(cell, bench, shard)
    print(f"shard {index + 1} of {count}: {len(preds.clip_ids)} clips")
    write_predictions(options.output, preds)
    return print_unreadable(preds)


def _merge(options: argparse.Namespace) -> int:
    clip_set = workbench_of(options).clip_set(options.model)
    require_writable(options.output)
    preds = merged([_predictions_of(path) for path in options.shards], clip_set)
    found = accuracy_measurement(preds, clip_set)
    for name, count in (("top-1", found.top1), ("top-5", found.top5)):
        low, high = (100 * edge for edge in (count.interval.low, count.interval.high))
        print(f"{name}: {count.k} of {count.n} clips, 95 % interval {low:.2f} to {high:.2f} %")
    write_predictions(options.output, preds)
    print(f"clip set {clip_set.digest}")
    return print_unreadable(preds)


def _preprocess(options: argparse.Namespace) -> int:
    bench = workbench_of(options)
    spec = bench.model(options.model)
    if options.manifest is None:
        clip_set = bench.clip_set(options.model)
    else:
        clip_set = clip_set_from_manifest(read_manifest(options.manifest))
    store = CropStore(bench.site.cache_dir / "crops", spec.protocol, clip_set)
    with contextlib.closing(stored_samples(store, clip_set.clips)) as items:
        count = bench.progress.counter("preprocess", len(clip_set.clips))
        counted = _counted(items, count)
        written = write_bins(options.out, spec, options.batch_size, clip_set.clips, counted)
    for one in spec.batched_inputs(options.batch_size):
        folder = options.out / one.name if len(spec.inputs) > 1 else options.out
        print(
            f"{written.files} files of float32 {list(one.shape)}, {written.clips} clips, in {folder}"
        )
    print(f"labels {options.out / INFO}, clip names {options.out / CLIPS}")
    if written.padding:
        print(f"the last file ends with {written.padding} padding samples of zeros")
    for line in written.unreadable:
        print(f"unreadable: {line}")
    return 1 if written.unreadable else 0


def _store(options: argparse.Namespace) -> int:
    root = site_of(options).cache_dir / "crops"
    for kept in kept_stores(root):
        verb = ""
        if options.remove is not None and kept.folder.name.startswith(options.remove):
            kept.remove()
            verb = "removed "
        size = f"{kept.nbytes / 1e6:.1f} MB"
        print(f"{verb}{kept.folder.name[:12]}  {kept.done} clips, {size}, set {kept.clips[:12]}")
    return 0


def _counted(items: Iterable[Item], count: Counter) -> Iterator[Item]:
    for done, item in enumerate(items, start=1):
        count(done)
        yield item


def require_writable(path: Path) -> None:
    """Fail before the work, not after it, if predictions cannot be written.

    Raises:
        ClipError: the folder does not exist or is not writable.
    """
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
        raise ClipError(
            f"cannot write predictions to {path}: create {path.parent}, or choose another"
        )


def write_predictions(path: Path, preds: Predictions) -> None:
    """Write predictions as an .npz file and print its path and sha256.

    Raises:
        InputError: the file cannot be written.
    """
    content = npz_from_predictions(preds)
    write_output(path, content)
    print(f"predictions {path}, sha256 {hashlib.sha256(content).hexdigest()}")


def _predictions_of(path: Path) -> Predictions:
    try:
        return predictions_from_npz(path)
    except (OSError, ValueError, KeyError) as error:
        raise ClipError(
            f"cannot read predictions {path}: {first_line(error)}; give files that `harness "
            "dataset predict` wrote"
        ) from error


def print_unreadable(preds: Predictions) -> int:
    """Print the clips that could not be read and return the exit status: 1 if there are any."""
    for name, reason in preds.unreadable.items():
        print(f"unreadable: {name}: {reason}")
    return 1 if preds.unreadable else 0


def _pixels(text: str) -> int:
    return 0 if text == "0" else positive(text)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a shard; give, of four, 1/4, 2/4, 3/4 or 4/4"
        )
    return int(index) - 1, int(count)
