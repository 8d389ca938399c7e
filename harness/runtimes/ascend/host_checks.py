"""Whether a host is as docs/ascend.md asks, beyond the tools that are installed on it."""

import dataclasses
import getpass
import grp
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.device import ToolState
from harness.errors import DeviceError, RunError
from harness.host.environment import environment_facts
from harness.runtimes.ascend.ais_bench import AisBench, found_ais_bench
from harness.runtimes.ascend.environment import CannTools, cann_environment, imported, toolkit_home

ARCHITECTURES = ("x86_64", "aarch64")
GROUP = "HwHiAiUser"
MANAGERS = ("davinci_manager", "devmm_svm", "hisi_hdc")
DRIVER_PARTS = ("/usr/local/Ascend/driver", "/usr/local/dcmi")
WHEELS = "build its wheel as docs/ascend.md says, with this CANN and the interpreter of ais_bench"
BENCH_MODULES = ("aclruntime", "attrs", "pkg_resources")


@dataclasses.dataclass(frozen=True)
class HostFacts:
    """What this host says of itself; ``groups`` are those of the user who asks."""

    machine: str
    user: str
    groups: frozenset[str]
    known_groups: frozenset[str]
    container: str
    may_use: Callable[[Path], bool]

    @property
    def is_in_container(self) -> bool:
        """Whether it is a container, as far as can be seen."""
        return self.container == "yes"


def host_facts() -> HostFacts:
    """Look at this host."""
    known = {group.gr_gid: group.gr_name for group in grp.getgrall()}
    mine = (known.get(number, str(number)) for number in (os.getegid(), *os.getgroups()))
    return HostFacts(
        machine=platform.machine(),
        user=getpass.getuser(),
        groups=frozenset(mine),
        known_groups=frozenset(known.values()),
        container=environment_facts()["container"],
        may_use=lambda path: os.access(path, os.R_OK | os.W_OK),
    )


def host_checks(tools: CannTools, host: HostFacts | None = None) -> tuple[ToolState, ...]:
    """Check this host; what is wrong has advice, and nothing raises."""
    host = host or host_facts()
    broken: tuple[ToolState, ...] = ()
    try:
        env = cann_environment(tools)
    except DeviceError as error:
        env = dict(os.environ)
        broken = (ToolState("set_env.sh", "works", "broken", str(error)),)
    return (
        *broken,
        _architecture(tools, env, host),
        _user(host),
        *_nodes(tools, host),
        _container(host),
        *_packages(tools, env),
        _log_level(env),
        _commands(),
    )


def _architecture(tools: CannTools, env: Mapping[str, str], host: HostFacts) -> ToolState:
    home = toolkit_home(tools, env)
    built_for = [folder.name.removesuffix("-linux") for folder in sorted(home.glob("*-linux"))]
    advice = ""
    if host.machine not in ARCHITECTURES:
        advice = "CANN has no packages for it: use another host"
    elif built_for and host.machine not in built_for:
        advice = f"{home} is for {', '.join(built_for)}: install the packages for {host.machine}"
    return ToolState("architecture", " or ".join(ARCHITECTURES), host.machine, advice)


def _user(host: HostFacts) -> ToolState:
    found = f"{host.user}, in {', '.join(sorted(host.groups)) or 'no group'}"
    advice = ""
    if host.user != "root" and GROUP in host.known_groups and GROUP not in host.groups:
        advice = f"`sudo usermod -aG {GROUP} {host.user}`, then log in again"
    return ToolState("user", f"in {GROUP}", found, advice)


def _nodes(tools: CannTools, host: HostFacts) -> tuple[ToolState, ...]:
    chips = sorted(tools.device_root.glob("davinci[0-9]*"))
    where = "give the container --device of it" if host.is_in_container else "load the driver"
    nodes = [*chips, *(tools.device_root / name for name in MANAGERS)]
    missing = [node.name for node in nodes if not node.exists()]
    closed = [node.name for node in nodes if node.exists() and not host.may_use(node)]
    reasons = [] if chips else [f"there is no {tools.device_root}/davinci<N>: {where}"]
    if missing:
        reasons.append(f"{', '.join(missing)} missing: {where}")
    if closed:
        reasons.append(f"{host.user} may not read and write {', '.join(closed)}: see user above")
    found = ", ".join(node.name for node in nodes if node.exists()) or "none"
    return (ToolState("device nodes", "davinci<N> and 3", found, "; ".join(reasons)),)


def _container(host: HostFacts) -> ToolState:
    if not host.is_in_container:
        return ToolState("container", "none needed", f"in a container: {host.container}")
    missing = [part for part in DRIVER_PARTS if not Path(part).is_dir()]
    advice = f"mount {' and '.join(missing)} of the host" if missing else ""
    found = "in a container, where CANN dumps no operators"
    return ToolState("container", "driver mounted", found, advice)


def _packages(tools: CannTools, env: Mapping[str, str]) -> tuple[ToolState, ...]:
    try:
        bench = found_ais_bench(tools, env)
    except RunError:
        return (ToolState("aclruntime", "imports", "not found", f"see ais_bench above; {WHEELS}"),)
    found, _said = imported(bench.python, BENCH_MODULES, tools, bench.env)
    return tuple(_package(name, bench, found) for name in BENCH_MODULES)


def _package(name: str, bench: AisBench, found: Mapping[str, Any]) -> ToolState:
    version = ".".join(map(str, found.get("python", ())))
    advice = {
        "aclruntime": f"{WHEELS}, {bench.python} {version}",
        "attrs": f"`{bench.python} -m pip install 'attrs>=21.3'`: ais_bench of 2024 and later imports it",
        "pkg_resources": f"`{bench.python} -m pip install 'setuptools<81'`: without it ais_bench"
        " silently changes its --run_mode",
    }[name]
    module = found.get("modules", {}).get(name, {"error": "no answer"})
    if "error" not in module:
        return ToolState(name, "imports", module["file"] or "imports")
    is_needed = name != "attrs" or bench.generation == "2025"
    return ToolState(name, "imports", module["error"], advice if is_needed else "")


def _log_level(env: Mapping[str, str]) -> ToolState:
    level, shown = env.get("ASCEND_GLOBAL_LOG_LEVEL"), env.get("ASCEND_SLOG_PRINT_TO_STDOUT")
    reasons = []
    if level in ("0", "1"):
        reasons.append("`unset ASCEND_GLOBAL_LOG_LEVEL`: debug and info logs slow what is timed")
    if shown == "1":
        reasons.append("`unset ASCEND_SLOG_PRINT_TO_STDOUT`: logs mix with what the tools print")
    found = f"level {level or 'default'}, on screen {shown or 'default'}"
    return ToolState("CANN's log", "error, in files", found, "; ".join(reasons))


def _commands() -> ToolState:
    folder = Path(sys.executable).parent
    names = [name for name in ("harness", "pytest") if not (folder / name).exists()]
    advice = f"no {' and '.join(names)} in {folder}: run `make acceptance` in the checkout"
    return ToolState("commands", ".venv/bin", str(folder), advice if names else "")
