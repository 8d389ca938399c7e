"""The farm that a run measures on, where ``--farm`` or ``farm`` in site.toml names one."""

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import pytest

from harness import registry
from harness.contract.scope import Scope
from harness.device import Presence
from harness.errors import HarnessError
from harness.host.progress import Progress
from harness.host.site import Site
from harness.record.record import RunDirectory

if TYPE_CHECKING:
    from harness.farm.hosts import Hosts
    from harness.farm.suite import FarmSuite


FARM: pytest.StashKey["Hosts | None"] = pytest.StashKey()


def farm_suite(
    hosts: "Hosts",
    scope: Scope,
    run: RunDirectory,
    config: pytest.Config,
    progress: Progress,
) -> "FarmSuite":
    """Return what runs the checks of this process on a farm."""
    from harness.farm.suite import FarmSuite

    site = registry.load_site(config.getoption("--site"), os.environ)
    more_timing = config.getoption("--sessions"), config.getoption("--budget-minutes")
    return FarmSuite(
        thresholds=scope.thresholds.with_more_timing(*more_timing),
        contract=scope.thresholds.path.read_bytes(),
        tier_name=scope.tier,
        run=run,
        hosts=hosts,
        progress=progress,
        cache_dir=site.cache_dir,
        more_timing=more_timing,
    )


def farm_from_config(
    config: pytest.Config, say: Callable[[str], object] = lambda line: None
) -> "Hosts | None":
    """Return the hosts of the farm that this run measures on; None if it measures here.

    Args:
        config: of this process.
        say: takes lines about what hosts do, from the first call on.

    Raises:
        pytest.UsageError: it does not answer, or a host of it cannot take part.
    """
    if FARM not in config.stash:
        try:
            config.stash[FARM] = _connected(config, say)
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[FARM]


def absent_devices(config: pytest.Config, names: Collection[str], site: Site | None) -> set[str]:
    """Return the devices that no host of the farm has, or, without a farm, this machine has not."""
    hosts = farm_from_config(config) if names else None
    if hosts is not None:
        from harness.farm.hosts import present_devices

        return set(names) - present_devices(hosts.known.values())
    states = {name: registry.device(name).at(site).probe() for name in names}
    return {name for name, state in states.items() if state.presence is Presence.ABSENT}


def _connected(config: pytest.Config, say: Callable[[str], object]) -> "Hosts | None":
    site = registry.load_site(config.getoption("--site"), os.environ)
    address = config.getoption("--farm") or site.farm
    if address is None:
        return None
    # Not at the top: a run on one machine never imports what drives a farm.
    from harness.farm.cluster import Cluster
    from harness.farm.hosts import Hosts

    return Hosts(Cluster(address, say), say)
