"""A session that stays open between shards: opened once for many, and never in the way of others."""

import contextlib
import threading

import pytest

from harness.farm.kept_session import Kept


@pytest.fixture
def opened():
    """What was opened and closed, in order."""
    return []


def opening(opened, name):
    @contextlib.contextmanager
    def block():
        opened.append(f"open {name}")
        yield name
        opened.append(f"close {name}")

    return block


def use(kept, opened, name):
    with kept.of(name, opening(opened, name)) as value:
        assert value == name


def test_it_stays_open_for_the_same_key_and_makes_way_for_another(opened):
    kept = Kept(idle_s=60.0)
    for name in "aab":
        use(kept, opened, name)
    kept.close_unless("b")
    assert opened == ["open a", "close a", "open b"]
    kept.close_unless("c")
    assert opened[3:] == ["close b"]


def test_it_closes_when_its_use_fails(opened):
    kept = Kept(idle_s=60.0)
    with pytest.raises(ZeroDivisionError), kept.of("a", opening(opened, "a")):
        raise ZeroDivisionError
    use(kept, opened, "a")
    assert opened == ["open a", "close a", "open a"]


def test_it_closes_when_idle_but_never_during_a_use(opened):
    closed = threading.Event()

    @contextlib.contextmanager
    def block():
        yield "a"
        closed.set()

    kept = Kept(idle_s=0.05)
    with kept.of("a", block):
        pass
    with kept.of("a", block):
        assert not closed.wait(0.2)
    assert closed.wait(10.0)
