"""What this machine can run and why not the rest."""

from typing import TYPE_CHECKING

from harness import registry
from harness.build.build import weights_from_site
from harness.data.datasets import clip_set_from_site
from harness.device import Presence
from harness.errors import HarnessError
from harness.host.environment import environment_facts
from harness.host.site import FIXTURES, Site
from harness.runtimes.ascend.doctor import Finding, findings
from harness.runtimes.ascend.site import tools_from_site

if TYPE_CHECKING:
    from pathlib import Path

SHIPPED = ("nonlocal_tiny", "timesformer_tiny")


def doctor_lines(site: Site) -> tuple[list[str], bool]:
    """Return the findings for a person, and whether the embedded default can run.

    That is the processor and the tiny models, with their shipped weights and clips.

    Args:
        site: where this machine keeps things.
    """
    facts = environment_facts(FIXTURES.parent)
    lines = ["machine", *(f"  {name:<22}{value}" for name, value in facts.items())]
    lines += ["", "places", f"  site file             {site.source or 'none; all defaults'}"]
    lines += [
        f"  cache                 {site.cache_dir}",
        f"  runs                  {site.run_root}",
    ]
    lines += ["", "devices", *map(_device_line, registry.device_names())]
    lines += ["", "models"]
    told = {name: _model_line(name, site) for name in registry.model_names()}
    lines += [line for line, _ in told.values()]
    lines += ["", "Ascend toolchain: what the guides used, what is here"]
    lines += [
        line for finding in findings(tools_from_site(site)) for line in _finding_lines(finding)
    ]
    is_ready = registry.device("cpu").probe().presence is Presence.PRESENT
    return lines, is_ready and all(told[name][1] for name in SHIPPED)


def _finding_lines(finding: Finding) -> list[str]:
    line = f"  {finding.name:<16}{finding.of_guides:<18}{finding.found}"
    return [line, f"      {finding.advice}"] if finding.advice else [line]


def _device_line(name: str) -> str:
    state = registry.device(name).probe()
    return f"  {name:<12}{state.presence:<10}{state.detail}"


def _model_line(name: str, site: Site) -> tuple[str, bool]:
    """Return what is told of a model, and whether its accuracy can be measured here."""
    spec = registry.model_spec(name)
    try:
        weights = weights_from_site(spec, site)
        where: str | Path = weights.path or f"no {spec.checkpoint}: seeded weights, no accuracy"
        clips = f"{len(clip_set_from_site(spec.dataset, site).clips)} clips of {spec.dataset}"
    except HarnessError as error:
        return f"  {name:<18}{error}", False
    return f"  {name:<18}{clips}; {where}", weights.path is not None
