"""What Ray raises where the host that leads is gone becomes an error by name."""

import pytest

from harness.errors import RunError
from harness.farm.connection import mapped

grpc = pytest.importorskip("grpc", reason="Ray is not installed: pip install '.[farm]'")


def lost():
    raise grpc.RpcError("Socket closed")


@pytest.mark.parametrize("is_initialized", [lambda: True, lost])
def test_a_lost_connection_is_an_error_whatever_ray_says_then(monkeypatch, is_initialized):
    monkeypatch.setattr("ray.is_initialized", is_initialized)
    gone = "shards: the host that leads the farm is gone"
    with pytest.raises(RunError, match=gone), mapped("shards"):
        lost()


def test_a_bug_of_the_suite_stays_one(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    with pytest.raises(ZeroDivisionError), mapped("shards"):
        raise ZeroDivisionError
