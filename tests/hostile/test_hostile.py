"""What is planted on purpose in place of a file: no reader hangs, fills the memory or breaks.

Each is read in a process of its own that may take a gigabyte and twenty seconds.
"""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from harness.__main__ import main
from harness.cli import sign as sign_commands
from harness.clips import Clip, ClipSet
from harness.contract.thresholds import tables_from_toml
from harness.data.clip_files import frame_count
from harness.data.loading import crops_from_clip
from harness.data.manifest import clip_set_from_manifest, read_manifest, write_manifest
from harness.data.scan import Source, scan
from harness.data.transforms import jpeg_from_frame
from harness.errors import ClipError, HarnessError, HistoryError, ThresholdsError
from harness.host.site import FIXTURES
from harness.nightly.history import History
from harness.registry import model_spec
from tests.fuzz.readers import readers
from tests.limited import GIB, limited
from tests.made import record

# What these are given is not a path: the output of a program, or a file that another reader opened.
TEXTS = {"latencies", "starts", "soak", "npu-smi table", "graph of an .om", "npy"}
# What the suite keeps for itself: it is made again, or its absence is a known state.
MADE_AGAIN = {"provenance", "crop journal", "crop store", "score journal", "lock note"}
# `verify` lists what is wrong in place of raising it.
LISTED = {"test result", "summary"}
# Any text is a list of names.
NAMES = {"label map", "label map in JSON"}
MAY_BE_EMPTY = {"site", "records.jsonl"}
DEEP = 50_000


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("readers"))


@pytest.fixture
def kept(table):
    """Put every valid file back."""
    contents = {reader.path: reader.path.read_bytes() for reader in table.values()}
    yield table
    for path, content in contents.items():
        remove(path)
        path.write_bytes(content)


def remove(path):
    with contextlib.suppress(FileNotFoundError):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def a_device(path):
    path.symlink_to("/dev/zero")


def a_pipe(path):
    os.mkfifo(path)


def a_folder(path):
    path.mkdir()


def a_terabyte(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


def nested_lists(path):
    path.write_bytes(b"[" * DEEP)


def nested_objects(path):
    path.write_bytes(b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"\n")


def a_line_of_brackets(path):
    path.write_bytes(b"a = " + b"[" * 9000)


def an_endless_key(path):
    path.write_bytes(b"a." * 500_000 + b"b = 1")


def nothing(path):
    path.touch()


PLANTED = [
    *(a_device, a_pipe, a_folder, a_terabyte, nothing),
    *(nested_lists, nested_objects, a_line_of_brackets, an_endless_key),
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_no_reader_is_harmed(kept, plant):
    harm = {}
    for name in kept.keys() - TEXTS:
        remove(kept[name].path)
        plant(kept[name].path)
        harm |= harm_to(name, kept[name])
    assert harm == {}


def harm_to(name, reader):
    """Return what is wrong with what a reader makes of its file."""
    try:
        found = limited(reader.read, reader.path)
    except reader.errors:
        return {}
    except BaseException as error:
        return {name: repr(error)}
    return {} if is_harmless(name, found) else {name: f"taken as {found!r:.80}"}


def is_harmless(name, found):
    if name in LISTED:
        return bool(found.problems)
    return name in MADE_AGAIN | NAMES | MAY_BE_EMPTY


def test_a_number_of_cases_is_planted(table):
    assert len(PLANTED) * len(table.keys() - TEXTS) >= 150


def test_json_in_the_history_may_not_nest_either(kept):
    path = kept["history"].path
    for text in ("[" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "[1]", "nonsense"):
        with sqlite3.connect(path) as file:
            file.execute("UPDATE facts SET json = ?", (text,))
        file.close()
        with pytest.raises(HistoryError, match="is damaged"):
            limited(History(path).series)


def test_a_view_in_a_history_of_anothers_making_is_not_run(kept):
    path = kept["history"].path
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n"
    with sqlite3.connect(path) as file:
        file.execute("ALTER TABLE metrics RENAME TO old")
        file.execute(f"CREATE VIEW metrics AS {endless}")
    file.close()
    with pytest.raises(HistoryError, match="no harness writes"):
        limited(History(path).series)


def test_a_file_may_be_as_long_as_its_limit_and_no_longer(tmp_path):
    path = tmp_path / "thresholds.toml"
    path.write_text("a = 1\n" + "#\n" * (1 << 19))
    with pytest.raises(
        ThresholdsError, match="has 1048582 bytes, and no more than 1048576 are read"
    ):
        tables_from_toml(path)
    path.write_text("a = 1\n" + "#\n" * ((1 << 19) - 3))
    assert tables_from_toml(path)[1] == {"a": 1}


def test_what_is_harmed_is_seen():
    with pytest.raises(MemoryError):
        limited(lambda: bytes(2 * GIB))
    with pytest.raises(AssertionError, match=r"more than 0\.2 s"):
        limited(lambda: os.read(os.pipe()[0], 1), seconds=0.2)
    with pytest.raises(AssertionError, match="died"):
        limited(os._exit, 3)
    with pytest.raises(HarnessError):
        limited(refuse)
    assert limited(lambda: 1) == 1


def refuse():
    raise HarnessError("no")


@pytest.fixture
def write_video():
    """Encode grey frames of a size."""
    import av

    def write(path, width, height, codec):
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in range(2):
                frame = av.VideoFrame(width, height, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("mpeg4", ".avi")])
def test_a_video_of_enormous_frames_is_refused_before_it_is_decoded(
    tmp_path, write_video, codec, suffix
):
    path = write_video(tmp_path / f"clip{suffix}", 8176, 8176, codec)
    for protocol in (model_spec("nonlocal_tiny").protocol, model_spec("timesformer").protocol):
        with pytest.raises(ClipError, match=r"8176 x 8176 are larger than 4K"):
            limited(crops_from_clip, Clip("c", path, 0), protocol)
    with pytest.raises(ClipError, match="larger than 4K"):
        limited(frame_count, path)


def test_an_enormous_raw_frame_is_refused_before_it_is_decoded(kept):
    reader = kept["raw frame"]
    content = jpeg_from_frame(np.zeros((8192, 8192, 3), np.uint8), 0)
    reader.path.write_bytes(content)
    with pytest.raises(ClipError, match="larger than 4K"):
        limited(reader.read, reader.path, more_bytes=GIB // 8)


@pytest.mark.parametrize("code", ["\n", "\r", "\t", "\x1b", "\0", "\x7f", "\x85", "\x9b"])
def test_a_control_character_is_in_no_name(code, tmp_path):
    name = f"one{code}two"
    for make in (lambda: Clip(name, Path("c"), 0), lambda: ClipSet("s", (), (name,), "d")):
        with pytest.raises(ClipError, match="has a control character in its name; rename it"):
            make()
    with pytest.raises(ValueError, match="has a control character"):
        record(model=name)


def test_a_clip_with_a_line_end_in_its_name_is_left_out_and_named(tmp_path):
    folder, clip = tmp_path / "set" / "bounce", next((FIXTURES / "motion8/clips").rglob("*.mp4"))
    folder.mkdir(parents=True)
    for name in ("fine.mp4", "two\nlines 3.mp4", "\x1b[2Kgone.mp4"):
        shutil.copy(clip, folder / name)
    found = scan(Source(tmp_path / "set", ("bounce", "other"), "s"))
    assert [entry.id for entry in found.clips] == ["bounce/fine"]
    assert found.problems["misnamed"] == (
        r"bounce/\x1b[2Kgone: it has a control character",
        r"bounce/two\nlines 3: it has a control character",
    )
    path = tmp_path / "manifest"
    write_manifest(found, path)
    path.write_text(path.read_text().replace('"id": "bounce/fine"', r'"id": "bounce/fi\nne"'))
    with pytest.raises(ClipError):
        clip_set_from_manifest(read_manifest(path))


def test_no_command_prints_what_moves_the_cursor(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "set\x1b[2Kverified"
    folder.mkdir()
    (folder / "a").mkdir()
    assert main(["dataset", "scan", str(folder), "--output", str(tmp_path / "m")]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert r"set\x1b[2Kverified" in said.err
    monkeypatch.setattr(
        sign_commands, "_keygen", lambda options: print("x\r\x1b[1Averified\u202e") or 0
    )
    main(["keygen", str(tmp_path / "key"), "--owner", "R."])
    assert capsys.readouterr().out == "x\\r\\x1b[1Averified\\u202e\n"


def test_a_file_that_was_added_forges_no_line_of_verify(signed, keys, capsys):
    (signed / "x\nverified").write_text("")
    assert main(["verify", str(signed), "--key", str(keys / "ours.pub.json")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert not any(line.startswith("verified") for line in lines)
    assert r"PROBLEM   x\nverified was added after signing" in lines
