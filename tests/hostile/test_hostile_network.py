"""A run in a network of its own, which leads nowhere."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.made import FOREIGN, ROOT

ALONE = ("unshare", "--map-root-user", "--net")
RUN = (*(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"), "acceptance/")
CHECKS = ("--model", "nonlocal_tiny", "-m", "cpu and smoke and (export or parity)")
ANYWHERE = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"


@pytest.fixture
def alone(tmp_path):
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], check=False).returncode:
        pytest.skip("this machine gives no network namespace (unshare --map-root-user --net)")
    environ = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    (tmp_path / "site.toml").write_text(f'cache_dir = "cache"\nrun_root = "{tmp_path}/runs"\n')
    environ |= {"ACCEPTANCE_SITE": str(tmp_path / "site.toml"), "PYTHONPATH": str(ROOT)}

    def run(*command):
        return subprocess.run(
            [*ALONE, *command], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )

    return run


def test_a_run_needs_no_network(alone):
    assert "Network is unreachable" in alone(sys.executable, "-c", ANYWHERE).stderr
    done = alone(*RUN, *CHECKS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
