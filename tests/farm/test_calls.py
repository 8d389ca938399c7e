"""A call that its host does not end: it goes to another host, or ends as an error that names the host."""

import pytest

from harness.errors import RunError
from harness.farm import calls
from harness.farm.calls import News, Placement, Running
from harness.testing import FakeClock


@pytest.fixture
def clock(monkeypatch):
    """The driver's clock."""
    made = FakeClock()
    monkeypatch.setattr(calls.time, "monotonic", made)
    return made


@pytest.fixture
def started():
    """What was handed to Ray: the name of each start, and where it may run."""
    return []


def running(started, *hosts):
    at = Placement(hosts, limit_s=100.0, silent_s=10.0)
    stints = []

    def remote(call, at):
        started.append((call, at.hosts))
        return [f"ref {call}"]

    return Running("shard 3", at, remote, stints), stints


def test_a_call_that_waits_for_a_chip_has_no_limit(clock, started):
    run, stints = running(started, "n1")
    clock.advance(1e6)
    assert run.fault() == ""
    assert stints == []


def test_a_silent_host_loses_its_call_to_another(clock, started):
    run, stints = running(started, "n1", "n2")
    first = run.id
    run.hear(News(first, "n1", "one", 11))
    clock.advance(9.0)
    run.hear(News(first, "n1", "one", 11, "5 of 256 clips"))
    clock.advance(9.0)
    assert run.fault() == ""
    clock.advance(2.0)
    assert run.fault() == "has been silent for 11 s"
    assert "shard 3: one has been silent for 11 s; it goes to another host" in run.elsewhere(
        run.fault()
    )
    assert [hosts for _, hosts in started] == [("n1", "n2"), ("n2",)]
    assert run.id != first
    assert run.ref == f"ref {run.id}"
    run.hear(News(run.id, "n2", "two", 12))
    run.end()
    assert [(stint.host, stint.fault) for stint in stints] == [
        ("one", "has been silent for 11 s"),
        ("two", ""),
    ]
    assert all(stint.end_s >= stint.start_s for stint in stints)


def test_a_call_that_waits_leaves_a_silent_host_as_long_as_another_is_left(started):
    run, stints = running(started, "n1", "n2", "n3")
    first = run.id
    assert run.avoid("n1")
    assert run.id != first
    assert [hosts for _, hosts in started] == [("n1", "n2", "n3"), ("n2", "n3")]
    assert not run.avoid("n1")
    run.hear(News(run.id, "n2", "two", 12))
    assert not run.avoid("n2")
    assert len(started) == 2
    assert stints == []


def test_a_host_that_talks_and_does_not_end_is_an_error_by_name(clock, started):
    run, _ = running(started, "n1")
    run.hear(News(run.id, "n1", "one", 11))
    for _ in range(11):
        clock.advance(9.5)
        run.hear(News(run.id, "n1", "one", 11, "still at it"))
    fault = run.fault()
    assert fault == "has not ended within 100 s"
    with pytest.raises(
        RunError, match="shard 3: one has not ended within 100 s, and no other host"
    ):
        run.elsewhere(fault)


def test_a_call_that_ray_makes_again_begins_anew(clock, started):
    run, stints = running(started, "n1", "n2")
    run.hear(News(run.id, "n1", "one", 11))
    clock.advance(99.0)
    run.hear(News(run.id, "n2", "two", 12))
    clock.advance(5.0)
    assert run.fault() == ""
    run.end()
    assert [(stint.host, stint.fault) for stint in stints] == [("one", "lost"), ("two", "")]


def test_the_hosts_that_stand_by_take_over_when_none_of_the_first_is_left():
    at = Placement(("n1",), others=("n2", "n3"))
    assert at.without("n1") == Placement(("n2", "n3"))
    assert at.without("n2") == Placement(("n1",), others=("n3",))
    assert at.options["fallback_strategy"] == [{"label_selector": {"ray.io/node-id": "in(n2,n3)"}}]


def test_a_silent_host_is_avoided_as_long_as_another_is_left():
    at = Placement(("n1", "n2"), others=("n3",))
    assert at.avoiding({"n1"}) == Placement(("n2",), others=("n3",))
    assert at.avoiding(["n1", "n2"]) == Placement(("n3",))
    assert at.avoiding(["n1", "n2", "n3"]) == Placement(("n3",))
    assert Placement(("n1",)).avoiding({"n1"}) == Placement(("n1",))
