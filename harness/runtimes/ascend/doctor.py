"""What a host needs to build and run on Ascend, what it has, and how to get the rest."""

from collections.abc import Mapping

from harness.device import ToolState
from harness.errors import DeviceError, RunError
from harness.host.command import executable
from harness.runtimes.ascend.ais_bench import found_ais_bench
from harness.runtimes.ascend.environment import (
    CannTools,
    atc_environment,
    atc_python_problems,
    cann_environment,
    versions_on_disk,
)
from harness.runtimes.ascend.probe import npu_smi_from_tools

DOWNLOADS = "https://www.hiascend.com/document (PyTorch inference, environment preparation)"
SITE = "set it in site.toml, table [ascend]"


def tool_states(tools: CannTools) -> tuple[ToolState, ...]:
    """Look at this host; missing tools raise no error."""
    try:
        env = cann_environment(tools)
    except DeviceError as error:
        return (ToolState("CANN environment", "set_env.sh", "broken", str(error)),)
    return (
        _driver(tools, env),
        *_versions(tools, env),
        _atc(tools, env),
        _python(tools, env),
        _ais_bench(tools, env),
    )


def _driver(tools: CannTools, env: Mapping[str, str]) -> ToolState:
    try:
        report = npu_smi_from_tools(tools, env).report()
    except DeviceError as error:
        return ToolState("npu-smi", "present", "no answer", str(error))
    chips = ", ".join(f"{chip.name} {chip.health}" for chip in report.chips)
    return ToolState("npu-smi", "present", f"driver {report.driver_version}: {chips}")


def _versions(tools: CannTools, env: Mapping[str, str]) -> tuple[ToolState, ...]:
    disk = versions_on_disk(tools, env)
    places = f"not below {tools.ascend_root}: install from {DOWNLOADS}"
    rows = (
        ("driver", "22.0.2", disk.driver),
        ("firmware", "22.0.2", disk.firmware),
        ("CANN", "5.1.RC2", disk.cann),
    )
    return tuple(
        ToolState(name, wanted, found or "not found", "" if found else places)
        for name, wanted, found in rows
    )


def _atc(tools: CannTools, env: Mapping[str, str]) -> ToolState:
    found = executable(tools.atc, atc_environment(tools, env))
    advice = (
        ""
        if found
        else "not on PATH: install the CANN toolkit and name its set_env.sh in site.toml"
    )
    return ToolState("atc", "from CANN 5.1.RC2", str(found or "not found"), advice)


def _python(tools: CannTools, env: Mapping[str, str]) -> ToolState:
    problems = atc_python_problems(tools, env)
    found = f"{len(problems)} problems" if problems else "fits"
    advice = "; ".join([*problems, SITE]) if problems else ""
    return ToolState("Python of atc", "3.7.5", found, advice)


def _ais_bench(tools: CannTools, env: Mapping[str, str]) -> ToolState:
    try:
        bench = found_ais_bench(tools, env)
    except RunError as error:
        return ToolState("ais_bench", "0.0.2", "not found", str(error))
    return ToolState("ais_bench", "0.0.2", f"from {bench.generation}, in {bench.python}")
