"""Ray as the suite uses it: hosts and their chips as resources, calls on hosts, and watched waiting.

Ray places calls, moves values, notices that a host is gone, runs its calls again elsewhere, and ends those
that no host can take any more. Here is only what a person sees of it.
"""

import dataclasses
import functools
import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from harness.errors import HarnessError, RunError, SiteError, first_line
from harness.farm.orders import HostFacts

T = TypeVar("T")
Calls = Sequence[tuple[Any, ...]]

NAMESPACE = "acceptance"
# A call that a host took down with it is made this many times more.
RETRIES = 4
ANSWER_S = 60.0
CONNECT_S = 10.0
_TICK_S = 0.5
_START = "`harness farm up` says how to start one, and --farm or farm in site.toml names it"
_NO_RAY = "a farm needs Ray: install it with pip install 'ascend-video-acceptance[farm]'"


def resource_of(device: str) -> str:
    """Return the name by which Ray knows the chips of a device."""
    return f"chip:{device}"


@dataclasses.dataclass(frozen=True)
class Node:
    """A host that Ray knows: its id there, its address, and how much it has of each resource."""

    id: str
    address: str
    resources: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a call may run: on one of these hosts, with so much of these resources for itself."""

    hosts: tuple[str, ...]
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """The same as Ray takes it."""
        return {
            "num_cpus": 0,
            "resources": dict(self.resources),
            "label_selector": {"ray.io/node-id": f"in({','.join(self.hosts)})"},
            "max_retries": RETRIES,
        }


class Cluster:
    """A connection to a farm.

    Args:
        address: ``ray://HEAD:10001``, or ``auto`` for the cluster that this host is part of.
        say: takes lines about what hosts do.

    Raises:
        SiteError: Ray is missing, or the farm does not answer.
    """

    def __init__(self, address: str, say: Callable[[str], object]) -> None:
        self.address = address
        self._say = say
        self._ray = _connected(address)
        from ray.util.queue import Queue

        self._lines = Queue(actor_options={"num_cpus": 0})

    def nodes(self) -> tuple[Node, ...]:
        """Return the hosts that are there now."""
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        return tuple(
            Node(node["NodeID"], node["NodeManagerAddress"], node["Resources"]) for node in alive
        )

    def call(self, function: Callable[..., T], *args: Any, at: Placement, title: str) -> T:
        """Run ``function(say, *args)`` on a host and return what it returns; see ``map``."""
        return self.map(function, [args], at=at, title=title)[0]

    def held(self, function: Callable[..., Any], *args: Any, at: Placement, title: str) -> Any:
        """Run ``function(say, *args)`` on a host; its value stays in the farm until a call takes it."""
        ref = _remote().options(**at.options).remote(self._lines, function, *args)
        self._wait([ref], lambda done: None)
        # What it raised is raised here, not in each call that would have taken it.
        self._value(_remote().options(**at.options).remote(self._lines, _nothing, ref), title)
        return ref

    def map(
        self,
        function: Callable[..., T],
        calls: Calls,
        at: Placement,
        title: str,
        on_done: Callable[[int], object] = lambda done: None,
    ) -> list[T]:
        """Run calls on hosts, as many at once as the placement has room for.

        Args:
            function: at the top of a module; its first argument takes lines about the progress.
            calls: the other arguments of each call.
            at: where they may run.
            title: says what they are, to people.
            on_done: called with the number of calls that have ended.

        Raises:
            HarnessError: as the function raised it.
            RunError: every host that could run them is gone, or took too many calls down with it.
        """
        remote = _remote().options(**at.options)
        refs = [remote.remote(self._lines, function, *args) for args in calls]
        try:
            self._wait(refs, on_done)
            return [self._value(ref, title) for ref in refs]
        finally:
            for ref in refs:
                self._ray.cancel(ref, force=True)

    def describe(self) -> dict[str, HostFacts | str]:
        """Ask every host about itself; by id, its facts, or why there are none."""
        from harness.farm import host

        return self.ask(host.describe)

    def ask(self, function: Callable[..., T]) -> dict[str, T | str]:
        """Call a function on every host; by id, its value, or why there is none."""
        refs = {
            node.id: _remote()
            .options(**Placement((node.id,)).options)
            .remote(self._lines, function)
            for node in self.nodes()
        }
        self._ray.wait(list(refs.values()), num_returns=len(refs), timeout=ANSWER_S)
        return {node: self._answer(ref) for node, ref in refs.items()}

    def _answer(self, ref: Any) -> Any:
        done, _ = self._ray.wait([ref], timeout=0)
        if not done:
            self._ray.cancel(ref, force=True)
            return f"it does not answer within {ANSWER_S:g} s"
        try:
            return self._value(ref, "describe")
        except HarnessError as error:
            return str(error)

    def _wait(self, refs: Sequence[Any], on_done: Callable[[int], object]) -> None:
        pending = list(refs)
        while pending:
            _, pending = self._ray.wait(pending, num_returns=len(pending), timeout=_TICK_S)
            self._pass_on()
            on_done(len(refs) - len(pending))

    def _pass_on(self) -> None:
        for line in _queued(self._lines):
            self._say(line)

    def _value(self, ref: Any, title: str) -> Any:
        from ray.exceptions import RayError, RayTaskError

        try:
            return self._ray.get(ref)
        except RayTaskError as error:
            if isinstance(error.cause, HarnessError):
                raise error.cause from error
            raise RunError(f"{title}: it raised {first_line(error.cause)} on a host") from error
        except RayError as error:
            raise RunError(
                f"{title}: the farm lost it, and no other host could take it: {first_line(error)}; start "
                "the host again with the line of `harness farm up`, then rerun: what hosts have finished "
                "is kept there"
            ) from error


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise SiteError(_NO_RAY) from error
    _refuse_silence(address)
    try:
        if not ray.is_initialized():
            ray.init(
                address=address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise SiteError(
            f"the farm at {address} does not answer, or has another token: {first_line(error)}; {_START}"
        ) from error
    return ray


def _refuse_silence(address: str) -> None:
    """Find out in seconds that nobody listens, which Ray takes two minutes to say."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        raise SiteError(
            f"nobody listens at {address}: {error.strerror or error}; {_START}"
        ) from error


@functools.cache
def _remote() -> Any:
    import ray

    return ray.remote(on_host)


def on_host(lines: Any, function: Callable[..., T], *args: Any) -> T:
    """Call a function in a process of a host; the lines that it writes go to the driver."""
    return function(lambda line: _put(lines, line), *args)


def _nothing(say: Callable[[str], object], value: object) -> None:
    """Take a value, so that an error in its place is raised."""


def _put(lines: Any, line: str) -> None:
    from harness.farm.workplace import host_name

    try:
        lines.put_nowait(f"{host_name()}: {line}")
    except Exception:  # noqa: BLE001 - what a person sees must not break what is measured
        return


def _queued(lines: Any) -> Iterable[str]:
    try:
        found: list[str] = lines.get_nowait_batch(lines.size())
    except Exception:  # noqa: BLE001 - the same
        return ()
    return found
