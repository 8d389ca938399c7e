"""What this machine can run, and why it cannot run the rest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import registry
from harness.build.build import weights_from_site
from harness.data.datasets import clip_set_from_site
from harness.device import Device, DeviceState, Presence, ToolState
from harness.errors import HarnessError
from harness.host.environment import environment_facts
from harness.host.locks import is_shared
from harness.host.site import Site

if TYPE_CHECKING:
    from pathlib import Path

SHIPPED_DATASET = "motion8"


def doctor_lines(site: Site) -> tuple[list[str], bool]:
    """Return the findings as text, and whether all that is here works, and the embedded default.

    The embedded default is the processor and the models whose weights and clips are shipped. A
    device that is absent may be missing; one that is there and cannot be used is a fault.
    """
    facts = environment_facts()
    lines = ["machine", *(f"  {name:<22}{value}" for name, value in facts.items())]
    lines += ["", "places", f"  site file             {site.source or 'none; all defaults'}"]
    lines += [
        f"  cache                 {site.cache_dir}",
        f"  runs                  {site.run_root}",
        f"  locks                 {site.lock_dir}: {_lock_text(site)}",
    ]
    devices = [registry.device(name).at(site) for name in registry.device_specs()]
    states = {device.spec.name: device.probe() for device in devices}
    lines += ["", "devices", *(_device_line(name, state) for name, state in states.items())]
    lines += ["", "models"]
    models = {name: _model_line(name, site) for name in registry.model_names()}
    lines += [*(line for line, _ in models.values()), *_toolchain_lines(devices)]
    hosts = [states[device.spec.name] for device in devices if device.spec.is_host]
    is_ready = all(state.presence is Presence.PRESENT for state in hosts)
    is_ready &= all(state.presence is not Presence.BROKEN for state in states.values())
    shipped = [n for n in models if registry.model_spec(n).dataset == SHIPPED_DATASET]
    return lines, is_ready and all(models[name][1] for name in shipped)


def ascend_lines(site: Site) -> tuple[list[str], bool]:
    """Return what docs/ascend.md asks of a host and what is here, and whether all of it fits."""
    every = [registry.device(name).at(site) for name in registry.device_specs()]
    devices = [device for device in every if device.spec.runtime == "CANN"]
    states = {device.spec.name: device.probe() for device in devices}
    lines = ["devices", *(_device_line(name, state) for name, state in states.items())]
    lines += _toolchain_lines(devices)
    checks = devices[0].host_checks()
    lines += ["", "this host: what docs/ascend.md asks, what is here"]
    lines += [line for check in checks for line in _tool_lines(check)]
    open_count = sum(bool(found.advice) for found in (*devices[0].toolchain(), *checks))
    presences = {state.presence for state in states.values()}
    is_usable = Presence.PRESENT in presences and Presence.BROKEN not in presences
    lines += ["", f"{open_count} to mend" if open_count else "nothing to mend"]
    lines += [] if is_usable else ["no Ascend device can be used; see devices"]
    return lines, is_usable and not open_count


def _lock_text(site: Site) -> str:
    if is_shared(site.lock_dir):
        return "shared; runs of all users who set this folder take turns on a device"
    return (
        "private; runs of other users and in containers are not seen, and may use a device at "
        "the same time: to take turns with them, set a shared lock_dir in site.toml"
    )


def _toolchain_lines(devices: Sequence[Device]) -> list[str]:
    lines = []
    # All devices of a runtime need the same tools.
    for runtime, device in {device.spec.runtime: device for device in devices}.items():
        if tools := device.toolchain():
            lines += ["", f"{runtime} toolchain: what the guides used, what is here"]
            lines += [line for tool in tools for line in _tool_lines(tool)]
    return lines


def _tool_lines(tool: ToolState) -> list[str]:
    line = f"  {tool.name:<16}{tool.of_guides:<18}{tool.found}"
    return [line, f"      {tool.advice}"] if tool.advice else [line]


def _device_line(name: str, state: DeviceState) -> str:
    return f"  {name:<12}{state.presence:<10}{state.detail}"


def _model_line(name: str, site: Site) -> tuple[str, bool]:
    """Return a model's line, and whether its accuracy can be measured here."""
    spec = registry.model_spec(name)
    try:
        weights = weights_from_site(spec, site)
        where: str | Path = weights.path or f"no {spec.checkpoint}: seeded weights, no accuracy"
        clips = f"{len(clip_set_from_site(spec.dataset, site).clips)} clips of {spec.dataset}"
    except HarnessError as error:
        return f"  {name:<18}{error}", False
    return f"  {name:<18}{clips}; {where}", weights.path is not None
