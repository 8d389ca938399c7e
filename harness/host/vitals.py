"""How this host's processors are: temperature, frequency, energy counters, and the memory of a process."""

import contextlib
import math
import os
from collections.abc import Iterable
from pathlib import Path

from harness.host.reading import kernel_text, number_from_text
from harness.timings import Vitals

SYS = Path("/sys")
# Zones of the kernel that are about the processor.
_ZONES = ("x86_pkg_temp", "cpu", "soc", "cluster")


def host_vitals(root: Path = SYS) -> Vitals:
    """Return what the kernel lets this process know of the host's processors.

    Since 2020 kernels let only root read the energy counters (RAPL).
    """
    zones = (root / "class" / "thermal").glob("thermal_zone*")
    heat = _numbers(
        zone / "temp" for zone in zones if kernel_text(zone / "type").startswith(_ZONES)
    )
    cpus = (root / "devices" / "system" / "cpu").glob("cpu[0-9]*")
    clocks = _numbers(cpu / "cpufreq" / "scaling_cur_freq" for cpu in cpus)
    joules = _package_energy(root / "class" / "powercap")
    return Vitals(
        temperature_c=max(heat) / 1e3 if heat else None,
        frequency_mhz=math.fsum(clocks) / len(clocks) / 1e3 if clocks else None,
        energy_j=joules,
        power_of="" if joules is None else "processors",
    )


def resident_mb() -> float | None:
    """Return the resident memory of this process; None where the kernel does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return None


def _package_energy(powercap: Path) -> float | None:
    """Return the energy of all packages in joules; None unless every counter can be read."""
    packages = [
        zone / "energy_uj"
        for zone in powercap.glob("intel-rapl:*")
        if kernel_text(zone / "name").startswith("package")
    ]
    counts = _numbers(packages)
    return math.fsum(counts) / 1e6 if packages and len(counts) == len(packages) else None


def _numbers(paths: Iterable[Path]) -> list[float]:
    found = [number_from_text(kernel_text(path)) for path in paths]
    return [number for number in found if number is not None]
