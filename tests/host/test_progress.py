import io
import time

from harness.host.progress import Progress
from harness.testing import FakeClock


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def test_a_terminal_shows_the_seconds_of_a_stage_in_one_line():
    screen, begun = Terminal(), []
    beat = Progress(screen, lambda: begun.append("line")).heartbeat("export timesformer")
    beat(1.2)
    beat(90.0)
    assert screen.getvalue() == (
        "\rexport timesformer: 1 s\x1b[K\r\rexport timesformer: 90 s\x1b[K\r"
    )
    assert begun == ["line"]


def test_a_counter_shows_rate_time_left_and_a_bar_until_it_is_full():
    clock, screen = FakeClock(), Terminal()
    count = Progress(screen, clock=clock).counter("accuracy", 400)
    count(0)
    assert screen.getvalue().endswith("\raccuracy: 0 of 400 clips\x1b[K\r")
    clock.advance(10.0)
    count(100)
    text = "accuracy: 100 of 400 clips, 10 clips/s, 30 s left [##........]"
    assert screen.getvalue().endswith(f"\r{text}\x1b[K\r")
    count(400)
    assert screen.getvalue().endswith("\r\x1b[K\r")


def test_a_file_gets_a_line_only_after_each_interval():
    clock, file = FakeClock(), io.StringIO()
    progress = Progress(file, interval_s=30.0, clock=clock)
    beat = progress.heartbeat("export")
    for second in range(1, 70):
        clock.advance(1.0)
        beat(float(second))
    assert file.getvalue() == "export: 30 s\nexport: 60 s\n"


def test_a_stage_that_no_longer_reports_is_not_shown_as_running():
    clock, file = FakeClock(), io.StringIO()
    progress = Progress(file, interval_s=0.02, clock=clock)
    with progress.watched("nonlocal_tiny-cpu-bs1 parity"):
        progress.heartbeat("export")(7.0)
        clock.advance(60.0)
        while not file.getvalue():
            time.sleep(0.01)
    assert set(file.getvalue().splitlines()) == {"nonlocal_tiny-cpu-bs1 parity, 60 s"}


def test_a_watched_block_that_says_nothing_is_shown_while_it_lasts():
    screen = Terminal()
    progress = Progress(screen, interval_s=0.02)
    with progress.watched("nonlocal_tiny-cpu-bs1 parity"):
        while "parity, 0 s\x1b[K" not in screen.getvalue():
            time.sleep(0.01)
    shown = screen.getvalue()
    assert shown.endswith("\r\x1b[K")
    time.sleep(0.05)
    assert screen.getvalue() == shown


def test_a_notice_takes_the_place_of_the_line_that_is_redrawn():
    screen = Terminal()
    progress = Progress(screen)
    progress.heartbeat("export")(1.0)
    progress.say("waiting for npu1-chip0")
    assert screen.getvalue().endswith("\r\x1b[Kwaiting for npu1-chip0\n")


def test_a_notice_is_one_line_that_moves_no_cursor():
    file = io.StringIO()
    Progress(file).say("held by \x1b[2Jme\nverified é")
    assert file.getvalue() == "held by \\x1b[2Jme\\nverified é\n"


def test_without_a_stream_notices_are_logged(caplog):
    progress = Progress()
    with progress.watched("parity"):
        progress.counter("parity", 2)(1)
        progress.say("waiting for npu1-chip1")
    assert caplog.messages == ["waiting for npu1-chip1"]


def test_a_stream_that_fails_breaks_nothing():
    progress = Progress(Gone(), interval_s=0.0)
    progress.say("waiting")
    progress.heartbeat("export")(1.0)
