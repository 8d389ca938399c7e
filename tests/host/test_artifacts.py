import concurrent.futures
import dataclasses
import datetime
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.errors import ArtifactError, ExportError
from harness.host import artifacts, provenance
from harness.host.artifacts import ArtifactStore
from harness.host.digests import digest_from_json
from harness.host.locks import hold
from harness.host.provenance import parcel_from_artifact
from harness.spec import TensorSpec

ROOT = Path(__file__).parents[2]
INPUTS = {"weights": "ab12", "opset": 11, "versions": {"torch": "2.13"}, "shape": (1, 3)}
BUILDER = """
import sys, time
from pathlib import Path
from harness.host.artifacts import ArtifactStore
root, seconds = Path(sys.argv[1]), float(sys.argv[2])
def build(target):
    target.write_bytes(b"half")
    print("building", flush=True)
    time.sleep(seconds)
    target.write_bytes(b"whole")
    return {"by": "child"}
store = ArtifactStore(root)
artifact = store.get_or_build("onnx", "m.onnx", {"n": 1}, build)
print("hit" if store.events[-1].hit else "built", artifact.path.read_bytes(), flush=True)
"""


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "cache")


class Builder:
    """Counts its calls and writes ``payload``."""

    def __init__(self, payload=b"payload"):
        self.payload = payload
        self.calls = 0

    def __call__(self, target):
        self.calls += 1
        target.write_bytes(self.payload)
        return {"nodes": 3, "target": target.name, "spec": TensorSpec("video", (1, 3))}


def get(store, build, inputs=INPUTS, kind="onnx"):
    return store.get_or_build(kind, "m.onnx", inputs, build)


def raising(error):
    def build(target):
        target.write_bytes(b"x" * 2_000_000)
        raise error

    return build


def start_builder(root, seconds):
    command = [sys.executable, "-c", BUILDER, str(root), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def folders(store):
    return [path for path in store.root.glob("*/??/*") if path.is_dir()]


def use_at(entry, when):
    (entry.path / "last_used").touch()
    os.utime(entry.path / "last_used", (when.timestamp(), when.timestamp()))


def days_ago(days):
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)


@pytest.fixture
def three(store):
    """Entries of 10, 20 and 30 bytes, last used 30, 20 and 10 days ago."""
    for number, kind in ((1, "onnx"), (2, "om"), (3, "onnx")):
        build = Builder(b"x" * 10 * number)
        folder = get(store, build, {"n": number}, kind).path.parent
        entry = provenance.entry_from_folder(folder)
        assert entry is not None
        use_at(entry, days_ago(40 - 10 * number))
    return store.entries()


def test_builds_once_then_hits(store):
    build = Builder()
    first, second = get(store, build), get(store, build)
    assert build.calls == 1
    assert first.path.read_bytes() == b"payload"
    assert (first.path, first.sha256) == (second.path, second.sha256)
    assert dict(first.provenance) == dict(second.provenance)
    assert [event.hit for event in store.events] == [False, True]
    assert store.events[0].kind == "onnx"
    assert store.events[0].seconds > 0


def test_layout_and_key(store):
    artifact = get(store, Builder())
    key = digest_from_json({"kind": "onnx", "filename": "m.onnx", "inputs": INPUTS})
    assert artifact.path == store.root / "onnx" / key[:2] / key / "m.onnx"
    assert store.events[0].key == key
    assert sorted(path.name for path in artifact.path.parent.iterdir()) == [
        "m.onnx",
        "provenance.json",
    ]


def test_provenance_says_where_it_came_from(store):
    artifact = get(store, Builder())
    written = json.loads((artifact.path.parent / "provenance.json").read_text())
    assert written == artifact.provenance
    assert written["inputs"] == {**INPUTS, "shape": [1, 3]}
    assert written["facts"]["nodes"] == 3
    assert written["facts"]["spec"]["name"] == "video"
    assert written["sha256"] == provenance.sha256_from_file(artifact.path)
    assert (written["bytes"], written["pid"]) == (7, os.getpid())
    assert datetime.datetime.fromisoformat(written["created"]).tzinfo == datetime.UTC
    assert written["duration_s"] >= 0
    assert written["host"]


@pytest.mark.parametrize(
    "change", [{"opset": 13}, {"versions": {"torch": "2.14"}}, {"weights": "ab13"}, {"more": None}]
)
def test_everything_that_is_named_shapes_the_key(store, change):
    build = Builder()
    assert get(store, build).path != get(store, build, INPUTS | change).path
    assert build.calls == 2


def test_odd_facts_become_text(store):
    artifact = store.get_or_build(
        "onnx", "m", {}, lambda path: {"at": Path("/a"), "size": path.write_bytes(b"x")}
    )
    assert artifact.provenance["facts"] == {"at": "/a", "size": 1}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "provenance.json", "last_used"])
def test_names_that_would_leave_the_store_are_refused(store, name):
    with pytest.raises(ArtifactError, match="cannot name"):
        store.get_or_build("onnx", name, {}, Builder())


def test_inputs_that_change_in_json_are_refused(store):
    with pytest.raises(ArtifactError, match="strings as keys"):
        get(store, Builder(), {"batches": {2: "a", 10: "b"}})


def test_two_processes_that_race_build_once(tmp_path):
    racers = [start_builder(tmp_path, 0.3) for _ in range(2)]
    outputs = sorted(racer.communicate()[0] for racer in racers)
    assert outputs == ["building\nbuilt b'whole'\n", "hit b'whole'\n"]


def test_threads_that_race_build_once(store):
    build = Builder()

    def slow(target):
        time.sleep(0.1)
        return build(target)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: get(store, slow).path, range(4)))
    assert len(paths) == build.calls == 1
    assert sorted(event.hit for event in store.events) == [False, True, True, True]


def test_killed_build_leaves_nothing_that_counts(tmp_path):
    with start_builder(tmp_path, 60) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "building\n"
        assert ArtifactStore(tmp_path).entries() == []
        victim.send_signal(signal.SIGKILL)
    store = ArtifactStore(tmp_path)
    assert [path.name.startswith(".") for path in folders(store)] == [True]
    artifact = store.get_or_build("onnx", "m.onnx", {"n": 1}, Builder())
    assert artifact.path.read_bytes() == b"payload"
    assert folders(store) == [artifact.path.parent]


def test_interrupted_build_leaves_nothing(store):
    with pytest.raises(KeyboardInterrupt):
        get(store, raising(KeyboardInterrupt()))
    assert folders(store) == []
    assert get(store, Builder()).path.exists()


def test_error_of_the_build_stays_what_it_is(store):
    with pytest.raises(ExportError, match="refused"):
        get(store, raising(ExportError("refused")))
    with pytest.raises(ArtifactError, match=r"^of another store$"):
        get(store, raising(ArtifactError("of another store")))
    with pytest.raises(FileNotFoundError, match="atc"):
        get(store, raising(FileNotFoundError(errno.ENOENT, "no file", "atc")))
    assert folders(store) == []
    assert store.events == []


def corrupt(artifact):
    data = bytearray(artifact.path.read_bytes())
    data[2] ^= 1
    artifact.path.write_bytes(data)


def test_flipped_bit_is_noticed_told_and_built_again(store, caplog):
    build = Builder()
    first = get(store, build)
    corrupt(first)
    bad = provenance.sha256_from_file(first.path)
    assert get(store, build).path.read_bytes() == b"payload"
    assert build.calls == 2
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert bad in record.message
    assert first.sha256 in record.message
    assert folders(store) == [first.path.parent]


@pytest.mark.parametrize(
    "text",
    ["", '{"inputs": {', "[]", '{"sha256": "ab"}', '{"inputs": {}, "sha256": "ab"}', "\udcff"],
)
def test_damaged_provenance_is_noticed_told_and_built_again(store, caplog, text):
    build = Builder()
    file = get(store, build).path.parent / "provenance.json"
    whole = file.read_text()
    file.write_bytes(text.encode(errors="surrogateescape"))
    get(store, build)
    assert build.calls == 2
    assert "is damaged and will be built again" in caplog.text
    assert json.loads(file.read_text())["sha256"] == json.loads(whole)["sha256"]


@pytest.mark.parametrize("name", ["provenance.json", "m.onnx"])
def test_missing_file_is_noticed_and_built_again(store, caplog, name):
    build = Builder()
    (get(store, build).path.parent / name).unlink()
    get(store, build)
    assert build.calls == 2
    assert name in caplog.text


def test_damaged_entry_stays_until_the_new_one_is_whole(store):
    artifact = get(store, Builder())
    corrupt(artifact)
    with pytest.raises(ExportError):
        get(store, raising(ExportError("refused")))
    assert folders(store) == [artifact.path.parent]
    assert get(store, Builder()).path.read_bytes() == b"payload"


def test_payload_is_hashed_once_while_it_is_not_touched(store, monkeypatch):
    hashed = []
    sha256_from_file = provenance.sha256_from_file

    def counted(path):
        hashed.append(path)
        return sha256_from_file(path)

    artifact = get(store, Builder())
    monkeypatch.setattr(provenance, "sha256_from_file", counted)
    for _ in range(3):
        get(store, Builder())
    os.utime(artifact.path, (1, 1))
    get(store, Builder())
    assert hashed == [artifact.path] * 2


def leave_nothing(target):
    return {}


def leave_more(target):
    target.write_bytes(b"x")
    target.with_name("side.json").touch()
    return {}


def leave_a_folder(target):
    target.mkdir()
    return {}


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (leave_nothing, "it left nothing"),
        (leave_more, r"it left m\.onnx, side\.json"),
        (leave_a_folder, "should have left the file"),
    ],
)
def test_build_must_leave_its_one_file(store, build, words):
    with pytest.raises(ArtifactError, match=words):
        get(store, build)
    assert folders(store) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_build_that_cannot_write_says_what_where_and_what_to_do(store, number):
    with pytest.raises(ArtifactError) as caught:
        get(store, raising(OSError(number, os.strerror(number))))
    message = str(caught.value)
    for words in ("onnx m.onnx", "2.0 MB so far", str(store.root), "MB free", os.strerror(number)):
        assert words in message
    for words in ("harness cache prune", "--site", "ACCEPTANCE_CACHE_DIR"):
        assert words in message
    assert folders(store) == []


def test_full_disk_behind_the_error_of_a_stage_is_told(store):
    wrapped = ExportError("it raised")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ArtifactError, match="harness cache prune"):
        get(store, raising(wrapped))


def test_disk_error_elsewhere_is_not_the_store_s(store):
    with pytest.raises(PermissionError, match="/opt/atc"):
        get(store, raising(PermissionError(errno.EACCES, "denied", "/opt/atc")))


def refuse_with(number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("function", ["replace", "mkdir"])
def test_read_only_store_is_told(store, monkeypatch, function):
    with monkeypatch.context() as patch:
        patch.setattr(os, function, refuse_with(errno.EROFS))
        with pytest.raises(ArtifactError, match="Read-only file system"):
            get(store, Builder())
    assert folders(store) == []
    assert get(store, Builder()).path.exists()


def test_disk_that_is_full_at_the_provenance_is_told(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse_with(errno.ENOSPC))
        with pytest.raises(ArtifactError, match="No space left"):
            get(store, Builder())
    assert folders(store) == []


def test_root_that_is_a_file_is_told(tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(ArtifactError, match=r"cannot write onnx m\.onnx"):
        get(ArtifactStore(tmp_path / "cache"), Builder())


def test_read_only_store_serves_its_hits(store, monkeypatch):
    artifact = get(store, Builder())
    for name in ("mkdir", "replace", "utime", "unlink", "rename"):
        monkeypatch.setattr(os, name, refuse_with(errno.EROFS))
    monkeypatch.setattr(Path, "touch", refuse_with(errno.EROFS))
    assert get(store, Builder()).sha256 == artifact.sha256


def test_waiter_says_for_whom_it_waits(store, monkeypatch, caplog):
    monkeypatch.setattr(artifacts, "hold", lambda path, on_wait: hold(path, on_wait, 0.05))
    building = threading.Event()

    def slow(target):
        building.set()
        time.sleep(0.4)
        return Builder()(target)

    thread = threading.Thread(target=get, args=(store, slow))
    thread.start()
    building.wait()
    get(store, Builder())
    thread.join()
    assert f"waiting for onnx m.onnx ({store.events[0].key[:12]})" in caplog.text
    assert f"process {os.getpid()} on " in caplog.text


def test_entries_lists_the_least_recently_used_first(store, three):
    assert [entry.bytes > 10 * number for number, entry in enumerate(three, 1)] == [True] * 3
    assert [entry.kind for entry in three] == ["onnx", "om", "onnx"]
    assert all(entry.created > days_ago(1) for entry in three)
    get(store, Builder(), {"n": 1})
    assert [entry.key for entry in store.entries()][-1] == three[0].key


def test_entries_of_no_store_are_none(store):
    assert store.entries() == []


def test_entries_shows_a_damaged_entry_too(store):
    folder = get(store, Builder()).path.parent
    (folder / "provenance.json").write_text("{")
    (entry,) = store.entries()
    assert entry.path == folder
    assert entry.last_used == entry.created > days_ago(1)


def test_entry_that_vanishes_meanwhile_is_left_out(store):
    assert provenance.entry_from_folder(store.root / "onnx" / "ab" / "gone") is None


def test_prune_by_age(store, three):
    assert store.prune(older_than_days=15) == three[:2]
    assert store.entries() == three[2:]
    assert folders(store) == [three[2].path]


def test_prune_by_size_removes_the_least_recently_used(store, three):
    assert store.prune(max_bytes=three[2].bytes) == three[:2]
    assert store.entries() == three[2:]


def test_prune_of_kinds(store, three):
    assert store.prune(kinds=["om"], older_than_days=25) == []
    assert store.prune(kinds=["om"]) == [three[1]]
    assert store.entries() == [three[0], three[2]]


def test_prune_without_limits_removes_nothing(store, three):
    assert store.prune() == []
    assert store.entries() == three


def test_prune_dry_run_only_tells(store, three):
    assert store.prune(max_bytes=0, dry_run=True) == three
    assert store.entries() == three


def test_prune_leaves_what_is_locked(store, three):
    lock = three[0].path.with_name(three[0].path.name + ".lock")
    with hold(lock, lambda owner, waited_s: None):
        assert store.prune(max_bytes=0) == three[1:]
    assert store.entries() == three[:1]


def test_prune_sweeps_what_killed_builds_left_but_no_running_build(store, three):
    left = [entry.path.with_name(f".{entry.path.name}.new-1") for entry in three[:2]]
    for folder in left:
        folder.mkdir()
    lock = three[0].path.with_name(three[0].path.name + ".lock")
    with hold(lock, lambda owner, waited_s: None):
        store.prune()
    assert [folder.exists() for folder in left] == [True, False]


def test_prune_of_a_read_only_store_is_told(store, three, monkeypatch):
    monkeypatch.setattr(os, "replace", refuse_with(errno.EROFS))
    with pytest.raises(ArtifactError, match=r"cannot remove .*Read-only"):
        store.prune(max_bytes=0)


def test_prune_frees_what_it_says(store, three):
    before = sum(entry.bytes for entry in store.entries())
    removed = store.prune(max_bytes=before - 1)
    assert removed == three[:1]
    assert sum(entry.bytes for entry in store.entries()) == before - removed[0].bytes


def test_request_is_a_value():
    request = provenance.request_from_inputs("onnx", "m.onnx", {"n": 1})
    assert str(request) == f"onnx m.onnx ({request.key[:12]})"
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.key = ""


def test_what_another_store_built_replaces_an_own_build_and_is_hashed_once(
    store, tmp_path, monkeypatch
):
    get(store, Builder(b"own"))
    parcel = parcel_from_artifact(get(ArtifactStore(tmp_path / "other"), Builder(b"theirs")))
    with pytest.raises(ArtifactError, match="changed on its way"):
        store.adopt(dataclasses.replace(parcel, content=b"bent"))
    assert store.adopt(parcel).path.read_bytes() == b"theirs"
    monkeypatch.delattr(artifacts, "hashlib")
    again = store.adopt(parcel)
    assert get(store, None) == again


def test_a_new_store_that_adopts_first_is_as_private_as_one_that_builds(store, tmp_path):
    parcel = parcel_from_artifact(get(ArtifactStore(tmp_path / "other"), Builder(b"theirs")))
    kept = os.umask(0o002)
    try:
        adopted = store.adopt(parcel)
    finally:
        os.umask(kept)
    assert get(store, None) == adopted
    assert not store.root.stat().st_mode & 0o077
