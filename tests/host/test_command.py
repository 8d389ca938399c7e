import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.host.command import Command, emulator_stamps, executable, run_command


def bash(script, timeout_s=20.0, **options):
    return run_command(Command(("bash", "-c", script), timeout_s, **options))


def is_alive(pid):
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):  # it may end between the two
        return False
    return state != "Z"


def wait_until_dead(pid):
    for _ in range(100):
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def wait_for_pid(path):
    for _ in range(200):
        if path.is_file() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError("the child never started")


def test_output_status_and_log_come_back(tmp_path):
    result = bash("echo out; echo err >&2; exit 7", log=tmp_path / "logs" / "it.log", cwd=tmp_path)
    assert (result.rc, result.timed_out) == (7, False)
    assert result.output == "out\nerr\n" == (tmp_path / "logs" / "it.log").read_text()
    assert result.last_lines == "out / err"
    assert bash("true").last_lines == "(nothing)"


def test_a_killed_command_has_the_status_of_a_shell():
    assert bash("kill -9 $$").rc == 137


def test_environment_and_folder_are_those_asked_for(tmp_path):
    result = bash("echo $WHO; pwd", env={"PATH": os.environ["PATH"], "WHO": "me"}, cwd=tmp_path)
    assert result.output.splitlines() == ["me", str(tmp_path)]


def test_a_missing_executable_is_said():
    with pytest.raises(FileNotFoundError, match="no-such-tool is not an executable"):
        run_command(Command(("no-such-tool",), 1.0))
    assert executable("no-such-tool") is None


def test_a_file_that_cannot_be_executed_ends_with_127(tmp_path):
    bad = tmp_path / "bad"
    bad.write_bytes(b"\x7fELFnot really")
    bad.chmod(0o755)
    assert run_command(Command((str(bad),), 5.0)).rc == 127


def test_a_timeout_kills_the_whole_group(tmp_path):
    pid_file = tmp_path / "pid"
    result = bash(f"sleep 60 & echo $! > {pid_file}; wait", timeout_s=0.6)
    assert result.timed_out
    assert wait_until_dead(wait_for_pid(pid_file))


def test_what_a_command_leaves_behind_is_killed(tmp_path):
    pid_file = tmp_path / "pid"
    assert bash(f"sleep 60 & echo $! > {pid_file}").rc == 0
    assert wait_until_dead(wait_for_pid(pid_file))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_no_child_outlives_the_harness(tmp_path, interruptible, sent):
    pid_file = tmp_path / "pid"
    code = (
        "from harness.host.command import Command, run_command\n"
        f"run_command(Command(('bash', '-c', 'sleep 60 & echo $! > {pid_file}; wait'), 60))"
    )
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root}
    harness = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL)
    child = wait_for_pid(pid_file)
    harness.send_signal(sent)
    harness.wait()
    assert wait_until_dead(child)


def test_the_heartbeat_tells_the_last_line():
    beats = []
    bash(
        "echo working; sleep 0.9",
        heartbeat=lambda seconds, line: beats.append((seconds > 0, line)),
        heartbeat_s=0.1,
    )
    assert beats[0] == (True, "working")
    assert 1 < len(beats) < 9


def test_an_emulator_is_seen_by_variable_file_and_path(tmp_path):
    assert emulator_stamps([None], {}) == ()
    assert emulator_stamps([], {"EMULATOR_STAMP": "1"}) == ("EMULATOR_STAMP",)
    stamp, tool = tmp_path / "bin" / "EMULATOR_STAMP", tmp_path / "bin" / "atc"
    tool.parent.mkdir()
    stamp.touch()
    tool.touch()
    link = tmp_path / "atc"
    link.symlink_to(tool)
    assert emulator_stamps([link], {}) == (str(stamp),)
    assert emulator_stamps([], {"PYTHONPATH": f"/x:{tool.parent}"}) == (str(stamp),)
