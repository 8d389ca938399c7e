"""An NVIDIA GPU, by ONNX Runtime's CUDA provider: the T4 column of the guides."""

import os
import subprocess
from collections.abc import Mapping

from harness.device import DeviceSpec
from harness.host.command import emulator_stamps, executable
from harness.runtimes.ort import OrtDevice
from harness.runtimes.ort_operators import OPSET11_OPS

QUERY = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
LIMIT_S = 30.0


def gpu_facts() -> Mapping[str, str]:
    """Return chip and driver as nvidia-smi tells them, and whether an emulator stands in for them.

    Where nvidia-smi cannot tell, they are left out. Where the host has GPUs of several kinds, all
    are named: CUDA counts them in another order.
    """
    stamps = emulator_stamps([executable(QUERY[0], os.environ)], os.environ)
    return {**_told_by_nvidia_smi(), **({"emulated": "yes"} if stamps else {})}


def _told_by_nvidia_smi() -> dict[str, str]:
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


DEVICE = OrtDevice(
    DeviceSpec(
        name="cuda",
        runtime="ort",
        description="an NVIDIA GPU, by ONNX Runtime's CUDA provider",
        precision="fp32",
        allowed_ops=OPSET11_OPS,
    ),
    provider="CUDAExecutionProvider",
    memory="cuda",
    hardware=gpu_facts,
    install_hint="install onnxruntime-gpu in place of onnxruntime on a host with an NVIDIA driver",
)
