"""Chip and driver of the NVIDIA GPUs of this host, as nvidia-smi reports them."""

import os
import subprocess
from collections.abc import Mapping

from harness.host.command import emulator_stamps, executable

QUERY = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
LIMIT_S = 30.0


def gpu_facts() -> Mapping[str, str]:
    """Return chip and driver, and whether an emulator stands in for nvidia-smi.

    What nvidia-smi does not report is left out. If the host has GPUs of several kinds, all are
    named: CUDA numbers them in another order.
    """
    stamps = emulator_stamps([executable(QUERY[0], os.environ)], os.environ)
    return {**_reported(), **({"emulated": "yes"} if stamps else {})}


def _reported() -> dict[str, str]:
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [line.rpartition(", ") for line in done.stdout.splitlines() if ", " in line]
    if not rows:
        return {}
    return {
        "chip": " or ".join(dict.fromkeys(name for name, _, _ in rows)),
        "driver": rows[0][2].strip(),
    }
