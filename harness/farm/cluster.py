"""Ray as the suite uses it: hosts and their chips as resources, calls on hosts, and waiting for them.

Ray places calls, moves values, notices that a host is gone, runs its calls again elsewhere, and ends those
that no host can take any more. This module adds what a person sees of it, and time limits, which Ray lacks.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import HarnessError, RunError, SiteError, first_line
from harness.farm.calls import News, Placement, Running, on_host
from harness.farm.orders import HostFacts

if TYPE_CHECKING:
    from harness.record.stints import Stint

T = TypeVar("T")
Calls = Sequence[tuple[Any, ...]]

NAMESPACE = "acceptance"
# What all hosts write is gathered on the host that leads; the farm ends with that host.
HEAD = {"node:__internal_head__": 0.001}
ANSWER_S = 60.0
CONNECT_S = 10.0
_TICK_S = 0.5
_START = "`harness farm up` prints how to start one; name it with --farm or with farm in site.toml"
_NO_RAY = "a farm needs Ray: install it with pip install 'ascend-video-acceptance[farm]'"
_AGAIN = "then rerun: hosts keep what they have finished"


@dataclasses.dataclass(frozen=True)
class Node:
    """A host that Ray knows: its id there, its address, and how much it has of each resource."""

    id: str
    address: str
    resources: Mapping[str, float]


class Cluster:
    """A connection to a farm; ``stints`` says which host did what when.

    Args:
        address: ``ray://HEAD:10001``, or ``auto`` for the cluster that this host is part of.
        say: takes lines about what hosts do.

    Raises:
        SiteError: Ray is missing, or the farm does not answer.
    """

    def __init__(self, address: str, say: Callable[[str], object]) -> None:
        self.address = address
        self.stints: list[Stint] = []
        self._say = say
        self._ray = _connected(address)
        from ray.util.queue import Queue

        self._news = Queue(actor_options={"num_cpus": 0, "resources": HEAD})

    def nodes(self) -> tuple[Node, ...]:
        """Return the hosts that are there now.

        Raises:
            RunError: the farm is gone.
        """
        with _mapped("looking for hosts"):
            alive = [node for node in self._ray.nodes() if node["Alive"]]
        return tuple(
            Node(node["NodeID"], node["NodeManagerAddress"], node["Resources"]) for node in alive
        )

    def call(self, function: Callable[..., T], *args: Any, at: Placement, title: str) -> T:
        """Run ``function(say, *args)`` on a host and return what it returns; see ``map``."""
        return self.map(function, [args], at=at, title=title)[0]

    def held(self, function: Callable[..., Any], *args: Any, at: Placement, title: str) -> Any:
        """Run ``function(say, *args)`` on a host; its value stays in the farm until a call takes it."""
        run = self._run(function, args, at, title)
        with _mapped(title):
            self._wait([run])
            # An error is raised here, not in each call that takes the value.
            taken = _remote(self._news, _nothing, (run.ref,), "", at)
            self._ray.get(taken, timeout=ANSWER_S)
        return run.ref

    def map(
        self,
        function: Callable[..., T],
        calls: Calls,
        at: Placement,
        title: str,
        on_value: Callable[[int, T], object] = lambda number, value: None,
    ) -> list[T]:
        """Run calls on hosts, as many at once as the placement has room for.

        Args:
            function: defined at the top of a module; its first argument takes lines about the progress.
            calls: the other arguments of each call.
            at: where they may run, and for how long.
            title: what they are, in words.
            on_value: called with the number and the value of each call as it ends.

        Raises:
            HarnessError: as the function raised it; the other calls are ended.
            RunError: every host that could run them is gone, died in too many calls, or did not end a
                call in time.
        """
        runs, values = [self._run(function, args, at, title) for args in calls], dict[int, T]()

        def take(run: Running) -> None:
            number = runs.index(run)
            values[number] = self._ray.get(run.ref)
            # Hosts keep a value, and make it again if it is lost, as long as somebody refers to it.
            run.ref = None
            on_value(number, values[number])

        try:
            with _mapped(title):
                self._wait(runs, take)
                return [values[number] for number in range(len(runs))]
        finally:
            with contextlib.suppress(Exception):  # a farm that is gone has nothing to cancel
                for run in runs:
                    run.end("stopped with its check")
                    if run.ref is not None:
                        self._ray.cancel(run.ref, force=True)

    def ask(
        self, function: Callable[..., T], nodes: Iterable[str] | None = None
    ) -> dict[str, T | str]:
        """Call a function on hosts, by default on all; return by id its value, or why there is none."""
        named = [node.id for node in self.nodes()] if nodes is None else nodes
        title = function.__name__
        with _mapped(title):
            runs = {node: self._run(function, (), Placement((node,)), title) for node in named}
            if refs := [run.ref for run in runs.values()]:
                self._ray.wait(refs, num_returns=len(refs), timeout=ANSWER_S)
            return {node: self._answer(run.ref, title) for node, run in runs.items()}

    def describe(self, nodes: Iterable[str] | None = None) -> dict[str, HostFacts | str]:
        """Ask hosts about themselves; return by id the facts, or why there are none."""
        from harness.farm import host

        return self.ask(host.describe, nodes)

    def _answer(self, ref: Any, title: str) -> Any:
        done, _ = self._ray.wait([ref], timeout=0)
        if not done:
            self._ray.cancel(ref, force=True)
            return f"it did not answer within {ANSWER_S:g} s"
        try:
            with _mapped(title):
                return self._ray.get(ref)
        except HarnessError as error:
            return str(error)

    def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], at: Placement, title: str
    ) -> Running:
        remote = functools.partial(_remote, self._news, function, args)
        return Running(title, at, remote, self.stints)

    def _wait(
        self, runs: Sequence[Running], on_end: Callable[[Running], object] = lambda run: None
    ) -> None:
        """Wait until calls have ended; one whose host is silent, or takes too long, goes elsewhere."""
        pending = list(runs)
        while pending:
            refs = [run.ref for run in pending]
            done = set(self._ray.wait(refs, num_returns=len(refs), timeout=_TICK_S)[0])
            self._hear({run.id: run for run in pending})
            asked, pending = pending, [run for run in pending if run.ref not in done]
            for run in asked:
                if run.ref in done:
                    run.end()
                    on_end(run)
                elif fault := run.fault():
                    self._ray.cancel(run.ref, force=True)
                    self._say(run.elsewhere(fault))

    def _hear(self, pending: Mapping[str, Running]) -> None:
        for news in _queued(self._news):
            if news.call in pending:
                pending[news.call].hear(news)
            if news.text:
                self._say(f"{news.host}: {news.text}")


@contextlib.contextmanager
def _mapped(title: str) -> Iterator[None]:
    """Turn what Ray raises into an error of the suite that names what was asked."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, HarnessError):
            raise error.cause from error
        raise RunError(f"{title}: it raised {first_line(error.cause)} on a host") from error
    except HarnessError:
        raise
    except Exception as error:
        # Ray has no class of error for a lost connection.
        is_gone = isinstance(error, ConnectionError) or not ray.is_initialized()
        if not is_gone and not isinstance(error, RayError):
            raise
        fate = "the farm lost it, and no other host could take it"
        if is_gone:
            fate = "the host that leads the farm is gone"
        raise RunError(
            f"{title}: {fate}: {first_line(error)}; start hosts again with the lines of `harness farm "
            f"up`, {_AGAIN}"
        ) from error


def _connected(address: str) -> Any:
    # Otherwise Ray starts a farm of its own here, in place of one that is gone.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
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
    """Find out in seconds that nothing listens; Ray takes two minutes to say so."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        raise SiteError(
            f"nothing listens at {address}: {error.strerror or error}; {_START}"
        ) from error


def _remote(
    news: Any, function: Callable[..., Any], args: tuple[Any, ...], call: str, at: Placement
) -> Any:
    """Hand a call to Ray and return its future value."""
    return _remote_function().options(**at.options).remote(news, call, function, *args)


@functools.cache
def _remote_function() -> Any:
    import ray

    return ray.remote(on_host)


def _nothing(say: Callable[[str], object], value: object) -> None:
    """Take a value, so that an error in its place is raised."""


def _queued(news: Any) -> Sequence[News]:
    try:
        found: list[News] = news.get_nowait_batch(news.size())
    except Exception:  # noqa: BLE001 - what a person sees must not break what is measured
        return ()
    return found
