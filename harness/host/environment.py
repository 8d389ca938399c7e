"""The facts of this machine that a record keeps, and the state of its CPUs around a timed run.

What cannot be found out is ``unknown`` or None; looking never fails. Driver, firmware and CANN
are looked up by the Ascend devices.
"""

import dataclasses
import importlib.metadata
import os
import platform
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.host.clocks import Reading
from harness.host.reading import kernel_text, number_from_text
from harness.host.suite_code import UNKNOWN, contract_facts, suite_facts

PACKAGES = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxsim",
    "mmaction2",
    "mmcv-full",
    "numpy",
    "decord",
    "av",
    "pytest",
)
OPENCV_PACKAGES = (
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
    "opencv-python-headless",
    "opencv-python",
)
ISA_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_tile", "asimd", "sve")
# Of the first line of /proc/stat: user, nice, system, irq, softirq; and what a hypervisor took.
BUSY_COLUMNS = (1, 2, 3, 6, 7)
STEAL_COLUMNS = (8,)
# Others may take as much of all processors, and the processor as often from this process, while
# a host still counts as quiet.
QUIET_SHARE = 0.05
QUIET_SWITCHES_PER_S = 50.0

_CONTAINER_WORDS = ("docker", "containerd", "kubepods", "libpod", "lxc")


@dataclasses.dataclass(frozen=True)
class CpuState:
    """The CPUs at one moment; None where the machine does not say.

    Two states around a timed run show by their difference whether it was disturbed:
    ``throttled_s`` is how long the quota of the control group stopped it, ``steal_s`` how long
    another virtual machine had the CPU, ``busy_s`` how long all CPUs together worked for anybody.
    """

    load_1min: float | None
    throttled_s: float | None
    steal_s: float | None
    governor: str | None
    busy_s: float | None


def environment_facts(contract: Path | None = None, root: Path = Path("/")) -> Mapping[str, str]:
    """Return the facts by name: the suite and its contract, packages, Python, system and machine."""
    return {
        **suite_facts(),
        **contract_facts(contract),
        **{f"package.{name}": _version(name) for name in PACKAGES},
        "package.opencv": _opencv_version(),
        "python": platform.python_version(),
        "os": _fields(root / "etc/os-release", "=").get("PRETTY_NAME", UNKNOWN).strip('"'),
        "kernel": platform.release(),
        "machine": platform.machine(),
        **_cpu_facts(root),
        "memory_gb": _memory_gb(root),
        "host": socket.gethostname(),
        "container": _container(root),
    }


def cpu_state(root: Path = Path("/")) -> CpuState:
    """Return the state of the CPUs now."""
    stopped_s = [
        took_s for group in _cpu_groups(root) if (took_s := _throttled_s(group)) is not None
    ]
    governor = kernel_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return CpuState(
        load_1min=number_from_text(kernel_text(root / "proc/loadavg").partition(" ")[0]),
        throttled_s=sum(stopped_s) if stopped_s else None,
        steal_s=_ticks_s(root, STEAL_COLUMNS),
        governor=governor.strip() or None,
        busy_s=_ticks_s(root, BUSY_COLUMNS),
    )


def cpu_note(before: CpuState, after: CpuState) -> str:
    """Say in one line how the CPUs were around a timed run; empty where nothing is known."""
    parts = []
    if before.load_1min is not None and after.load_1min is not None:
        parts.append(f"load {before.load_1min:.2f} before, {after.load_1min:.2f} after")
    if before.steal_s is not None and after.steal_s is not None:
        parts.append(f"{after.steal_s - before.steal_s:.1f} s taken by other virtual machines")
    if before.throttled_s is not None and after.throttled_s is not None:
        parts.append(f"{after.throttled_s - before.throttled_s:.1f} s stopped by its quota")
    if after.governor is not None:
        parts.append(f"governor {after.governor}")
    return f"host: {', '.join(parts)}" if parts else ""


def is_host_quiet(before: CpuState, after: CpuState, passed: Reading, switches: int) -> bool | None:
    """Whether this process had the host for itself between two states; None where the kernel does not say.

    ``passed`` are its clocks between them, ``switches`` how often it lost a CPU that it could have
    gone on using.
    """
    states = (before.busy_s, after.busy_s, before.steal_s, after.steal_s)
    if None in states:
        return None
    busy, steal = (_passed(before.busy_s, after.busy_s), _passed(before.steal_s, after.steal_s))
    others_s = busy - passed.ticked_processor_s + steal
    is_alone = others_s <= QUIET_SHARE * (os.cpu_count() or 1) * passed.wall_s
    return is_alone and switches <= QUIET_SWITCHES_PER_S * passed.wall_s


def taken_share(before: CpuState, after: CpuState, wall_s: float) -> float:
    """Return how much of the CPUs' time other virtual machines and the quota took; 0 where unknown."""
    steal = _passed(before.steal_s, after.steal_s)
    throttled = _passed(before.throttled_s, after.throttled_s)
    return max(0.0, steal + throttled) / ((os.cpu_count() or 1) * wall_s) if wall_s > 0.0 else 0.0


def _passed(before_s: float | None, after_s: float | None) -> float:
    return (after_s or 0.0) - (before_s or 0.0)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _opencv_version() -> str:
    found = [
        f"{version} ({name})" for name in OPENCV_PACKAGES if (version := _version(name)) != "absent"
    ]
    return ", ".join(found) or "absent"


def _cpu_facts(root: Path) -> dict[str, str]:
    fields = _fields(root / "proc/cpuinfo", ":")
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    usable = os.sched_getaffinity(0)
    return {
        "cpu.model": fields.get("model name", UNKNOWN),
        "cpu.isa": " ".join(flag for flag in ISA_FLAGS if flag in flags) or UNKNOWN,
        "cpu.count": str(os.cpu_count() or UNKNOWN),
        "cpu.usable": str(len(usable)),
    }


def _memory_gb(root: Path) -> str:
    kib = number_from_text(
        _fields(root / "proc/meminfo", ":").get("MemTotal", "").partition(" ")[0]
    )
    return UNKNOWN if kib is None else f"{kib * 1024 / 1e9:.1f}"


def _container(root: Path) -> str:
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return "yes"
    groups = kernel_text(root / "proc/1/cgroup")
    if not groups:
        return UNKNOWN
    return "yes" if any(word in groups for word in _CONTAINER_WORDS) else "no"


def _cpu_groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the CPU control group of this process and of all above it."""
    for line in kernel_text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        for mount in _cpu_mounts(controllers, root):
            group = mount / name.strip("/")
            chain = [group, *group.parents]
            yield from chain[: chain.index(mount) + 1]


def _cpu_mounts(controllers: str, root: Path) -> list[Path]:
    top = root / "sys/fs/cgroup"
    if not controllers:
        return [top]
    named = top / controllers
    return [named if named.is_dir() else top / "cpu"] if "cpu" in controllers.split(",") else []


def _throttled_s(group: Path) -> float | None:
    """Return how long a control group was stopped; its second edition counts in other units."""
    fields = _fields(group / "cpu.stat", " ")
    for name, per_s in (("throttled_usec", 1e6), ("throttled_time", 1e9)):
        if (took := number_from_text(fields.get(name, ""))) is not None:
            return took / per_s
    return None


def _ticks_s(root: Path, columns: Sequence[int]) -> float | None:
    """Return the sum of columns of the first line of /proc/stat, in seconds of all CPUs."""
    values = kernel_text(root / "proc/stat").partition("\n")[0].split()
    ticks = [number_from_text(values[column]) for column in columns if column < len(values)]
    known = [tick for tick in ticks if tick is not None]
    if len(known) < len(columns):
        return None
    return sum(known) / os.sysconf("SC_CLK_TCK")


def _fields(path: Path, separator: str) -> dict[str, str]:
    """Return the first value of each name in a file of ``name<separator>value`` lines."""
    fields: dict[str, str] = {}
    for line in kernel_text(path).splitlines():
        name, _, value = line.partition(separator)
        fields.setdefault(name.strip(), value.strip())
    return fields


def rounding_facts() -> dict[str, str]:
    """Return the facts of this machine that change the rounding of sums."""
    facts = _cpu_facts(Path("/"))
    return {name: facts[name] for name in ("cpu.model", "cpu.isa")}


def thread_facts() -> dict[str, str]:
    """Return the facts that decide how many threads PyTorch takes, which changes its rounding as well."""
    set_ = {name: os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {"cpu.usable": _cpu_facts(Path("/"))["cpu.usable"], **set_}


def processor_name() -> str:
    """Return the model of this host's processor and the instruction sets that programs choose by."""
    return ": ".join(rounding_facts().values())
