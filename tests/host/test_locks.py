import contextlib
import errno
import fcntl
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from harness.errors import ArtifactError, DeviceError
from harness.host import locks
from harness.host.artifacts import ArtifactStore
from harness.host.lock_notes import Owner, read_owner
from harness.host.locks import (
    exclusive,
    free_one,
    hold,
    shared,
    try_exclusive,
    try_hold,
)

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from harness.host.locks import exclusive
with exclusive("davinci0", Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def ignore(owner, waited_s):
    pass


@pytest.fixture
def holder(tmp_path):
    """Another process that holds davinci0."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write_owner(path, **changes):
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "command": "c", "since": "s"}
    path.with_name(path.name + ".owner").write_text(json.dumps(owner | changes))


def test_holds_one_at_a_time_and_frees_at_the_end(tmp_path):
    with exclusive("cpu", tmp_path), try_hold(tmp_path / "cpu.lock") as is_free:
        assert not is_free
    with try_hold(tmp_path / "cpu.lock") as is_free:
        assert is_free


def test_names_do_not_exclude_each_other(tmp_path):
    with exclusive("davinci0", tmp_path), exclusive("davinci1", tmp_path):
        assert read_owner(tmp_path / "davinci1.lock") is not None


def test_frees_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), exclusive("cpu", tmp_path):
        raise KeyboardInterrupt
    assert read_owner(tmp_path / "cpu.lock") is None
    with try_hold(tmp_path / "cpu.lock") as is_free:
        assert is_free


def test_owner_is_told_while_held_only(tmp_path):
    with exclusive("cpu", tmp_path):
        owner = read_owner(tmp_path / "cpu.lock")
        assert owner is not None
        assert owner.pid == os.getpid()
        assert f"process {os.getpid()} on {socket.gethostname()}" in str(owner)
    assert read_owner(tmp_path / "cpu.lock") is None


def test_waiter_learns_who_holds_it_and_gets_it_when_the_holder_is_killed(tmp_path, holder):
    seen = []

    def on_wait(owner, waited_s):
        seen.append((owner, waited_s))
        holder.kill()

    with exclusive("davinci0", tmp_path, on_wait, notice_s=0.1):
        assert seen[0][0].pid == holder.pid
        assert "exclusive" in seen[0][0].command


def test_wait_is_logged_by_default(tmp_path, caplog):
    held = threading.Event()

    def hold_for_a_moment():
        with exclusive("cpu", tmp_path):
            held.set()
            time.sleep(0.4)

    thread = threading.Thread(target=hold_for_a_moment)
    thread.start()
    held.wait()
    with exclusive("cpu", tmp_path, notice_s=0.05):
        thread.join()
    assert f"waiting for cpu for 0 s: process {os.getpid()}" in caplog.text


def test_a_wait_is_told_again_at_each_interval(tmp_path, monkeypatch, holder):
    monkeypatch.setattr(locks, "REPEAT_S", 0.2)
    waits = []

    def on_wait(owner, waited_s):
        waits.append(waited_s)
        if len(waits) == 3:
            holder.kill()

    with exclusive("davinci0", tmp_path, on_wait, notice_s=0.1):
        assert len(waits) == 3
    assert all(later - sooner >= 0.2 for sooner, later in itertools.pairwise(waits))


def test_same_thread_twice_is_an_error_and_no_deadlock(tmp_path):
    with (
        exclusive("cpu", tmp_path),
        pytest.raises(RuntimeError, match=r"cpu\.door"),
        exclusive("cpu", tmp_path),
    ):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "7"])
def test_unreadable_owner_is_nobody(tmp_path, text):
    (tmp_path / "cpu.lock.owner").write_text(text)
    assert read_owner(tmp_path / "cpu.lock") is None
    with exclusive("cpu", tmp_path):
        assert read_owner(tmp_path / "cpu.lock") is not None


def test_owner_that_is_dead_is_nobody(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write_owner(tmp_path / "l", pid=dead.pid)
    assert read_owner(tmp_path / "l") is None


def test_owner_on_another_host_is_believed(tmp_path):
    write_owner(tmp_path / "l", host="elsewhere", pid=2**30)
    assert read_owner(tmp_path / "l") == Owner(2**30, "elsewhere", "c", "s")


def test_owner_of_another_user_is_believed(tmp_path, monkeypatch):
    def refuse(pid, number):
        raise PermissionError

    write_owner(tmp_path / "l")
    monkeypatch.setattr(os, "kill", refuse)
    assert read_owner(tmp_path / "l") is not None


def test_lock_that_cannot_be_made_names_the_folder_and_the_key(tmp_path):
    (tmp_path / "file").touch()
    words = r"cannot lock cpu in .*file: .*must be a folder.*lock_dir in site\.toml"
    for take in (exclusive, shared, try_exclusive):
        with pytest.raises(DeviceError, match=words), take("cpu", tmp_path / "file"):
            pass
    with pytest.raises(DeviceError, match=words):
        free_one(("cpu",), tmp_path / "file")


def without_locks(*_):
    """Stand in for flock on a network file system whose server has no locks."""
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", without_locks)
    words = r"cannot lock cpu in .*No locks available.*lock_dir in site\.toml"
    for take in (exclusive, shared, try_exclusive):
        with pytest.raises(DeviceError, match=words), take("cpu", tmp_path):
            pass
    store = ArtifactStore(tmp_path / "cache")
    with pytest.raises(ArtifactError, match=r"No locks available.*cache_dir in site\.toml"):
        store.get_or_build("onnx", "m.onnx", {"n": 1}, Path.touch)
    assert store.entries() == []


def test_error_of_the_block_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="mine"), exclusive("cpu", tmp_path):
        raise OSError("mine")


def test_note_that_cannot_be_written_keeps_nobody_from_the_device(tmp_path):
    (tmp_path / "cpu.lock.owner").mkdir()
    with hold(tmp_path / "cpu.lock", ignore), try_hold(tmp_path / "cpu.lock") as is_free:
        assert not is_free


def test_those_who_share_a_device_do_not_wait_for_each_other(tmp_path):
    with shared("cpu", tmp_path), shared("cpu", tmp_path):
        pass


def test_whoever_wants_a_device_alone_waits_for_those_who_share_it_and_goes_first(tmp_path):
    order = []
    is_waiting = threading.Event()

    def alone():
        with exclusive("cpu", tmp_path, lambda owner, waited_s: is_waiting.set(), notice_s=0.0):
            order.append("alone")
            time.sleep(0.1)

    def late():
        with shared("cpu", tmp_path):
            order.append("late")

    with shared("cpu", tmp_path):
        first = threading.Thread(target=alone)
        first.start()
        assert is_waiting.wait(10.0)
        second = threading.Thread(target=late)
        second.start()
        time.sleep(0.3)
        assert order == []
    first.join()
    second.join()
    assert order == ["alone", "late"]


def test_a_free_device_is_preferred(tmp_path):
    units = ("davinci0", "davinci1")
    assert free_one(units, tmp_path) == "davinci0"
    held = threading.Event()
    done = threading.Event()

    def use():
        with exclusive("davinci0", tmp_path):
            held.set()
            done.wait(10.0)

    thread = threading.Thread(target=use)
    thread.start()
    held.wait(10.0)
    try:
        assert free_one(units, tmp_path) == "davinci1"
        with exclusive("davinci1", tmp_path):
            pass
    finally:
        done.set()
        thread.join()


def test_a_free_device_is_had_at_once_or_not_at_all(tmp_path, holder):
    with try_exclusive("davinci0", tmp_path) as is_mine:
        assert not is_mine
    with try_exclusive("davinci1", tmp_path) as is_mine:
        assert is_mine
        with try_hold(tmp_path / "davinci1.lock") as is_free:
            assert not is_free


def test_a_device_that_somebody_waits_for_is_theirs(tmp_path):
    with try_hold(tmp_path / "davinci0.door"), try_exclusive("davinci0", tmp_path) as is_mine:
        assert not is_mine
    with try_exclusive("davinci0", tmp_path) as is_mine:
        assert is_mine


# What other users may plant in the folder


@pytest.fixture
def folder(tmp_path):
    """A lock folder that everybody may write to, as an administrator makes it."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777)
    return path


def take_each(root):
    """Take cpu in each way there is."""
    for take in (exclusive, shared, try_exclusive):
        with take("cpu", root):
            pass
    free_one(("cpu",), root)


def refused(root, words):
    for take in (exclusive, shared, try_exclusive):
        with pytest.raises(DeviceError, match=words), take("cpu", root):
            pass


@pytest.mark.parametrize("name", ["cpu.lock", "cpu.door"])
def test_a_link_in_place_of_a_lock_is_refused_and_not_followed(folder, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_text("kept")
    secret.chmod(0o600)
    (folder / name).symlink_to(secret)
    refused(folder, "a lock must be a plain file, not a link; remove it")
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("kept", 0o600)


def test_a_dangling_link_makes_no_file(folder, tmp_path):
    (folder / "cpu.lock").symlink_to(tmp_path / "made")
    refused(folder, "not a link")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
@pytest.mark.parametrize("name", ["cpu.lock", "cpu.door"])
def test_what_is_not_a_file_is_refused_at_once(folder, make, name):
    make(folder / name)
    refused(folder, "a lock must be a plain file with one name")


def test_another_name_of_a_foreign_file_is_refused(folder, tmp_path):
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    (folder / "cpu.lock").hardlink_to(secret)
    refused(folder, "with one name")
    assert secret.stat().st_mode & 0o777 == 0o600


def test_a_note_is_written_over_a_link_and_not_through_it(folder, tmp_path):
    target = tmp_path / "target"
    target.write_text("kept")
    (folder / "cpu.lock.owner").symlink_to(target)
    assert read_owner(folder / "cpu.lock") is None
    with exclusive("cpu", folder):
        assert read_owner(folder / "cpu.lock").pid == os.getpid()
    assert target.read_text() == "kept"


def test_a_note_that_is_a_pipe_or_endless_is_nobody(folder):
    os.mkfifo(folder / "pipe.owner")
    assert read_owner(folder / "pipe") is None
    write_owner(folder / "long", command="x" * 10_000)
    assert read_owner(folder / "long") is None
    (folder / "deep.owner").write_text("[" * 4000)
    assert read_owner(folder / "deep") is None


def test_what_a_note_says_is_one_line_without_control_characters(folder):
    write_owner(folder / "l", command="\x1b[2J\nverified", host="a\rb")
    text = str(read_owner(folder / "l"))
    assert text.isprintable()
    assert r"\x1b[2J\nverified" in text


@pytest.mark.parametrize("changes", [{"pid": 2**80}, {"pid": -1}, {"pid": "1"}, {"host": 7}])
def test_a_note_of_other_types_is_nobody(folder, changes):
    write_owner(folder / "l", **changes)
    assert read_owner(folder / "l") is None


def test_a_folder_in_which_others_may_replace_locks_is_refused(folder):
    take_each(folder)
    folder.chmod(0o777)
    refused(folder, r"chmod \+t")


def test_a_link_in_place_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    refused(tmp_path / "link", "must be a folder, not a link")


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    refused(tmp_path, f"it belongs to user {os.getuid()}")


def test_a_new_folder_is_for_this_user_alone(tmp_path):
    take_each(tmp_path / "locks")
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700
    assert not locks.is_shared(tmp_path / "locks")


@contextlib.contextmanager
def as_user(number):
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")
@pytest.mark.parametrize(("first", "second"), [(0, 4711), (4711, 0), (4711, 4712)])
def test_two_users_exclude_each_other_in_a_shared_folder(first, second):
    # Not below the folders of pytest, which no other user may enter.
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o1777)
        with contextlib.ExitStack() as stack:
            with as_user(first):
                stack.enter_context(exclusive("chip0", root))
            with as_user(second), try_exclusive("chip0", root) as is_mine:
                assert not is_mine
            with as_user(second):
                assert read_owner(root / "chip0.lock").pid == os.getpid()
                assert free_one(("chip0", "chip1"), root) == "chip1"
        with as_user(second), exclusive("chip0", root):
            pass
