"""The hosts of a farm: which may take part, and which of them a cell may run on."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.device import DeviceState, Presence
from harness.errors import (
    DeviceAbsent,
    HarnessError,
    MissingInput,
    RunError,
    SiteError,
    refusal,
)
from harness.farm.calls import PYTORCH, Placement, resource_of
from harness.farm.cluster import Cluster, Node
from harness.farm.orders import HostFacts
from harness.host.suite_code import suite_digest

# What hosts must share to be alike: facts of the machine and of the device's software.
Kind = tuple[tuple[str, str], ...]


class Hosts:
    """The hosts that take part in a run: those at its start, and those that joined since.

    Args:
        cluster: whose hosts they are.
        say: takes lines about hosts that join and cannot take part.

    Raises:
        SiteError: a host does not answer, runs a different suite, or does not have the chips that
            the farm counts.
    """

    def __init__(self, cluster: Cluster, say: Callable[[str], object]) -> None:
        self.cluster = cluster
        self.known: dict[str, HostFacts] = {}
        self._say = say
        self._refused: set[str] = set()
        if problems := self._look(cluster.nodes()):
            raise SiteError(refusal(f"the farm at {cluster.address} cannot be used", problems))

    def now(self) -> dict[str, HostFacts]:
        """Return those that are there now, by the id that Ray has for each.

        Raises:
            RunError: the farm is gone.
        """
        nodes = self.cluster.nodes()
        new = [node for node in nodes if node.id not in self.known.keys() | self._refused]
        for problem in self._look(new):
            self._say(f"a host that joined the farm cannot take part: {problem}")
        there = {node.id for node in nodes}
        return {node: facts for node, facts in self.known.items() if node in there}

    def _look(self, nodes: Sequence[Node]) -> list[str]:
        """Ask hosts about themselves, and return why some cannot take part."""
        problems, found = [], self.cluster.describe([node.id for node in nodes]) if nodes else {}
        for node in nodes:
            facts = found[node.id]
            wrong = host_problems(node, facts, suite_digest())
            if wrong or isinstance(facts, str):
                self._refused.add(node.id)
                problems += wrong
            else:
                self.known[node.id] = facts
        return problems

    def place(self, device: str, kind: Kind | None = None) -> tuple[Placement, Kind]:
        """Return where a cell of a device may run now, and the kind of those hosts.

        A cell never mixes two toolchains or two kinds of processor: its hosts share what shapes its
        device model and the rounding of its sums.

        Args:
            device: the cell's.
            kind: the kind that the cell was begun on; None: the largest group of like hosts gets it.

        Raises:
            DeviceAbsent: no host has had the device since the run began.
            RunError: those that had it, or all of the kind, have left.
        """
        hosts, groups = self.now(), dict[Kind, list[str]]()
        for node, state in with_device(hosts, device).items():
            groups.setdefault(_kind(hosts[node], state), []).append(node)
        if kind is None and groups:
            kind = max(groups, key=lambda one: (_chips(hosts, groups[one], device), groups[one]))
        if kind not in groups:
            raise self._unplaced(device)
        return Placement(tuple(sorted(groups[kind])), {resource_of(device): 1.0}), kind

    def _unplaced(self, device: str) -> HarnessError:
        listed = ", ".join(sorted(facts.name for facts in self.known.values())) or "none"
        if not with_device(self.known, device):
            return DeviceAbsent(
                f"no host of the farm at {self.cluster.address} has {device} (hosts: {listed}); "
                "`harness farm status` says what each has"
            )
        return RunError(
            f"the hosts with {device} that this cell could run on have left the farm, and a different kind "
            "of host cannot take over a cell that was begun: start them again with the line of `harness farm up`"
        )

    def alike_in_threads(self, at: Placement) -> tuple[Placement, Kind]:
        """Return the most hosts on which PyTorch rounds alike, each with one PyTorch, and what they share.

        Its sums depend on the number of threads as well.
        """
        groups = dict[Kind, list[str]]()
        for node in at.hosts:
            facts = self.known[node]
            kind = tuple(sorted({**facts.machine, **facts.threads}.items()))
            groups.setdefault(kind, []).append(node)
        kind = max(groups, key=lambda one: (len(groups[one]), one))
        return dataclasses.replace(at, hosts=tuple(groups[kind]), resources={PYTORCH: 1.0}), kind

    def reading(self, at: Placement, dataset: str) -> tuple[Placement, Placement | None]:
        """Return which hosts run clips, and which decode them for these; None: they do so themselves.

        Others decode only where none of those that may run the clips can read them, and only others whose
        processors are alike: a cell never mixes two kinds.

        Args:
            at: the hosts that may run them.
            dataset: whose clips they are.

        Raises:
            MissingInput: no host can read them.
        """
        hosts = self.now()
        able = {node: facts for node, facts in hosts.items() if dataset in facts.datasets}
        if here := tuple(node for node in at.hosts if node in able):
            return dataclasses.replace(at, hosts=here), None
        if not able:
            listed = ", ".join(sorted(facts.name for facts in hosts.values()))
            raise MissingInput(
                f"no host of the farm at {self.cluster.address} can read data set {dataset} (hosts: {listed}); "
                f"set its list and root, or its manifest, in [datasets.{dataset}] in the site.toml of a host "
                "that has the clips, with or without a chip, and run again"
            )
        alike = _alike(able, self.known[at.hosts[0]])
        return at, Placement(alike, {PYTORCH: 1.0}, limit_s=at.limit_s)


def host_problems(node: Node, facts: HostFacts | str, here: str) -> list[str]:
    """Say why a host cannot take part.

    Args:
        node: as Ray knows it.
        facts: what it says of itself, or why it says nothing.
        here: digest of the suite's files on this host.
    """
    if isinstance(facts, str):
        return [f"host {node.address}: {facts}"]
    problems = []
    if facts.suite.get("suite.files") != here:
        problems.append(
            f"{facts.name} runs the suite of commit {facts.suite.get('suite.commit')}, whose files "
            "differ from those here: install the same one there"
        )
    for name, state in facts.devices.items():
        known = node.resources.get(resource_of(name), 0.0)
        usable = len(state.unit_ids) if state.presence is Presence.PRESENT else 0
        if known != usable:
            problems.append(
                f"the farm counts {known:g} chip(s) of {name} on {facts.name}, which finds {usable}: "
                "start that host again with the line of `harness farm up`"
            )
    if PYTORCH not in node.resources:
        problems.append(f"{facts.name} was started without the resources of `harness farm up`")
    return problems


def exporters(hosts: Mapping[str, HostFacts], model: str) -> Placement:
    """Return the host that exports a model for every driver, so that its lock lets that happen only once.

    Raises:
        MissingInput: no host has its weights.
    """
    able = [node for node, facts in hosts.items() if model in facts.weights]
    if not able:
        raise MissingInput(f"no host of the farm has usable weights of {model}")
    able.sort(key=lambda node: (hosts[node].weights[model].startswith("seed:"), node))
    return Placement((able[0],), others=tuple(able[1:]))


def present_devices(hosts: Iterable[HostFacts]) -> set[str]:
    """Return the devices that any host has."""
    return {name for facts in hosts for name, state in facts.devices.items() if _is_usable(state)}


def with_device(hosts: Mapping[str, HostFacts], device: str) -> dict[str, DeviceState]:
    """Return the state of a device on each host that has it, by the host's id."""
    states = {node: facts.devices.get(device) for node, facts in hosts.items()}
    return {node: state for node, state in states.items() if state and _is_usable(state)}


def _is_usable(state: DeviceState) -> bool:
    return state.presence is Presence.PRESENT and bool(state.unit_ids)


def _kind(facts: HostFacts, state: DeviceState) -> Kind:
    return tuple(sorted({**facts.machine, **state.lasting_facts}.items()))


def _alike(hosts: Mapping[str, HostFacts], wanted: HostFacts) -> tuple[str, ...]:
    """Return the hosts with the processor of the wanted one, or else the largest group with one kind."""
    groups = dict[Kind, list[str]]()
    for node, facts in sorted(hosts.items()):
        groups.setdefault(tuple(sorted(facts.machine.items())), []).append(node)
    same = groups.get(tuple(sorted(wanted.machine.items())))
    return tuple(same or max(groups.values(), key=len))


def _chips(hosts: Mapping[str, HostFacts], nodes: Sequence[str], device: str) -> int:
    return sum(len(hosts[node].devices[device].unit_ids) for node in nodes)
