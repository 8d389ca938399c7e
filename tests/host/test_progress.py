import io

import pytest

from harness.host.progress import Progress
from harness.testing import FakeClock


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_nothing_is_drawn_where_nobody_watches(stream):
    progress = Progress(stream, before=lambda: pytest.fail("a line was begun"))
    assert not progress.is_drawn
    progress.heartbeat("export")(3.0)
    count = progress.counter("parity", 4)
    count(1)
    count(4)
    assert stream is None or stream.getvalue() == ""


def test_a_heartbeat_says_how_long_and_erases_itself():
    screen = Terminal()
    beat = Progress(screen).heartbeat("export timesformer")
    beat(1.2)
    beat(61.0)
    assert "\rexport timesformer: 1 s\x1b[K\r" in screen.getvalue()
    assert screen.getvalue().endswith("\rexport timesformer: 61 s\x1b[K\r")


def test_a_counter_starts_a_line_counts_and_leaves_nothing():
    screen, calls = Terminal(), []
    count = Progress(screen, before=lambda: calls.append("before")).counter("parity", 4)
    assert calls == ["before"]
    for done in (1, 3, 4):
        count(done)
    text = screen.getvalue()
    assert "parity" in text
    assert "4" in text
    assert text.endswith("\r")


def test_a_counter_shows_rate_and_time_left(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr("tqdm.std.time", clock)
    screen = Terminal()
    count = Progress(screen).counter("accuracy", 400)
    clock.advance(10.0)
    count(100)
    assert "100/400 [00:10<00:30, 10.00clip/s]" in screen.getvalue()


def test_a_counter_told_too_much_stops_at_its_total():
    screen = Terminal()
    count = Progress(screen).counter("parity", 2)
    count(7)
    count(7)
    assert "7/2" not in screen.getvalue()


def test_what_is_said_stays_even_in_a_file(caplog):
    file, calls = io.StringIO(), []
    Progress(file, before=lambda: calls.append("before")).say("waiting for npu1-chip0")
    assert (file.getvalue(), calls) == ("waiting for npu1-chip0\n", ["before"])
    Progress().say("waiting for npu1-chip1")
    assert caplog.messages == ["waiting for npu1-chip1"]
