"""A run speaks while its tests run: on a terminal, in a pipe and with workers."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
import time

import pytest

from harness.host.locks import exclusive
from tests.made import ROOT, small_repository, tier

pytest_plugins = ["pytester"]

CELLS = ["nonlocal_tiny-cpu-bs1", "timesformer_tiny-cpu-bs1"]
TIER = tier("nightly", CELLS, ["*:export"])
INTERVAL_S = 0.3
# Far above the interval, for a busy host; below the six seconds that a check takes.
SILENCE_S = 5.0
# Stands in for the suite: a slow device, of which some queries take longer than the interval.
CONFTEST = """
import logging
import os
import time
from pathlib import Path

import pytest

from harness.host.locks import exclusive, wait_notice
from harness.judge.verdict import Verdict
from harness.pytest_plugin.plugin import _run_directory
from harness.pytest_plugin.terminal import progress_from_config
from harness.record.record import Record
from harness.spec import Status
from harness.testing import FakeSession


class SlowSuite:
    def __init__(self, config):
        self.run_id, self.progress = _run_directory(config).id, progress_from_config(config)

    def check(self, cell, check):
        print("captured")
        os.write(1, b"captured too")
        logging.getLogger("harness.somewhere").warning("a file was damaged")
        if "LOCKS" in os.environ:
            with exclusive("cpu", Path(os.environ["LOCKS"]), wait_notice("cpu", self.progress.say), 0.2):
                pass
        count = self.progress.counter(f"{cell.id} {check}", 5)
        session = FakeSession(lambda feed: feed, latency_s=1.2)
        for done in range(5):
            session.run({})
            count(done + 1)
        return Record(
            run_id=self.run_id, tier="nightly", model=cell.model, device=cell.device,
            batch=cell.batch, check=check, started="2026-11-25T00:00:00+00:00", seconds=3.0,
            verdict=Verdict(status=Status.NOT_RUN, reason="a stand-in"),
        )


@pytest.fixture(scope="session")
def acceptance_suite(request):
    return SlowSuite(request.config)
"""


@pytest.fixture
def command(pytester, monkeypatch):
    """The command line of a run of two slow checks, in a repository of its own."""
    small_repository(pytester.path, TIER, CONFTEST, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    options = ["-m", "export", "--progress-interval", str(INTERVAL_S), "acceptance"]
    return [sys.executable, "-m", "pytest", *options]


def read_with_times(number, found):
    """Read a file descriptor to its end and keep each piece with the time of its arrival."""
    while True:
        try:
            piece = os.read(number, 65536)
        except OSError:  # a pseudo terminal whose other end is closed
            return
        if not piece:
            return
        found.append((time.monotonic(), piece.decode()))


def in_a_pipe(command, *options, at=("", lambda: None)):
    """Return the pieces of a run, with their times; when it prints the first of ``at``, the second is called."""
    found, (words, act) = [], at
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE) as process:
        reader = threading.Thread(target=read_with_times, args=(process.stdout.fileno(), found))
        reader.start()
        while reader.is_alive() and words not in whole(found):
            reader.join(0.1)
        act()
        reader.join()
    return found


def on_a_terminal(command, *options):
    ours, theirs = pty.openpty()
    found = []
    with subprocess.Popen([*command, *options], stdout=theirs, stderr=theirs) as process:
        reader = threading.Thread(target=read_with_times, args=(ours, found))
        reader.start()
        process.wait()
        os.close(theirs)
        reader.join()
    os.close(ours)
    return found


def whole(found):
    return "".join(piece for _, piece in found)


def longest_silence(found):
    """The longest time between two pieces while the checks run."""
    times = [at for at, piece in found]
    first = next(n for n, (_, piece) in enumerate(found) if "a file was damaged" in piece)
    last = max(n for n, (_, piece) in enumerate(found) if re.search(r"not run +3\.0 s", piece))
    return max(b - a for a, b in zip(times[first:last], times[first + 1 :], strict=False))


def screen(text):
    """What a terminal shows after ``text``: carriage returns and erased ends of lines applied."""
    shown = []
    for line in text.replace("\r\n", "\n").split("\n"):
        row = ""
        for piece in line.split("\r"):
            kept, erases, rest = piece.partition("\x1b[K")
            row = kept + rest if erases else piece + row[len(piece) :]
        shown.append(re.sub(r"\x1b\[[0-9;]*m", "", row).rstrip())
    return shown


COUNT = r"^{prefix}{cell} export: \d of 5 clips, [\d.]+ clips/s, \d s left \[#+\.+\]$"
VERDICT = r"^{cell} +export +not run +3\.0 s$"


def test_a_pipe_gets_a_line_each_interval(command):
    found = in_a_pipe(command)
    text = whole(found)
    assert longest_silence(found) < SILENCE_S
    for cell in CELLS:
        assert len(re.findall(COUNT.format(prefix="", cell=cell), text, re.MULTILINE)) >= 4
        assert re.search(VERDICT.format(cell=cell), text, re.MULTILINE)
    assert "\na file was damaged\n" in text
    assert "captured" not in text
    assert "\r" not in text
    assert "\x1b" not in text


def test_a_terminal_shows_a_bar_and_keeps_whole_lines(command):
    found = on_a_terminal(command)
    text = whole(found)
    assert longest_silence(found) < SILENCE_S
    bar = r"export: \d of 5 clips, [\d.]+ clips/s, \d s left \[#[#.]*\]?\x1b\[K\r"
    assert len(re.findall(bar, text)) >= 8
    shown = screen(text)
    for cell in CELLS:
        assert [line for line in shown if re.match(VERDICT.format(cell=cell), line)]
    assert shown.count("a file was damaged") == 2
    assert not [line for line in shown if "clips/s" in line]


def test_the_progress_of_workers_reaches_the_terminal_of_the_run(command):
    found = in_a_pipe(command, "-n", "2")
    text = whole(found)
    assert longest_silence(found) < SILENCE_S
    for cell in CELLS:
        count = COUNT.format(prefix=r"\[gw\d\] ", cell=cell)
        assert len(re.findall(count, text, re.MULTILINE)) >= 4
        assert re.search(VERDICT.format(cell=cell), text, re.MULTILINE)
    assert len(re.findall(r"^\[gw\d\] a file was damaged$", text, re.MULTILINE)) == 2


@pytest.mark.parametrize("option", ["-v", "-s"])
def test_other_ways_to_show_tests_speak_too(command, option):
    text = whole(in_a_pipe(command, "--model", "nonlocal_tiny", option))
    assert len(re.findall(r"nonlocal_tiny-cpu-bs1 export: \d of 5 clips", text)) >= 4
    assert bool(re.search(VERDICT.format(cell=CELLS[0]), text, re.MULTILINE)) == (option == "-s")


def test_a_wait_names_the_process_that_holds_the_lock(command, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCKS", str(tmp_path / "locks"))
    with contextlib.ExitStack() as held:
        held.enter_context(exclusive("cpu", tmp_path / "locks"))
        text = whole(in_a_pipe(command, "--model", "nonlocal_tiny", at=("waiting for", held.close)))
    assert re.search(
        rf"^waiting for cpu for 0 s: process {os.getpid()} on \S+ since", text, re.MULTILINE
    )
    assert re.search(VERDICT.format(cell=CELLS[0]), text, re.MULTILINE)
