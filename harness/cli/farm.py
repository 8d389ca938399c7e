"""The command ``farm``: what starts one, what its hosts have, and what each would say of itself."""

import argparse
import json
import socket
import sys
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.cli.arguments import add_command, add_group, site_of
from harness.device import Presence
from harness.errors import InputError, printable

if TYPE_CHECKING:
    from harness.farm.cluster import Cluster, Node
    from harness.farm.orders import HostFacts

PORT, CLIENT_PORT = 6379, 10001


def add_commands(commands: Any) -> None:
    """Add the command and what it can do."""
    actions = add_group(commands, "farm", "start, look at and ask a farm of hosts")
    up = add_command(actions, "up", _up, "print the lines that start a head and a worker")
    up.add_argument("--address", metavar="IP", help="of this host, on the network of the farm")
    text = "print the chips of this host as ray start takes them"
    add_command(actions, "resources", _resources, text)
    for name, function, text in (
        ("status", _status, "show the hosts, their chips, versions, and what runs now"),
        ("doctor", _doctor, "run harness doctor on every host"),
    ):
        asks = add_command(actions, name, function, text)
        asks.add_argument("--farm", metavar="ADDRESS", help="ray://HEAD:10001 or auto")


def _up(options: argparse.Namespace) -> int:
    address = options.address or _own_address()
    resources = '--resources="$(harness farm resources)"'
    print(f"""\
A token keeps others out. Make one on the host that leads, and copy the file to each other host:

    ray get-auth-token --generate > /dev/null && chmod 600 ~/.ray/auth_token

On the host that leads, in a shell in which `harness doctor` shows what it should:

    export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 ACCEPTANCE_HOST=$(hostname)
    ray start --head --node-ip-address={address} --port={PORT} \\
      --ray-client-server-port={CLIENT_PORT} --include-dashboard=false {resources}

On each other host, with the same commit of the suite installed:

    export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 ACCEPTANCE_HOST=$(hostname)
    ray start --address={address}:{PORT} {resources}

Then look at every host, and run; -n is how many cells run at once:

    harness farm status --farm ray://{address}:{CLIENT_PORT}
    pytest -n 4 --farm ray://{address}:{CLIENT_PORT} -m ascend310p acceptance/

`ray stop` takes a host out. Whoever has the token can run any code on every host: see SECURITY.md.""")
    return 0


def _resources(options: argparse.Namespace) -> int:
    from harness.farm.calls import PYTORCH, resource_of

    site = site_of(options)
    states = {name: registry.device(name).at(site).probe() for name in registry.device_specs()}
    chips = {
        resource_of(name): len(state.unit_ids)
        for name, state in states.items()
        if state.presence is Presence.PRESENT and state.unit_ids
    }
    print(json.dumps({**chips, PYTORCH: 1}))
    return 0


def _status(options: argparse.Namespace) -> int:
    from harness.farm.hosts import host_problems
    from harness.host.suite_code import suite_digest

    cluster, here, is_well = _cluster(options), suite_digest(), True
    nodes = {node.id: node for node in cluster.nodes()}
    for node, facts in cluster.describe().items():
        if not isinstance(facts, str):
            for line in _host_lines(nodes[node], facts):
                print(line)
        for problem in host_problems(nodes[node], facts, here):
            print(f"  PROBLEM  {printable(problem)}")
            is_well = False
    return 0 if is_well else 1


def _host_lines(node: "Node", facts: "HostFacts") -> list[str]:
    lines = [f"{printable(facts.name)} ({node.address}), {facts.free_gb:.0f} GB free for its cache"]
    lines.append(f"  suite    {facts.suite['suite.commit']}")
    for name, state in facts.devices.items():
        if state.presence is not Presence.ABSENT:
            versions = ", ".join(f"{key} {text}" for key, text in state.facts.items())
            lines.append(f"  {name:<12}{state.presence}, {len(state.unit_ids)} chip(s); {versions}")
    lines.append(f"  reads    {printable(', '.join(facts.datasets))}")
    return lines + [f"  runs     {printable(line)}" for line in facts.running]


def _doctor(options: argparse.Namespace) -> int:
    from harness.farm import host

    is_well = True
    for node, answer in _cluster(options).ask(host.doctor).items():
        status, text = (1, answer) if isinstance(answer, str) else answer
        print(f"host {node}, exit status {status}")
        print("".join(f"  {line}\n" for line in text.splitlines()))
        is_well &= status == 0
    return 0 if is_well else 1


def _cluster(options: argparse.Namespace) -> "Cluster":
    from harness.farm.cluster import Cluster

    address = options.farm or site_of(options).farm
    if address is None:
        raise InputError("no farm is named: give --farm ADDRESS, or set farm in site.toml")
    return Cluster(address, lambda line: print(line, file=sys.stderr))


def _own_address() -> str:
    """Return the address by which this host reaches others; nothing is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        found: str = probe.getsockname()[0]
        return found
