"""Calls that hang are given up, and leave nothing behind once their process ends."""

import signal
import subprocess
import sys
import threading

import pytest

from harness.errors import DecodeError, RunError
from harness.host.patience import going_on, patiently

HUNG = """
import time
import harness.host.patience as patience
patience.HANG_S = 0.1
try:
    with patience.patiently() as call:
        call(time.sleep, 3600.0)
except patience.RunError as error:
    print(error)
"""


def test_values_and_errors_come_back_and_the_thread_ends():
    before = threading.active_count()
    with patiently() as call:
        assert call(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            call(divmod, 7, 0)
        assert call(threading.get_ident) == call(threading.get_ident) != threading.get_ident()
    assert threading.active_count() == before


def test_what_hangs_has_the_name_and_the_error_that_the_caller_gives_it(monkeypatch, released):
    monkeypatch.setattr("harness.host.patience.HANG_S", 0.1)
    with (
        pytest.raises(DecodeError, match=r"^reading a\.mp4 did not return within 0\.1 s"),
        patiently("reading a.mp4", failure=DecodeError) as call,
    ):
        call(released.wait)
    with (
        pytest.raises(DecodeError, match=r"^reading b\.mp4: an earlier call"),
        patiently("reading b.mp4", failure=DecodeError) as call,
    ):
        call(list)


def test_after_a_call_that_hangs_nothing_is_called_until_it_ends(monkeypatch):
    monkeypatch.setattr("harness.host.patience.HANG_S", 0.1)
    ended, called = threading.Event(), []
    with pytest.raises(RunError, match=r"wait did not return within 0\.1 s"), patiently() as call:
        call(ended.wait)
    with pytest.raises(RunError, match=r"append: an earlier call .* hangs"), patiently() as call:
        call(called.append, 1)
    ended.set()
    (thread,) = [one for one in threading.enumerate() if "_serve" in one.name]
    thread.join()
    with patiently() as call:
        call(called.append, 2)
    assert called == [2]


def test_ctrl_c_does_not_wait_for_a_call(interruptible, released):
    main = threading.main_thread().ident
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), patiently() as call:
        call(released.wait)


def test_a_child_that_goes_on_may_take_as_long_as_it_needs(monkeypatch):
    monkeypatch.setattr("harness.host.patience.HANG_S", 10.0)
    counts = iter([0, 0, 1, 1, 2, 2, 2])
    beat = going_on("predictions", lambda: next(counts))
    for elapsed_s in (1.0, 10.0, 12.0, 21.0, 30.0, 39.0):
        beat(elapsed_s)
    with pytest.raises(RunError, match="predictions: nothing more was finished within 10 s"):
        beat(40.0)


def test_a_process_in_which_a_call_hangs_ends():
    done = subprocess.run(
        [sys.executable, "-c", HUNG], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == (
        "sleep did not return within 0.1 s: it hangs\n",
        "",
    )
