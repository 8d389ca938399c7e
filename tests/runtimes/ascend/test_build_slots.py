import pytest

from harness.runtimes.ascend.build_slots import GIB, build_slot, memory_bytes, slot_count


def memory(total_gib, available_gib):
    return lambda: (int(total_gib * GIB), int(available_gib * GIB))


@pytest.mark.parametrize(
    ("total", "need", "count"), [(16, 8, 1), (64, 8, 6), (4, 8, 1), (1000, 8, 100)]
)
def test_slots_follow_memory(total, need, count, monkeypatch):
    monkeypatch.setattr("harness.runtimes.ascend.build_slots.os.cpu_count", lambda: 100)
    assert slot_count(total * GIB, need * GIB) == count


def test_builds_run_side_by_side_as_far_as_memory_allows(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.runtimes.ascend.build_slots.os.cpu_count", lambda: 2)
    said: list[str] = []
    with build_slot(tmp_path, 8 * GIB, said.append, memory(32, 30)) as first:
        with build_slot(tmp_path, 8 * GIB, said.append, memory(32, 20)) as second:
            assert (first, second, said) == (0, 1, [])
        # Memory is taken by others: only slot 0 stays open, and it is held.
        looks = iter([(32 * GIB, 2 * GIB), (32 * GIB, 2 * GIB), (32 * GIB, 9 * GIB)])
        with build_slot(tmp_path, 8 * GIB, said.append, lambda: next(looks), poll_s=0.01) as third:
            assert third == 1
    assert said == [
        "waiting for another build: each may need 8.0 GiB, and memory has no room for more"
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
