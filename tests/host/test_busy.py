import os
import subprocess
import sys

from harness.host.busy import busy_processes


def children():
    """Return how many processes this one has."""
    tasks = f"/proc/self/task/{os.getpid()}/children"
    with open(tasks, encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel
        return len(file.read().split())


def test_processes_are_there_while_the_block_runs():
    before = children()
    with busy_processes(2):
        assert children() == before + 2
    assert children() == before


def test_they_end_with_the_process_that_started_them():
    program = (
        "import os\nfrom harness.host.busy import busy_processes\n"
        "with busy_processes(1):\n    os._exit(0)"
    )
    # Its output is inherited by what it leaves behind, so that this ends when they all have.
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b""
