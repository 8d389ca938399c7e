"""Run a command and take it down with us: started as a script, never imported by the harness.

``command_guard.py FD COMMAND...`` leads a process group of its own. When the other end of the pipe
``FD`` closes, because the harness died even by SIGKILL, the whole group is killed; otherwise the
exit status of the command is passed on, 128 + n where signal n ended it.
"""

import os
import signal
import subprocess
import sys
import threading


def _die_with(pipe: int) -> None:
    os.read(pipe, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> int:
    """Run the command of the command line under guard."""
    pipe = int(sys.argv[1])
    try:
        child = subprocess.Popen(sys.argv[2:])
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 127
    threading.Thread(target=_die_with, args=(pipe,), daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    # No clean-up of the interpreter: the daemon thread blocks in a read.
    os._exit(main())
