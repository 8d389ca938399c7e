"""Chip, driver and vital signs of the NVIDIA GPUs of this host, as nvidia-smi reports them."""

import os
from collections.abc import Mapping, Sequence

from harness.errors import DeviceBroken
from harness.host.command import Command, emulator_stamps, executable, run_command
from harness.host.reading import number_from_text
from harness.timings import Vitals

TOOL = "nvidia-smi"
SIGNS = ("temperature.gpu", "power.draw", "clocks.sm", "memory.used")
LIMIT_S = 30.0
_MB_OF_MIB = 1.048576


def gpu_facts() -> Mapping[str, str]:
    """Return chip and driver, and whether an emulator stands in for nvidia-smi.

    What nvidia-smi does not report is left out. If the host has GPUs of several kinds, all are
    named: CUDA numbers them in another order.
    """
    stamps = emulator_stamps([executable(TOOL)], os.environ)
    return {**_reported(), **({"emulated": "yes"} if stamps else {})}


def gpu_vitals() -> Vitals:
    """Return the vital signs of the GPU that this process computes on; power is that of the whole card.

    They are absent without nvidia-smi, and where the host has several GPUs and nvidia-smi does not
    list this process on any of them, as in a container.

    Raises:
        DeviceBroken: nvidia-smi is there and does not answer.
    """
    if executable(TOOL) is None:
        return Vitals()
    gpus = {uuid: signs for uuid, *signs in _rows("query-gpu", ("uuid", *SIGNS))}
    signs = gpus.get(_uuid_of_this_process() if len(gpus) > 1 else next(iter(gpus), ""))
    if signs is None:
        return Vitals()
    temperature_c, power_w, frequency_mhz, memory_mib = map(number_from_text, signs)
    return Vitals(
        temperature_c=temperature_c,
        power_w=power_w,
        power_of="" if power_w is None else "card",
        frequency_mhz=frequency_mhz,
        memory_mb=None if memory_mib is None else memory_mib * _MB_OF_MIB,
    )


def _reported() -> dict[str, str]:
    try:
        rows = _rows("query-gpu", ("name", "driver_version"))
    except DeviceBroken:
        return {}
    if not rows:
        return {}
    return {"chip": " or ".join(dict.fromkeys(name for name, _ in rows)), "driver": rows[0][1]}


def _uuid_of_this_process() -> str:
    rows = _rows("query-compute-apps", ("gpu_uuid", "pid"))
    return next((uuid for uuid, pid in rows if pid == str(os.getpid())), "")


def _rows(query: str, fields: Sequence[str]) -> list[list[str]]:
    """Return the fields of each line that has all of them."""
    argv = (TOOL, f"--{query}={','.join(fields)}", "--format=csv,noheader,nounits")
    command = Command(argv, LIMIT_S)
    try:
        done = run_command(command)
    except OSError as error:
        raise DeviceBroken(f"`{command.text}` cannot be run: {error}") from error
    if done.rc:
        late = f" within {LIMIT_S:g} s" if done.timed_out else ""
        raise DeviceBroken(f"`{command.text}` did not answer{late}: {done.last_lines}")
    rows = [line.strip().rsplit(", ", len(fields) - 1) for line in done.output.splitlines()]
    return [row for row in rows if len(row) == len(fields)]
