import errno
import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.errors import BuildError, DeviceBroken, ExportError, SiteError, StageError
from harness.host import child_process
from harness.host.child_process import ChildError, StageCost, peak_bytes, run_in_child
from harness.host.site import load_site

# Children run builtins and strings, so that no test module must be importable in them.
ROOT = Path(__file__).parents[2]
RAISES_CHAIN = """
from harness.errors import DeviceBroken
try:
    open("/nowhere/at/all")
except OSError as error:
    raise DeviceBroken("the card is gone") from error
"""
SLEEPS = """
import signal, sys
from harness.host.child_process import run_in_child
sys.excepthook = lambda *error: None
run_in_child(exec, "import time; print('asleep', flush=True); time.sleep(60)")
"""
ALLOCATES = "__import__('time').sleep(len(bytearray(b'x') * 300_000_000) and 60)"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(child_process, "_TICK_S", 0.05)


def unpicklable():
    return threading.Lock()


def children():
    return multiprocessing.active_children()


def test_returns_the_value_and_what_it_took():
    value, cost = run_in_child(divmod, 7, 2)
    assert value == (3, 1)
    assert 0 <= cost.seconds < 5
    assert 5e6 < cost.peak_bytes < 1e9
    assert children() == []


def test_peak_is_that_of_the_child_alone():
    ballast = bytearray(b"x") * 400_000_000
    _, small = run_in_child(len, "x")
    _, large = run_in_child(eval, "len(bytearray(b'x') * 200_000_000)")
    assert small.peak_bytes < len(ballast)
    assert 190e6 < large.peak_bytes - small.peak_bytes < 300e6


def test_large_value_comes_back():
    value, _ = run_in_child(bytes, 5_000_000)
    assert len(value) == 5_000_000


def test_harness_error_comes_back_as_it_was(tmp_path):
    missing = tmp_path / "none.toml"
    with pytest.raises(SiteError, match=r"cannot read the site file .*none\.toml") as caught:
        run_in_child(load_site, missing, {})
    cause = caught.value.__cause__
    assert isinstance(cause, FileNotFoundError)
    assert isinstance(cause.__cause__, ChildError)
    assert "Traceback" in str(cause.__cause__)


def test_other_error_becomes_a_stage_error_with_its_last_lines(tmp_path):
    log = tmp_path / "export.log"
    with pytest.raises(ExportError, match="math domain error") as caught:
        run_in_child(eval, "__import__('math').sqrt(-1)", log=log, failure=ExportError)
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(log) in str(caught.value)
    assert caught.value.stage == "export"


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "SIGKILL.*out-of-memory"), (signal.SIGSEGV, "SIGSEGV$")],
)
def test_killed_child_is_a_stage_error_that_names_the_signal(number, words):
    with pytest.raises(StageError, match=f"raise_signal: .*{words}"):
        run_in_child(signal.raise_signal, number)


def test_killed_child_tells_how_much_memory_it_had(quick):
    def kill_when_large(elapsed_s):
        (child,) = children()
        if peak_bytes(child.pid) > 250e6:
            child.kill()

    with pytest.raises(StageError, match=r"SIGKILL after using at least 0\.[23]\d GB"):
        run_in_child(eval, ALLOCATES, heartbeat=kill_when_large)


def test_child_that_leaves_without_a_word_is_a_stage_error():
    with pytest.raises(StageError, match="exited with status 3"):
        run_in_child(os._exit, 3)


def test_too_long_a_stage_is_killed(quick):
    start_s = time.monotonic()
    with pytest.raises(BuildError, match=r"sleep: stopped at its limit of 0\.3 s"):
        run_in_child(time.sleep, 60, timeout_s=0.3, failure=BuildError)
    assert time.monotonic() - start_s < 5
    assert children() == []


def test_heartbeat_tells_the_elapsed_seconds(quick):
    beats: list[float] = []
    run_in_child(time.sleep, 0.3, heartbeat=beats.append)
    assert len(beats) >= 3
    assert beats == sorted(beats)


def test_ctrl_c_kills_the_child(quick):
    def interrupt(elapsed_s):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_child(time.sleep, 60, heartbeat=interrupt)
    assert children() == []


def test_output_of_the_child_goes_to_the_log(tmp_path, capfd):
    log = tmp_path / "logs" / "export.log"
    run_in_child(exec, "import os; print('python'); os.system('echo shell >&2')", log=log)
    run_in_child(print, "again", log=log)
    assert log.read_text() == "python\nshell\nagain\n"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("end", "number"),
    [(os.kill, signal.SIGKILL), (os.kill, signal.SIGINT), (os.killpg, signal.SIGINT)],
)
def test_child_ends_with_its_parent(interruptible, end, number):
    command = [sys.executable, "-c", SLEEPS]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "asleep\n"
        end(parent.pid, number)
        assert parent.stdout.read() == ""  # ends when the child has closed it too
    assert parent.returncode == -number


def test_function_that_cannot_be_pickled_starts_nothing():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        run_in_child(lambda: 1)
    assert children() == []


def test_outcome_keeps_the_chain_of_causes():
    outcome = child_process._outcome_from_call(exec, (RAISES_CHAIN, {}))
    error = child_process._error_from_outcome(pickle.loads(pickle.dumps(outcome)), StageError, "t")
    assert isinstance(error, DeviceBroken)
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == errno.ENOENT


def test_outcome_of_a_value_that_cannot_be_pickled():
    outcome = child_process._outcome_from_call(unpicklable, ())
    error = child_process._error_from_outcome(outcome, StageError, "t")
    assert "cannot pickle" in str(error)


def test_error_that_cannot_be_pickled_becomes_text():
    class LocalError(Exception):
        pass

    (error,) = child_process._with_causes(LocalError("odd"))
    assert isinstance(error, ChildError)
    assert str(error) == "LocalError: odd"


def test_child_main_sends_one_outcome(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    monkeypatch.setattr(child_process, "_redirect_output", lambda log: log.touch())
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with receiver, sender:
        child_process._child_main(sender, tmp_path / "log", divmod, (7, 2))
        child_process._child_main(sender, None, divmod, (7, 2))
        outcome = pickle.loads(receiver.recv_bytes())
    assert pickle.loads(outcome.value) == (3, 1)
    assert isinstance(outcome.cost, StageCost)
    assert (tmp_path / "log").exists()


def test_redirect_output_moves_both_streams(tmp_path, capfd):
    saved = os.dup(1), os.dup(2)
    try:
        child_process._redirect_output(tmp_path / "log")
        os.write(1, b"out\n")
        os.write(2, b"err\n")
    finally:
        for number, copy in enumerate(saved, 1):
            os.dup2(copy, number)
            os.close(copy)
    assert (tmp_path / "log").read_text() == "out\nerr\n"


def test_redirect_output_takes_a_replaced_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "dup2", lambda source, target: None)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    child_process._redirect_output(tmp_path / "log")
    assert (tmp_path / "log").exists()


def test_follower_leaves_after_its_parent():
    receiver, sender = multiprocessing.Pipe(duplex=False)
    left: list[int] = []
    with receiver:
        sender.close()
        child_process._leave_after(receiver.fileno(), left.append)
    assert left == [1]


def test_follow_parent_watches_the_sentinel(monkeypatch):
    receiver, sender = multiprocessing.Pipe(duplex=False)
    started = threading.Event()
    parent = type("Parent", (), {"sentinel": receiver.fileno()})()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)
    monkeypatch.setattr(child_process, "_leave_after", lambda sentinel: started.set())
    with receiver, sender:
        child_process.follow_parent()
        assert started.wait(5)


def test_peak_bytes_without_proc(monkeypatch):
    def refuse(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert peak_bytes() > 5e6
    assert peak_bytes(1) == 0


def test_peak_bytes_of_a_process_that_tells_nothing(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: "Name:\tkthread\n")
    assert peak_bytes(2) == 0


def test_signal_name_of_an_unknown_number():
    assert child_process.signal_name(999) == "signal 999"


KEEPS = """
import resource
from harness.host.child_process import keep_freed_memory
keep_freed_memory()
bytearray(64_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(64_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_kept_for_the_next_tensor(tmp_path):
    log = tmp_path / "log"
    run_in_child(exec, KEEPS, log=log)
    kept_faults = int(log.read_text())
    run_in_child(exec, KEEPS.replace("keep_freed_memory()", ""), log=log)
    fresh_faults = int(log.read_text().split()[-1])
    # 64 MB are 15,625 pages, fetched anew for each of the twenty.
    assert kept_faults < 1_000
    assert fresh_faults > 100_000
