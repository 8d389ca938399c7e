import dataclasses
import json
import os

import pytest

from harness.__main__ import main
from harness.data.labels import kinetics400_names, name_notes, names_digest, names_from_map
from harness.data.manifest import clip_set_from_manifest, read_manifest, write_manifest
from harness.data.scan import Source, scan
from harness.errors import ClipError
from harness.host.site import FIXTURES

NAMES = ("air drumming", "massaging person's head", "zumba")


@pytest.fixture(scope="session")
def video(tmp_path_factory, write_clip):
    return write_clip(tmp_path_factory.mktemp("one") / "clip.mp4", 3, (32, 32)).read_bytes()


@pytest.fixture
def disk(tmp_path, video):
    """Put a video, or the given bytes, at a path below the folder."""

    def put(*names, data=None):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(video if data is None else data)
        return tmp_path

    return put


def annotate(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["label,youtube_id,time_start,time_end,split", *rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def labels(manifest):
    return {clip.id: clip.label for clip in manifest.clips}


def test_ids_are_those_of_kinetics_400():
    names = kinetics400_names()
    assert names_digest(names).startswith("a8dafb93a1204d4e")
    assert (names[0], names[399]) == ("abseiling", "zumba")
    assert name_notes(names) == []


def test_other_names_are_said_aloud():
    notes = "\n".join(name_notes([*NAMES[1:], NAMES[0]]))
    assert "there are 3 class names, Kinetics-400 has 400" in notes
    assert "begins a8dafb93a1204d4e" in notes
    assert "do not follow the alphabetical order" in notes


def test_names_come_from_a_file(tmp_path):
    path = tmp_path / "map.txt"
    path.write_text("\n".join(NAMES) + "\n")
    assert names_from_map(path) == NAMES
    path.write_text(json.dumps({'"zumba"': 2, "air drumming": 0, NAMES[1]: 1}))
    assert names_from_map(path) == NAMES


@pytest.mark.parametrize("text", ["", "a\nA\n", '{"a": 1}', '{"a": "x"}', "{"])
def test_a_map_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "map.txt"
    path.write_text(text)
    with pytest.raises(ClipError, match=r"map\.txt"):
        names_from_map(path)


def test_folders_of_classes_give_the_labels(disk):
    root = disk(
        "air_drumming/ä b_000010_000020.mp4", "zumba/x.mkv", "Massaging person's head/折 紙.mp4"
    )
    disk("zumba/notes.txt", "loose.mp4", "unknown/y.mp4")
    found = scan(Source(root, NAMES))
    assert labels(found) == {
        "air_drumming/ä b_000010_000020": 0,
        "zumba/x": 2,
        "Massaging person's head/折 紙": 1,
    }
    assert found.problems == {"unlabelled": ("loose", "unknown/y")}
    assert {clip.frames for clip in found.clips} == {3}
    assert found.notes


def test_a_set_with_fewer_classes_than_its_name_says_is_noted():
    folder = FIXTURES / "motion8"
    source = Source(folder, kinetics400_names(), listing=folder / "labels.txt")
    (note,) = scan(source).notes
    assert note.startswith("there are clips of 8 classes, kinetics400 has 400: if this is another")
    assert scan(dataclasses.replace(source, name="motion8")).notes == ()


def test_the_layout_of_cvdf_is_known(tmp_path, disk):
    disk("val/abc_00_f-_000010_000020.mp4", "val/plain.mp4", "val/odd one.mp4")
    annotate(
        tmp_path / "annotations/val.csv",
        "zumba,abc_00_f-,10,20,validate",
        "air drumming,plain,0,10,validate",
        "air drumming,gone,7,17,validate",
        "curling,odd one,7,17,validate",
        "zumba,plain,30,40,validate",
    )
    found = scan(Source(tmp_path, NAMES))
    assert labels(found) == {"abc_00_f-_000010_000020": 2, "plain": 0}
    assert found.problems == {
        "missing": ("gone_000007_000017 (air drumming)",),
        "duplicate": ("plain_000030_000040 is annotated twice",),
        "unlabelled": ("odd one_000007_000017: 'curling' is not a class",),
    }


def test_annotations_find_clips_in_folders_and_disagree_aloud(tmp_path, disk):
    disk("val/zumba/a_000001_000011.mp4", "val/air drumming/a_000001_000011.mp4", "val/new.mp4")
    rows = ("zumba,a,1,11,validate",)
    source = Source(tmp_path / "val", NAMES, annotations=annotate(tmp_path / "v.csv", *rows))
    found = scan(source)
    assert labels(found) == {"air drumming/a_000001_000011": 2}
    assert [(kind, len(lines)) for kind, lines in found.problems.items()] == [
        ("duplicate", 1),
        ("unlabelled", 1),
        ("contradicted", 1),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"label,youtube_id\n", "needs the columns"),
        (b"label,youtube_id,time_start,time_end\nzumba,a,x,1\n", "a has no times"),
        (b"\xff\xfe", "cannot read annotations"),
    ],
)
def test_annotations_that_are_none_are_refused(tmp_path, disk, text, reason):
    disk("a.mp4")
    path = tmp_path / "val.csv"
    path.write_bytes(text)
    with pytest.raises(ClipError, match=reason):
        scan(Source(tmp_path, NAMES, annotations=path))


def test_lists_of_videos_and_of_raw_frames_are_taken(tmp_path, disk):
    root = disk("a b.mp4", "c 7/img_00001.jpg", "c 7/img_00002.jpg", "d/img_00002.jpg", "x.mp4")
    listing = tmp_path / "list.txt"
    lines = ["a b.mp4 2", "c 7 2 1", "d 9 0", "gone.mp4 1", "a b.mp4 2", "x.mp4 3", "x.mp4 zumba"]
    lines += ["alone", "\0 3", "x" * 300 + " 3", "x" * 300 + " 2 3"]
    lines += ["x.mp4 --5", "x.mp4 " + "9" * 5000, ""]
    listing.write_text("\n".join(lines), encoding="utf-8")
    found = scan(Source(root, NAMES, listing=listing))
    assert labels(found) == {"a b": 2, "c 7": 1, "d": 0}
    assert [clip.frames for clip in found.clips] == [3, 2, None]
    counts = {kind: len(lines) for kind, lines in found.problems.items()}
    assert counts == {
        "missing": 4,
        "unreadable": 1,
        "duplicate": 1,
        "unlabelled": 5,
        "contradicted": 1,
    }
    assert found.problems["unreadable"][0].endswith("it has no img_00001.jpg, or an empty one")


def test_a_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff")
    with pytest.raises(
        ClipError, match=r"no clip with a label .*unlabelled: line 1: .*correct the"
    ):
        scan(Source(tmp_path, NAMES, listing=tmp_path / "list.txt"))
    with pytest.raises(ClipError, match="cannot read clip list"):
        scan(Source(tmp_path, NAMES, listing=tmp_path / "gone.txt"))


def test_names_that_are_not_utf8_are_listed(tmp_path, disk):
    root = disk("a.mp4")
    (root / "a.mp4").rename(root / os.fsdecode(b"caf\xe9.mp4"))
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.mp4 1\n")
    assert labels(scan(Source(root, NAMES, listing=tmp_path / "list.txt"))) == {"caf\udce9": 1}


@pytest.mark.parametrize("is_content", [False, True])
def test_a_link_that_leads_nowhere_is_unreadable_and_counts(disk, is_content):
    root = disk("zumba/good.mp4", "zumba/.hidden.mp4", "zumba/._good.mp4", ".cache/zumba/b.mp4")
    (root / "zumba/gone.mp4").symlink_to("/nonexistent")
    found = scan(Source(root, NAMES, is_content=is_content))
    assert [(clip.id, bool(clip.unreadable)) for clip in found.clips] == [
        ("zumba/gone", True),
        ("zumba/good", False),
    ]
    assert "No such file" in found.problems["unreadable"][0]
    assert [clip.id for clip in clip_set_from_manifest(found).clips] == ["zumba/gone", "zumba/good"]


def test_a_clip_that_goes_while_it_is_looked_at_is_unreadable(disk, monkeypatch):
    root = disk("zumba/good.mp4")
    monkeypatch.setattr("harness.data.scan.frame_count", lambda path: path.unlink() or 3)
    (clip,) = scan(Source(root, NAMES)).clips
    assert "cannot read clip" in str(clip.unreadable)


def test_a_link_that_leads_back_up_is_refused(disk):
    root = disk("zumba/good.mp4")
    (root / "zumba/up").symlink_to("..")
    with pytest.raises(ClipError, match="leads back up"):
        scan(Source(root, NAMES))


def test_a_folder_that_cannot_be_listed_is_not_passed_over(disk, monkeypatch):
    root = disk("zumba/good.mp4", "yoga/other.mp4")
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("yoga"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ClipError, match=r"cannot list the folder .*yoga: Permission denied"):
        scan(Source(root, NAMES))


def test_unreadable_clips_stay_and_say_why(disk, video):
    root = disk("zumba/good.mp4")
    disk("zumba/cut.mp4", data=video[: len(video) // 2])
    disk("zumba/empty.mp4", data=b"")
    disk("zumba/text.mp4", data=b"no video" * 99)
    found = scan(Source(root, NAMES))
    reasons = {clip.id: clip.unreadable or "" for clip in found.clips}
    assert reasons["zumba/good"] == ""
    assert "truncated" in reasons["zumba/cut"]
    assert "empty" in reasons["zumba/empty"]
    assert "not a video" in reasons["zumba/text"]
    assert len(found.problems["unreadable"]) == 3


def test_the_same_bytes_twice_are_found_by_content(disk):
    root = disk("zumba/a.mp4", "zumba/b.mp4")
    assert "duplicate" not in scan(Source(root, NAMES)).problems
    found = scan(Source(root, NAMES, is_content=True))
    assert found.problems["duplicate"] == ("zumba/b has the same content as zumba/a",)


@pytest.mark.parametrize(
    ("folder", "reason"), [(".", "holds no clip with a label"), ("none", "none does not exist")]
)
def test_nothing_to_scan_is_an_error(tmp_path, folder, reason):
    with pytest.raises(ClipError, match=reason):
        scan(Source(tmp_path / folder, NAMES))


def test_a_manifest_comes_back_as_it_was(tmp_path, disk):
    root = disk("zumba/折.mp4", "zumba/b.mp4")
    disk("zumba/empty.mp4", data=b"")
    manifest = scan(Source(root, NAMES, "mine"))
    path = tmp_path / "new/mine.manifest"
    write_manifest(manifest, path)
    assert read_manifest(path) == manifest
    found = clip_set_from_manifest(manifest)
    assert (found.name, found.digest, found.class_names) == ("mine", manifest.digest, NAMES)
    assert {clip.path for clip in found.clips} == {root / clip.path for clip in manifest.clips}


def test_clips_that_changed_since_the_scan_are_named(tmp_path, disk):
    root = disk("zumba/a.mp4", "zumba/b.mp4", "zumba/c/img_00001.jpg")
    manifest = scan(Source(root, NAMES))
    (root / "zumba/a.mp4").unlink()
    (root / "zumba/c/img_00002.jpg").touch()
    with pytest.raises(
        ClipError, match=r"2 clips .*zumba/a is gone .*zumba/c has a different size"
    ):
        clip_set_from_manifest(manifest)


def test_a_manifest_may_say_that_its_clips_moved(tmp_path, disk):
    root = disk("here/zumba/a.mp4") / "here"
    write_manifest(scan(Source(root, NAMES)), tmp_path / "m")
    root.rename(tmp_path / "there")
    (clip,) = clip_set_from_manifest(read_manifest(tmp_path / "m", tmp_path / "there")).clips
    assert clip.path == tmp_path / "there/zumba/a.mp4"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace('"label": 2', '"label": 1'), "was edited or cut"),
        (lambda text: text[: text.index("\n") + 1], "was edited or cut"),
        (lambda text: text[:-9], "was edited or cut"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "not a clip manifest"),
        (lambda text: "a.mp4 3\n", "cannot read manifest"),
        (lambda text: "{}\n", "cannot read manifest"),
        (lambda text: text.replace('"zumba/a.mp4"', "0"), "the path of a clip is 0"),
        (lambda text: text.replace('"id": "z', '"id": "\\ud800'), "surrogates not allowed"),
        (lambda text: text.replace('"label": 2', '"label": "2"'), 'the label of a clip is "2"'),
        (lambda text: text.replace('"kinetics400"', "0"), r"\[0\] should be text"),
        (lambda text: text.replace('"notes": [', '"notes": [7, '), r"\[7, .* should be text"),
        (lambda text: text.replace('"problems": {}', '"problems": []'), "cannot read manifest"),
    ],
    ids=[
        "label",
        "clips",
        "end",
        "version",
        "list",
        "empty",
        "path",
        "surrogate",
        "text",
        "name",
        "notes",
        "problems",
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path, disk, change, reason):
    path = tmp_path / "m"
    write_manifest(scan(Source(disk("zumba/a.mp4"), NAMES)), path)
    path.write_text(change(path.read_text()))
    with pytest.raises(ClipError, match=reason):
        read_manifest(path)


def test_an_empty_manifest_and_an_unwritable_one_are_refused(tmp_path, disk):
    manifest = scan(Source(disk("zumba/a.mp4"), NAMES))
    with pytest.raises(ClipError, match="cannot write manifest"):
        write_manifest(manifest, tmp_path / "zumba/a.mp4/m")
    empty = type(manifest)("none", tmp_path, NAMES, ())
    with pytest.raises(ClipError, match="lists no clips"):
        clip_set_from_manifest(empty)


def test_the_command_writes_a_manifest_and_says_what_is_wrong(tmp_path, disk, capsys):
    root = disk("zumba/a.mp4", *(f"stray {number}.mp4" for number in range(25)))
    (tmp_path / "map.txt").write_text("\n".join(NAMES))
    command = ["dataset", "scan", str(root), "--output", str(tmp_path / "m")]
    assert main([*command, "--label-map", str(tmp_path / "map.txt")]) == 1
    printed = capsys.readouterr().out
    assert "note: there are 3 class names" in printed
    assert "unlabelled: 25" in printed
    assert "and 5 more" in printed
    for path in root.glob("stray*"):
        path.unlink()
    assert main([*command, "--label-map", str(tmp_path / "map.txt"), "--name", "mine"]) == 0
    assert f"digest {read_manifest(tmp_path / 'm').digest}" in capsys.readouterr().out
    assert main(command) == 0
