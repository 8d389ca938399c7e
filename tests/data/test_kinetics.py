import hashlib

import pytest

from harness.clips import Clip
from harness.data.kinetics import (
    clip_set_from_list,
    content_fingerprint,
    digest_from_clips,
)
from harness.errors import ClipError

NAMES = ("abseiling", "air drumming", "zumba")


@pytest.fixture
def listed(tmp_path):
    """Write a list, with a file for each path that does not start with 'gone'."""

    def write(*lines, make=True):
        for line in lines if make else ():
            path = tmp_path / line.rpartition(" ")[0].strip()
            if not path.name.startswith("gone") and path != tmp_path:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(line.encode())
        target = tmp_path / "val.txt"
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return target

    return write


def test_a_list_becomes_a_clip_set(tmp_path, listed):
    found = clip_set_from_list(listed("zumba/a.mp4 2", "b_000010_000020.mp4 0"), NAMES)
    assert found.clips == (
        Clip("zumba/a", tmp_path / "zumba/a.mp4", 2),
        Clip("b_000010_000020", tmp_path / "b_000010_000020.mp4", 0),
    )
    assert found.name == "kinetics400"
    assert found.class_names == NAMES
    assert found.is_whole


@pytest.mark.parametrize(
    ("line", "clip_id"),
    [
        ("air drumming/my clip.mp4 1", "air drumming/my clip"),
        ("Wäsche/折 紙.mp4 1", "Wäsche/折 紙"),
        ("three   spaces.mp4    1", "three   spaces"),
        ("one\u2028separator.mp4 1", "one\u2028separator"),
        ("v1.5.mp4 1", "v1.5"),
        ("./dot.mp4 1", "dot"),
        ("plus.mp4 +1", "plus"),
    ],
)
def test_a_path_may_be_anything_a_file_may_be_called(listed, line, clip_id):
    (clip,) = clip_set_from_list(listed(line), NAMES).clips
    assert (clip.id, clip.label) == (clip_id, 1)


def test_tabs_blank_lines_carriage_returns_and_a_byte_order_mark_are_taken(tmp_path):
    (tmp_path / "a b.mp4").touch()
    target = tmp_path / "val.txt"
    target.write_bytes("\ufeffa b.mp4\t1\r\n\r\n".encode())
    (clip,) = clip_set_from_list(target, NAMES).clips
    assert (clip.id, clip.label) == ("a b", 1)


def test_paths_may_be_relative_to_a_root(tmp_path, listed):
    target = listed("videos/a.mp4 1", make=False)
    (tmp_path / "disk/videos").mkdir(parents=True)
    (tmp_path / "disk/videos/a.mp4").touch()
    (clip,) = clip_set_from_list(target, NAMES, root=tmp_path / "disk").clips
    assert clip == Clip("videos/a", tmp_path / "disk/videos/a.mp4", 1)


def test_an_absolute_path_below_the_root_has_a_relative_id(tmp_path, listed):
    listed("a.mp4 1")
    (clip,) = clip_set_from_list(listed(f"{tmp_path}/a.mp4 1", make=False), NAMES).clips
    assert clip.id == "a"


def test_an_absolute_path_elsewhere_keeps_its_whole_name(tmp_path, listed):
    listed("a.mp4 1")
    target = listed(f"{tmp_path}/a.mp4 1", make=False)
    (clip,) = clip_set_from_list(target, NAMES, root=tmp_path / "elsewhere").clips
    assert clip.id == f"{tmp_path}/a"


def test_the_digest_does_not_depend_on_the_order(listed):
    lines = ["a.mp4 0", "b.mp4 1"]
    forth = clip_set_from_list(listed(*lines), NAMES)
    back = clip_set_from_list(listed(*reversed(lines)), NAMES)
    assert forth.digest == back.digest
    assert forth.clips == back.clips[::-1]


def test_the_digest_follows_ids_labels_and_sizes(tmp_path, listed):
    digests = {clip_set_from_list(listed("a.mp4 0"), NAMES).digest}
    digests.add(clip_set_from_list(listed("a.mp4 1"), NAMES).digest)
    digests.add(clip_set_from_list(listed("b.mp4 0"), NAMES).digest)
    (tmp_path / "b.mp4").write_bytes(b"another length")
    digests.add(clip_set_from_list(listed("b.mp4 0", make=False), NAMES).digest)
    assert len(digests) == 4


def test_the_digest_can_follow_the_content(tmp_path, listed):
    target = listed("a.mp4 0")
    by_size = clip_set_from_list(target, NAMES)
    by_content = digest_from_clips(by_size.clips, content_fingerprint)
    (tmp_path / "a.mp4").write_bytes(b"A.MP4 0")
    after = clip_set_from_list(target, NAMES)
    assert after.digest == by_size.digest
    assert digest_from_clips(after.clips, content_fingerprint) != by_content


def test_the_digest_can_be_computed_by_hand(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    expected = hashlib.sha256(b"a\t1\tsize:5\n").hexdigest()
    assert digest_from_clips([Clip("a", path, 1)]) == expected


def test_a_file_that_vanished_is_named(tmp_path):
    with pytest.raises(ClipError, match=r"gone\.mp4: No such file"):
        content_fingerprint(tmp_path / "gone.mp4")


@pytest.mark.parametrize("lines", [(), ("", "  ")])
def test_an_empty_list_is_refused(listed, lines):
    with pytest.raises(ClipError, match=r"val\.txt lists no clips"):
        clip_set_from_list(listed(*lines), NAMES)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a.mp4 3", "line 2: label 3 is out of range; there are 3 classes"),
        ("a.mp4 -1", "line 2: label -1 is out of range"),
        ("a.mp4 1.0", "line 2: label '1.0' is not an integer"),
        ("a.mp4 1_0", "line 2: label '1_0' is not an integer"),
        ("a.mp4 zumba", "line 2: label 'zumba' is not an integer"),
        ("a.mp4", "line 2: expected 'path label', got 'a.mp4'"),
        ("7", "line 2: expected 'path label', got '7'"),
        ("gone.mp4 1", "line 2: no such file"),
        ("nul\0byte.mp4 1", "line 2: no such file"),
        (". 1", "line 2: no such file"),
        ("./first.mp4 1", "line 2: clip first is listed twice, first as"),
        ("first.mkv 1", "line 2: clip first is listed twice, first as"),
        ("x" * 300 + ".mp4 1", "line 2: cannot access"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path, listed, line, reason):
    for name in ("first.mp4", "first.mkv", "a.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(ClipError) as caught:
        clip_set_from_list(listed("first.mp4 0", line, make=False), NAMES)
    assert "has 1 unusable line" in str(caught.value)
    assert reason in str(caught.value)


def test_all_bad_lines_are_counted_and_the_first_ten_shown(listed):
    lines = [f"gone{number}.mp4 0" for number in range(13)]
    with pytest.raises(ClipError) as caught:
        clip_set_from_list(listed("a.mp4 0", *lines), NAMES)
    message = str(caught.value)
    assert "13 unusable lines" in message
    assert "line 11:" in message
    assert "line 12:" not in message
    assert message.endswith("and 3 more")


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(ClipError, match=r"cannot read clip list .*gone\.txt"):
        clip_set_from_list(tmp_path / "gone.txt", NAMES)


def test_a_list_that_is_not_text_is_named(tmp_path):
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClipError, match="cannot read clip list"):
        clip_set_from_list(tmp_path / "val.txt", NAMES)
