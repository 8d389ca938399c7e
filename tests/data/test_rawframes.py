import dataclasses
import os
import socket

import numpy as np
import pytest

from harness.__main__ import main
from harness.clips import Clip
from harness.data import rawframes
from harness.data.loading import crops_from_clip, sample_from_clip
from harness.data.manifest import clip_set_from_manifest, problem_count, write_manifest
from harness.data.rawframes import extract, frames_from_folder, write_listing
from harness.data.scan import Source, scan
from harness.errors import ArtifactError, ClipError

TIMESFORMER_CONFIG = "timesformer/timesformer_divST_8x32x1_15e_kinetics400_rgb.py"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_are_those_of_the_guides(clip_path, tmp_path, extract_frames):
    expected = extract_frames(clip_path, tmp_path / "guide", short_side=320)
    (one,) = extract([Clip("a", clip_path, 0)], tmp_path / "ours")
    assert one.frames == expected["total_frames"]
    assert files(tmp_path / "ours" / clip_path.stem) == files(tmp_path / "guide" / clip_path.stem)


def test_folders_and_videos_give_the_tensors_of_mmaction2(
    clip_path, tmp_path, oracle, extract_frames, timesformer_protocol
):
    source = extract_frames(clip_path, tmp_path, short_side=320)
    expected = oracle(TIMESFORMER_CONFIG, source)["imgs"]
    for path in (clip_path, tmp_path / clip_path.stem):
        sample = sample_from_clip(Clip("a", path, 0), timesformer_protocol)
        np.testing.assert_array_equal(sample.tensor, expected)


def test_a_rotated_clip_is_extracted_upright(
    rotated_clip, tmp_path, extract_frames, timesformer_protocol
):
    extract_frames(rotated_clip, tmp_path / "guide", short_side=320)
    list(extract([Clip("a", rotated_clip, 0)], tmp_path / "ours"))
    folder = tmp_path / "ours" / rotated_clip.stem
    assert files(folder) == files(tmp_path / "guide" / rotated_clip.stem)
    video, frames = (
        crops_from_clip(Clip("a", path, 0), timesformer_protocol) for path in (rotated_clip, folder)
    )
    np.testing.assert_array_equal(video, frames)


@pytest.fixture
def clips(tmp_path, write_clip):
    return [
        Clip(str(n), write_clip(tmp_path / f"{n}.mp4", 6, (32, 24), bf="0"), n) for n in range(3)
    ]


def test_frames_are_found_as_something_something_names_them(tmp_path, clips, timesformer_protocol):
    """Folders of 00001.jpg, in mmaction2's list of folder, frames and label."""
    list(extract(clips, tmp_path / "named", 0))
    expected = crops_from_clip(Clip("1", tmp_path / "named/1", 1), timesformer_protocol)
    lines = write_listing(tmp_path / "named", clips, list(extract(clips, tmp_path / "named", 0)))
    for path in (tmp_path / "named").rglob("img_*.jpg"):
        path.rename(path.with_name(path.name.removeprefix("img_")))
    found = scan(Source(tmp_path / "named", ("a", "b", "c"), "sthv1", listing=lines))
    assert problem_count(found.problems) == 0
    second = clip_set_from_manifest(found).clips[1]
    assert (second.path, second.label) == (tmp_path / "named/1", 1)
    np.testing.assert_array_equal(crops_from_clip(second, timesformer_protocol), expected)
    (second.path / "00003.jpg").unlink()
    with pytest.raises(ClipError, match=r"no img_00003\.jpg|no 00003\.jpg"):
        crops_from_clip(second, timesformer_protocol)


def test_what_was_stopped_goes_on_where_it_stood(tmp_path, clips, monkeypatch):
    out = tmp_path / "out"
    list(extract(clips[:1], out, workers=2))
    write = rawframes.jpeg_from_frame
    monkeypatch.setattr(rawframes, "jpeg_from_frame", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(extract(clips, out))
    # Half a clip is nowhere to be seen.
    assert [path.name for path in out.iterdir()] == ["0"]
    monkeypatch.setattr(rawframes, "jpeg_from_frame", write)
    assert [one.was_there for one in extract(clips, out)] == [True, False, False]
    assert [one.frames for one in extract(clips, out)] == [6, 6, 6]


def test_clips_that_cannot_be_extracted_are_told(tmp_path, clips):
    clips[1].path.write_bytes(b"no video" * 99)
    found = list(extract(clips, tmp_path / "out"))
    assert [bool(one.unreadable) for one in found] == [False, True, False]
    assert "not a video" in str(found[1].unreadable)


def test_a_folder_that_cannot_be_written_is_told(tmp_path, clips):
    (tmp_path / "out").touch()
    with pytest.raises(ArtifactError, match="cannot write raw frames"):
        list(extract(clips[:1], tmp_path / "out"))
    with pytest.raises(ArtifactError, match="cannot write the list"):
        write_listing(tmp_path / "gone/out", clips, [])


def test_a_folder_of_another_extraction_is_told_and_left(tmp_path, clips):
    out = tmp_path / "out"
    list(extract(clips, out, short_side=0))
    assert [one.was_there for one in extract(clips, out, short_side=24)] == [True] * 3
    found = list(extract(clips, out, short_side=48))
    assert all("6 frames with a short side of 24" in str(one.unreadable) for one in found)
    (out / "0/img_00006.jpg").unlink()
    (out / "1/img_00003.jpg").write_bytes(b"")
    found = [str(one.unreadable) for one in extract(clips, out, short_side=0)]
    assert "holds 5 frames" in found[0]
    assert "no img_00003.jpg, or an empty one" in found[1]
    assert found[2] == "None"


def test_what_a_killed_process_left_is_removed(tmp_path, clips):
    out, host = tmp_path / "out", socket.gethostname()
    alive, dead, other = f".0.{host}.{os.getpid()}", f".1.{host}.{2**22 + 1}", ".2.elsewhere.1"
    for name in (alive, dead, other):
        (out / name).mkdir(parents=True)
    list(extract(clips[2:], out))
    assert {path.name for path in out.iterdir()} == {alive, other, "2"}


def test_clips_that_would_share_a_folder_are_refused(tmp_path, clips):
    with pytest.raises(ClipError, match="would share the folder 0"):
        list(extract([clips[0], Clip("other", clips[0].path, 0)], tmp_path / "out"))
    with pytest.raises(ClipError, match="is already a folder of raw frames"):
        list(extract([Clip("folder", tmp_path, 0)], tmp_path / "out"))


def test_frames_come_in_the_order_that_was_asked_for(tmp_path, clips):
    list(extract(clips[:1], tmp_path / "out"))
    frames = frames_from_folder(tmp_path / "out/0", lambda count: (5, 0, 5))
    assert count_of(tmp_path / "out/0") == 6
    np.testing.assert_array_equal(frames[0], frames[2])
    assert not np.array_equal(frames[0], frames[1])


def count_of(folder):
    counts = []
    frames_from_folder(folder, lambda count: counts.append(count) or ())
    return counts[0]


@pytest.mark.parametrize("data", [b"", b"no picture", None])
def test_a_damaged_frame_is_named(tmp_path, clips, data):
    list(extract(clips[:1], tmp_path / "out"))
    path = tmp_path / "out/0/img_00003.jpg"
    path.unlink()
    if data is None:
        path.mkdir()
    else:
        path.write_bytes(data)
    with pytest.raises(ClipError, match=r"img_00003\.jpg"):
        frames_from_folder(tmp_path / "out/0", lambda count: (2,))


def test_a_missing_frame_is_named(tmp_path, clips, timesformer_protocol):
    list(extract(clips[:1], tmp_path / "out"))
    (tmp_path / "out/0/img_00003.jpg").unlink()
    with pytest.raises(ClipError, match=r"no img_00003\.jpg"):
        crops_from_clip(Clip("a", tmp_path / "out/0", 0), timesformer_protocol)


def test_raw_frames_are_not_for_a_model_of_videos(tmp_path, clips, nonlocal_protocol):
    list(extract(clips[:1], tmp_path / "out"))
    with pytest.raises(ClipError, match="give the videos"):
        crops_from_clip(Clip("a", tmp_path / "out/0", 0), nonlocal_protocol)


def test_the_size_of_the_video_may_be_kept(tmp_path, clips, timesformer_protocol):
    list(extract(clips[:1], tmp_path / "out", short_side=0))
    protocol = dataclasses.replace(timesformer_protocol, rawframe_short_side=0)
    folder = crops_from_clip(Clip("a", tmp_path / "out/0", 0), protocol)
    np.testing.assert_array_equal(folder, crops_from_clip(clips[0], protocol))


def test_the_command_extracts_a_manifest_and_lists_it(tmp_path, clips, capsys):
    names = ("a", "b", "c")
    (tmp_path / "list").write_text("".join(f"{n}.mp4 {n}\n" for n in range(3)))
    manifest = scan(Source(tmp_path, names, "mine", listing=tmp_path / "list"))
    write_manifest(manifest, tmp_path / "m")
    command = ["dataset", "rawframes", str(tmp_path / "m"), str(tmp_path / "out")]
    assert main([*command, "--short-side", "0", "--workers", "2"]) == 0
    assert "3 clips in" in capsys.readouterr().out
    command += ["--short-side", "0"]
    assert main(command) == 0
    assert "3 of them from before" in capsys.readouterr().out
    listing = tmp_path / "out.list.txt"
    assert listing.read_text() == "0 6 0\n1 6 1\n2 6 2\n"
    scanned = scan(Source(tmp_path / "out", names, "mine", listing=listing))
    assert [(clip.id, clip.frames, clip.label) for clip in scanned.clips] == [
        ("0", 6, 0),
        ("1", 6, 1),
        ("2", 6, 2),
    ]
    (tmp_path / "1.mp4").write_bytes(b"x" * (tmp_path / "1.mp4").stat().st_size)
    (tmp_path / "out/1").rename(tmp_path / "elsewhere")
    assert main(command) == 1
    assert "unreadable: 1:" in capsys.readouterr().out
