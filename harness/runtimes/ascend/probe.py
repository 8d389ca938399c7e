"""Look for one kind of Ascend chip and report what is there."""

import dataclasses
from collections.abc import Mapping, Sequence

from harness.device import DeviceSpec, DeviceState, Presence
from harness.errors import DeviceAbsent, DeviceBroken, DeviceError
from harness.host.command import emulator_stamps, executable
from harness.runtimes.ascend.atc_options import version_from_text
from harness.runtimes.ascend.environment import (
    CannTools,
    Versions,
    atc_environment,
    cann_environment,
    versions_on_disk,
    visible_devices,
)
from harness.runtimes.ascend.npu_smi import NpuSmi
from harness.runtimes.ascend.npu_smi_table import Chip, NpuProcess, NpuSmiReport

USABLE_HEALTHS = ("OK", "Warning")
IDLE_AICORE_PERCENT = 5.0
# The last CANN that drives a chip, which its documents name until then.
LAST_CANN = {"310": (8, 2)}


@dataclasses.dataclass(frozen=True)
class Unit:
    """A physical chip that may be used.

    Attributes:
        soc_version: atc's name for it.
        device_number: ais_bench's number for it, in the environment that was probed.
        processes: processes that use it, or None if this npu-smi does not list them.
        driver_version: from the table's header.
    """

    chip: Chip
    soc_version: str
    device_number: int
    processes: tuple[NpuProcess, ...] | None
    driver_version: str

    @property
    def id(self) -> str:
        """Name of the physical chip on this host."""
        return self.chip.unit_id

    @property
    def text(self) -> str:
        """Health, temperature, power, memory and load, for a person."""
        chip = self.chip
        who = "not listed" if self.processes is None else str(len(self.processes))
        return (
            f"{chip.name}, health {chip.health}, {_or_na(chip.temperature_c)} °C,"
            f" {_or_na(chip.power_w)} W, memory {_or_na(chip.memory_used_mb)}/{chip.memory_total_mb} MB,"
            f" AICore {_or_na(chip.aicore_percent)} %, processes {who}"
        )


def npu_smi_from_tools(tools: CannTools, env: Mapping[str, str]) -> NpuSmi:
    """Return the npu-smi that ``tools`` sets."""
    return NpuSmi(tools.npu_smi, env, tools.probe_timeout_s, tools.run, tools.device_root)


def units_of(spec: DeviceSpec, tools: CannTools) -> tuple[tuple[Unit, ...], list[str]]:
    """Return the usable chips of a kind, least busy first, and what is wrong with the others.

    Raises:
        DeviceAbsent: there is none.
        DeviceBroken: npu-smi or the environment does not work, or no chip is healthy.
    """
    env = cann_environment(tools)
    smi = npu_smi_from_tools(tools, env)
    report = smi.report()
    chips = [chip for chip in report.chips if chip.name in spec.chip_names]
    # A chip whose name npu-smi does not show may be of this kind.
    unusable = [lost.reason for lost in report.lost if lost.name in (None, *spec.chip_names)]
    if not chips and not unusable:
        names = ", ".join(sorted({chip.name for chip in report.chips}))
        raise DeviceAbsent(
            f"no {spec.name} on this host: `{tools.npu_smi} info` lists {names or 'no other'};"
            f" looked for {', '.join(spec.chip_names)}"
        )
    _check_cann(chips, versions_on_disk(tools, env).cann)
    usable = [chip for chip in chips if chip.health in USABLE_HEALTHS]
    unusable += [f"{chip.unit_id} {chip.health}" for chip in chips if chip not in usable]
    if not usable:
        raise DeviceBroken(
            f"no {spec.name} is healthy: {', '.join(unusable)}; see `npu-smi info -t health -i <NPU>`"
            " and dmesg, reset the card or ask for service"
        )
    return _visible_units(smi, report, usable, tools, env), unusable


def probe(spec: DeviceSpec, tools: CannTools) -> DeviceState:
    """Look for the chips that ``spec`` names; absent or broken ones raise no error."""
    try:
        units, unusable = units_of(spec, tools)
    except DeviceAbsent as error:
        return DeviceState(Presence.ABSENT, str(error))
    except DeviceError as error:
        return DeviceState(Presence.BROKEN, str(error))
    env = cann_environment(tools)
    return DeviceState(
        Presence.PRESENT,
        f"{len(units)} {units[0].soc_version}, driver {units[0].driver_version}: "
        + "; ".join(f"{unit.id} {unit.text}" for unit in units)
        + f"; atc {executable(tools.atc, atc_environment(tools, env)) or 'not on PATH'}"
        + "".join(f"; NOT USED: {text}" for text in unusable),
        facts=_facts(units, tools, env),
        unit_ids=tuple(unit.id for unit in units),
        emulated=bool(stamps_of(tools, env)),
    )


def stamps_of(tools: CannTools, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the evidence that npu-smi, atc or the interpreter is emulated; empty if none."""
    names = [name for name in (tools.npu_smi, tools.atc, tools.python) if name]
    return emulator_stamps([executable(name, env) for name in names], env)


def unit_from_id(spec: DeviceSpec, tools: CannTools, unit_id: str | None) -> Unit:
    """Return the unit called ``unit_id``, or the least busy one.

    Raises:
        DeviceAbsent: there is no chip of this kind.
        DeviceBroken: none can be used, or the one named: a probe has seen it before.
    """
    units, _ = units_of(spec, tools)
    for unit in units:
        if unit_id in (None, unit.id):
            return unit
    known = ", ".join(unit.id for unit in units)
    raise DeviceBroken(
        f"{spec.name} {unit_id} can no longer be used, or is not visible; usable: {known}; see"
        " `npu-smi info` and dmesg"
    )


def chip_problems(before: Unit, after: Unit, temperature_limit_c: float = 85.0) -> list[str]:
    """Return why a measurement between the two looks does not count; empty if it counts."""
    problems = []
    for when, unit in (("before", before), ("after", after)):
        problems += [f"{unit.id} {when} the run: {text}" for text in _troubles(unit)]
        warmth = unit.chip.temperature_c
        if warmth is not None and warmth > temperature_limit_c:
            problems.append(
                f"{unit.id} {when} the run: {warmth:g} °C is above {temperature_limit_c:g} °C, where"
                " the chip throttles: cool it and measure again"
            )
    load = before.chip.aicore_percent
    if load is not None and load > IDLE_AICORE_PERCENT:
        problems.append(f"{before.id} before the run: AICore already {load:g} % busy")
    return problems


def is_quiet(unit: Unit) -> bool:
    """Whether the chip has no visible process."""
    return not unit.processes and (unit.chip.aicore_percent or 0.0) <= IDLE_AICORE_PERCENT


def _check_cann(chips: Sequence[Chip], cann: str | None) -> None:
    for name in {chip.name for chip in chips} & LAST_CANN.keys():
        if version_from_text(cann) > LAST_CANN[name]:
            last = ".".join(map(str, LAST_CANN[name]))
            raise DeviceBroken(
                f"CANN {cann} no longer drives the Ascend {name}, and {last} is the last that does:"
                f" install CANN {last} or older, and set its set_env.sh in site.toml"
            )


def _troubles(unit: Unit) -> list[str]:
    troubles = [] if unit.chip.health == "OK" else [f"health {unit.chip.health}"]
    return troubles + [
        f"used by another process, {_or_na(process.pid)} {process.name}"
        f" ({_or_na(process.memory_mb)} MB)"
        for process in unit.processes or ()
    ]


def _visible_units(
    smi: NpuSmi, report: NpuSmiReport, chips: list[Chip], tools: CannTools, env: Mapping[str, str]
) -> tuple[Unit, ...]:
    visible, allowed = visible_devices(env), tools.device_numbers
    units = []
    for chip in chips:
        number = smi.device_number(chip)
        if visible is not None and number not in visible:
            continue
        if allowed and number not in allowed:
            continue
        processes = None if report.processes is None else report.processes_of(chip)
        number = number if visible is None else visible.index(number)
        soc = smi.soc_version(chip)
        units.append(Unit(chip, soc, number, processes, report.driver_version))
    if not units:
        raise DeviceAbsent(
            f"ASCEND_RT_VISIBLE_DEVICES={env.get('ASCEND_RT_VISIBLE_DEVICES', '(all)')} and the"
            f" device ids of site.toml {list(allowed) or '(all)'} hide all of"
            f" {', '.join(chip.unit_id for chip in chips)}: list their device numbers, or unset them"
        )
    return tuple(sorted(units, key=_business))


def _business(unit: Unit) -> tuple[bool, int, float, int]:
    chip = unit.chip
    used = chip.memory_used_mb or 0
    return (chip.health != "OK", len(unit.processes or ()), chip.aicore_percent or 0.0, used)


def _facts(units: tuple[Unit, ...], tools: CannTools, env: Mapping[str, str]) -> dict[str, str]:
    # Only facts that affect an offline model: they are part of its key in the artifact store.
    disk: Versions = versions_on_disk(tools, env)
    facts = {
        "chip": units[0].chip.name,
        "soc_version": units[0].soc_version,
        "driver": units[0].driver_version,
        "firmware": disk.firmware or "unknown",
        "cann": disk.cann or "unknown",
    }
    if disk.driver and disk.driver != units[0].driver_version:
        facts["driver_on_disk"] = disk.driver
    if stamps_of(tools, env):
        facts["emulated"] = "yes"
    return facts


def _or_na(value: float | None) -> str:
    return "NA" if value is None else f"{value:g}"
