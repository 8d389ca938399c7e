"""Where a run measures, and for how long: on this machine, or on the farm that is named."""

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import pytest

from harness import registry
from harness.device import Presence
from harness.errors import HarnessError
from harness.host.site import Site

if TYPE_CHECKING:
    from harness.farm.hosts import Hosts


FARM: pytest.StashKey["Hosts | None"] = pytest.StashKey()


def site_from_config(config: pytest.Config) -> Site:
    """Return the site that ``--site`` or the environment names."""
    return registry.load_site(config.getoption("--site"), os.environ)


def more_timing(config: pytest.Config) -> tuple[int, float]:
    """Return the sessions and minutes that a timing may use beyond the tier's."""
    return config.getoption("--sessions"), config.getoption("--budget-minutes")


def farm_from_config(
    config: pytest.Config, say: Callable[[str], object] = lambda line: None
) -> "Hosts | None":
    """Return the hosts of the farm that this run measures on; None if it measures here.

    ``say`` of the first call takes lines about what hosts do.

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
    """Return the devices that no host of the farm has or, without a farm, that this machine lacks."""
    hosts = farm_from_config(config) if names else None
    if hosts is not None:
        from harness.farm.hosts import present_devices

        return set(names) - present_devices(hosts.known.values())
    states = {name: registry.device(name).at(site).probe() for name in names}
    return {name for name, state in states.items() if state.presence is Presence.ABSENT}


def _connected(config: pytest.Config, say: Callable[[str], object]) -> "Hosts | None":
    address = config.getoption("--farm") or site_from_config(config).farm
    if address is None:
        return None
    # Not at the top: a run on one machine never imports what drives a farm.
    from harness.farm.cluster import Cluster
    from harness.farm.hosts import Hosts

    return Hosts(Cluster(address, say), say)
