import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.runtimes.host_locks import GIB, build_slot, held_unit, memory_bytes, slot_count

ROOT = str(Path(__file__).parents[2])
HOLD = (
    "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
    "from harness.runtimes.host_locks import held_unit\n"
    "with held_unit(pathlib.Path(sys.argv[2]), 'npu0-chip0', 'nonlocal_r50-ascend310p-bs4', print):\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


def memory(total_gib, available_gib):
    return lambda: (int(total_gib * GIB), int(available_gib * GIB))


def test_a_second_run_on_a_chip_waits_and_says_for_whom(tmp_path):
    argv = [sys.executable, "-c", HOLD, ROOT, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout.readline() == "held\n"
        said = []

        def say(text):
            said.append(text)
            first.stdin.close()

        with held_unit(tmp_path, "npu0-chip0", "mine", say, poll_s=0.02):
            pass
        pid = first.pid
    who = f"nonlocal_r50-ascend310p-bs4 (process {pid})"
    assert said == [f"mine waits for npu0-chip0, which is held by {who}"]


def test_an_unreadable_holder_is_another_process(tmp_path):
    said = []
    with held_unit(tmp_path, "npu0-chip0", "one", said.append):
        (tmp_path / "npu0-chip0.holder").write_text("{")
        waiter = threading.Thread(target=_hold, args=(tmp_path, said))
        waiter.start()
        while not said:
            pass
    waiter.join()
    assert said == ["two waits for npu0-chip0, which is held by another process"]


def _hold(folder, said):
    with held_unit(folder, "npu0-chip0", "two", said.append, poll_s=0.01):
        pass


def test_another_chip_is_free(tmp_path):
    said = []
    with held_unit(tmp_path, "a", "one", said.append), held_unit(tmp_path, "b", "two", said.append):
        assert said == []


@pytest.mark.parametrize(
    ("total", "need", "count"), [(16, 8, 1), (64, 8, 6), (4, 8, 1), (1000, 8, 100)]
)
def test_slots_follow_memory(total, need, count, monkeypatch):
    monkeypatch.setattr("harness.runtimes.host_locks.os.cpu_count", lambda: 100)
    assert slot_count(total * GIB, need * GIB) == count


def test_builds_run_side_by_side_as_far_as_memory_allows(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.runtimes.host_locks.os.cpu_count", lambda: 2)
    said = []
    with build_slot(tmp_path, 8 * GIB, said.append, memory(32, 30)) as first:
        with build_slot(tmp_path, 8 * GIB, said.append, memory(32, 20)) as second:
            assert (first, second, said) == (0, 1, [])
        # Memory is taken by others: only slot 0 stays open, and it is held.
        looks = iter([(32 * GIB, 2 * GIB), (32 * GIB, 2 * GIB), (32 * GIB, 9 * GIB)])
        with build_slot(tmp_path, 8 * GIB, said.append, lambda: next(looks), poll_s=0.01) as third:
            assert third == 1
    assert said == [
        "waits for another build: each may need 8.0 GiB and memory has no room for more"
    ]


def test_memory_is_that_of_the_container(tmp_path):
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal:       1000 kB\nMemAvailable:    800 kB\nOdd\n")
    assert memory_bytes(meminfo, limit) == (1000 * 1024, 800 * 1024)
    limit.write_text("max\n")
    assert memory_bytes(meminfo, limit) == (1000 * 1024, 800 * 1024)
    limit.write_text(str(500 * 1024))
    assert memory_bytes(meminfo, limit) == (500 * 1024, 500 * 1024)
    total, available = memory_bytes()
    assert 0 < available <= total
