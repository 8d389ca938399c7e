"""A few of the kills and harms of benchmarks/crash_points.py, in real runs."""

import subprocess
import sys

from tests.made import ROOT


def test_a_run_after_a_kill_or_a_harm_comes_to_the_same_verdicts():
    script = str(ROOT / "benchmarks" / "crash_points.py")
    command = [sys.executable, script, "--points", "3", "--harms", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 kills, 2 of 2 harms" in done.stdout
