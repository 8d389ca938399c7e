"""From what a user has on disk to a verdict: videos, and raw frames of the same clips."""

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest

from harness.__main__ import main
from harness.cli import dataset
from harness.cli.arguments import workbench_of
from harness.clips import Predictions
from harness.data.datasets import motion8
from harness.data.manifest import clip_set_from_manifest, read_manifest
from harness.device import Session
from harness.errors import ClipError, InputError, RunError
from harness.predict import device_predictions
from harness.predict.shards import merged
from harness.record.npz import predictions_from_npz
from harness.spec import Cell, Status

CELL = Cell("nonlocal_tiny", "cpu", 4)


@pytest.fixture(scope="module")
def disk(tmp_path_factory, clip_set):
    """Clips of motion8 in a folder for each class, scanned; and their raw frames, scanned."""
    folder = tmp_path_factory.mktemp("disk")
    (folder / "names").write_text("\n".join(motion8().class_names))
    for clip in clip_set.clips:
        target = folder / "videos" / motion8().class_names[clip.label] / clip.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip.path, target)

    def command(*words):
        assert main(["dataset", *map(str, words)]) == 0

    scan = ("--label-map", folder / "names", "--name", "motion8", "--output")
    command("scan", folder / "videos", "--content", *scan, folder / "videos.manifest")
    command("rawframes", folder / "videos.manifest", folder / "frames", "--short-side", "0")
    listing = ("--list", folder / "frames.list.txt")
    command("scan", folder / "frames", *listing, *scan, folder / "frames.manifest")
    return folder


@pytest.fixture(params=["videos", "frames"])
def layout(request):
    return request.param


@pytest.fixture
def suite(disk, layout, fitted, make_suite, cache, in_process):
    spec, _ = fitted
    if layout == "frames":
        protocol = dataclasses.replace(spec.protocol, source="rawframes", rawframe_short_side=0)
        spec = dataclasses.replace(spec, protocol=protocol)
    clips = clip_set_from_manifest(read_manifest(disk / f"{layout}.manifest"))
    return make_suite(cache, model=spec, clips=clips)


@pytest.fixture
def bench(suite, monkeypatch):
    monkeypatch.setattr(dataset, "workbench_of", lambda options: suite.bench)
    return suite.bench


def test_the_whole_set_passes_and_the_record_names_the_manifest(disk, layout, suite):
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.PASS, record.verdict.reason
    manifest = read_manifest(disk / f"{layout}.manifest")
    assert record.subjects["clips"] == manifest.digest
    assert record.measurement.clip_set_digest == manifest.digest
    assert record.measurement.top1.k == 16
    assert not list((suite.bench.site.cache_dir / "partial").glob("*.scores"))


def test_the_two_layouts_have_two_digests(disk):
    digests = {read_manifest(disk / f"{name}.manifest").digest for name in ("videos", "frames")}
    assert len(digests) == 2


def test_a_clip_that_cannot_be_read_makes_the_cell_invalid(suite, tmp_path, layout):
    clips = suite.bench.clip_set(CELL.model)
    if layout == "videos":
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"no video")
    else:
        broken = tmp_path / "no frames"
        broken.mkdir()
    bad = dataclasses.replace(clips.clips[3], path=broken)
    changed = (*clips.clips[:3], bad, *clips.clips[4:])
    suite.bench.clip_set = lambda name: dataclasses.replace(clips, clips=changed, digest=layout)
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is Status.INVALID
    assert bad.id in record.verdict.reason


def test_shards_join_to_what_one_run_says(bench, tmp_path, capsys):
    whole = ["dataset", "predict", CELL.model, "--batch-size", "4", "--output"]
    assert main([*whole, str(tmp_path / "whole.npz")]) == 0
    digest = hashlib.sha256((tmp_path / "whole.npz").read_bytes()).hexdigest()
    assert f"sha256 {digest}" in capsys.readouterr().out
    shards = [str(tmp_path / f"{number}.npz") for number in (1, 2, 3)]
    for number, path in enumerate(shards, start=1):
        assert main([*whole, path, "--shard", f"{number}/3"]) == 0
    assert f"shard {number} of 3" in capsys.readouterr().out
    merge = ["dataset", "merge", CELL.model, "--output", str(tmp_path / "merged.npz")]
    assert main([*merge, *shards]) == 0
    printed = capsys.readouterr().out
    assert "top-1: 16 of 16 clips" in printed
    assert bench.clip_set(CELL.model).digest in printed
    expected, found = (
        predictions_from_npz(tmp_path / f"{name}.npz") for name in ("whole", "merged")
    )
    assert found.clip_ids == expected.clip_ids
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    assert main([*merge, *shards[:2]]) == 2
    assert "are in none of the shards" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"junk", b"other", b""])
def test_what_holds_no_predictions_is_refused(bench, tmp_path, capsys, content):
    path = tmp_path / "shard.npz"
    if content == b"other":
        np.savez(path, another=np.zeros(1))
    elif content is not None:
        path.write_bytes(content)
    command = ["dataset", "merge", CELL.model, str(path), "--output", str(tmp_path / "all.npz")]
    assert main(command) == 2
    assert f"cannot read predictions {path}" in capsys.readouterr().err


def test_an_output_without_a_folder_is_refused_before_the_work(bench, tmp_path, capsys):
    path = tmp_path / "gone" / "p.npz"
    bench.device_model = None
    assert main(["dataset", "predict", CELL.model, "--output", str(path)]) == 2
    assert f"create {path.parent}" in capsys.readouterr().err


def test_a_disk_that_does_not_take_the_predictions_is_said(tmp_path):
    preds = Predictions((), np.zeros((0, 1, 8), np.float32), {})
    with pytest.raises(InputError, match="cannot be written"):
        dataset.write_predictions(tmp_path, preds)


def test_a_killed_run_repeats_no_batch(bench, layout):
    clips = bench.clip_set(CELL.model).clips
    with device_predictions.open_session(CELL, bench) as session:
        run, seen = session.run, []

        class Unplugged(Session):
            def run(self, feed):
                if len(seen) == 2:
                    raise RunError("unplugged")
                seen.append(feed)
                return run(feed)

        plan = device_predictions.plan_from_bench(CELL, bench)

        def predict(device):
            return device_predictions.shard_predictions(plan, device, (0, 1))

        with pytest.raises(RunError, match="unplugged"):
            predict(Unplugged())

        class Counted(Session):
            def run(self, feed):
                seen.append(feed)
                return run(feed)

        assert predict(Counted()).clip_ids == tuple(clip.id for clip in clips)
        assert len(seen) == 4


def test_the_guides_files_hold_the_tensors_of_the_clips(bench, disk, layout, tmp_path, capsys):
    out = tmp_path / "out_bin"
    command = ["preprocess", CELL.model, str(out), "--batch-size", "5"]
    assert main([*command, "--manifest", str(disk / f"{layout}.manifest")]) == 0
    assert "the last file ends with 4 padding samples of zeros" in capsys.readouterr().out
    assert sorted(path.name for path in out.glob("*.bin")) == [f"{n}.bin" for n in range(4)]
    labels = [int(line.split()[1]) for line in (out / "k400.info").read_text().splitlines()]
    assert labels == [clip.label for clip in bench.clip_set(CELL.model).clips]
    assert main(["preprocess", CELL.model, str(tmp_path / "two"), "--batch-size", "4"]) == 0
    assert "zeros" not in capsys.readouterr().out
    assert main(command) == 2


def test_unreadable_clips_are_told_by_the_commands(bench, tmp_path, capsys):
    clips = bench.clip_set(CELL.model)
    gone = dataclasses.replace(clips.clips[0], path=tmp_path / "gone.mp4")
    bench.clip_set = lambda name: dataclasses.replace(
        clips, clips=(gone, *clips.clips[1:4]), digest=f"gone {tmp_path}"
    )
    assert main(["preprocess", CELL.model, str(tmp_path / "out")]) == 1
    assert f"unreadable: {gone.id}" in capsys.readouterr().out
    path = str(tmp_path / "p.npz")
    assert main(["dataset", "predict", CELL.model, "--batch-size", "4", "--output", path]) == 1
    assert f"unreadable: {gone.id}" in capsys.readouterr().out


@pytest.mark.parametrize("shard", ["0/2", "3/2", "a/b", "1"])
def test_what_is_no_shard_is_refused(shard, capsys):
    with pytest.raises(SystemExit):
        main(["dataset", "predict", "nonlocal_tiny", "--output", "x", "--shard", shard])
    assert "is not a shard" in capsys.readouterr().err


def test_what_is_no_size_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["dataset", "rawframes", "m", "out", "--short-side", "-3"])
    assert "is not a whole number" in capsys.readouterr().err


def test_what_is_no_count_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["preprocess", "nonlocal_tiny", "x", "--batch-size", "0"])
    assert "is not a whole number" in capsys.readouterr().err


def test_shards_that_are_not_of_the_set_are_refused(clip_set):
    def preds(*ids):
        return Predictions(ids, np.zeros((len(ids), 1, 8), np.float32), {})

    ids = tuple(clip.id for clip in clip_set.clips)
    with pytest.raises(ClipError, match="in two shards"):
        merged([preds(*ids), preds(ids[0])], clip_set)
    with pytest.raises(ClipError, match="not in the data set"):
        merged([preds(*ids, "other")], clip_set)
    of_another = Predictions(ids[1:], np.zeros((len(ids) - 1, 3, 8), np.float32), {})
    with pytest.raises(ClipError, match=r"from different models"):
        merged([preds(ids[0]), of_another], clip_set)


def test_the_commands_find_their_site(tmp_path):
    (tmp_path / "site.toml").write_text('run_root = "mine"\n')
    bench = workbench_of(type("Options", (), {"site": tmp_path / "site.toml"}))
    assert bench.site.run_root == tmp_path / "mine"
