import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.errors import DeviceError
from harness.host import locks
from harness.host.locks import (
    Owner,
    exclusive,
    free_one,
    hold,
    read_owner,
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


def test_wait_is_told_again_each_time_it_doubled(tmp_path):
    times = iter([0.0, 1.0, 3.0, 4.0, 6.0, 7.0])
    told: list[float] = []
    waiting = locks._Waiting(
        tmp_path / "l", lambda owner, waited_s: told.append(waited_s), 3.0, lambda: next(times)
    )
    assert [waiting.tick() for _ in range(5)] == [False] * 5
    assert told == [3.0, 6.0]


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


def test_lock_that_cannot_be_made_names_the_file_and_the_key(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(DeviceError, match=r"cannot lock cpu through .*cpu\.lock.*lock_dir"),
        exclusive("cpu", tmp_path / "file"),
    ):
        pass


def test_other_users_may_lock_the_device_too(tmp_path):
    with exclusive("cpu", tmp_path / "locks"):
        assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o777
        assert (tmp_path / "locks/cpu.lock").stat().st_mode & 0o777 == 0o666


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


@pytest.mark.parametrize("take", [shared, lambda name, root: exclusive(name, root)])
def test_a_lock_folder_that_cannot_be_made_is_named(take, tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DeviceError, match=r"lock_dir in site\.toml"),
        take("cpu", tmp_path / "file"),
    ):
        pass
    with pytest.raises(DeviceError, match="cannot lock cpu"):
        free_one(("cpu",), tmp_path / "file")


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


def test_a_device_that_cannot_be_locked_says_how_to_help(tmp_path):
    (tmp_path / "file").touch()
    words = r"cannot lock davinci0 .*lock_dir in site.toml"
    with pytest.raises(DeviceError, match=words), try_exclusive("davinci0", tmp_path / "file"):
        pass


def test_whoever_comes_first_leaves_locks_that_every_user_may_take(tmp_path):
    free_one(("davinci0",), tmp_path)
    with shared("cpu", tmp_path), try_exclusive("davinci1", tmp_path):
        pass
    for name in ("davinci0", "cpu", "davinci1"):
        assert (tmp_path / f"{name}.lock").stat().st_mode & 0o777 == 0o666
