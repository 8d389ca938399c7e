from pathlib import Path

import pytest

from harness.host.page_cache import drop_from_cache, read_into_cache

SHARED_MEMORY = Path("/dev/shm")


def test_a_file_in_memory_cannot_leave_the_cache_and_that_is_told():
    if not SHARED_MEMORY.is_dir():
        pytest.skip("this host has no file system in memory")
    path = SHARED_MEMORY / f"{__name__}.bin"
    path.write_bytes(bytes(1 << 20))
    try:
        assert not drop_from_cache(path)
    finally:
        path.unlink()


def test_a_file_leaves_the_cache_and_comes_back(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(range(256)) * 4096)
    if not drop_from_cache(path):
        pytest.skip("the file system of the tests keeps its files in memory")
    assert read_into_cache(path)
    # Where the advice changes nothing, the file is found to be in the cache.
    monkeypatch.setattr("os.posix_fadvise", lambda *advice: None)
    assert not drop_from_cache(path)
