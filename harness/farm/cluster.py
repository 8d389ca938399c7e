"""Ray as the suite uses it: hosts and their chips as resources, calls on hosts, and waiting for them.

Ray places calls, moves values, notices that a host is gone, runs its calls again elsewhere, and ends those
that no host can take any more. This module adds what a person sees of it, and time limits, which Ray lacks.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import HarnessError
from harness.farm.calls import News, Placement, Running, Step, hand_to_ray, stop_on_host
from harness.farm.connection import connected, mapped
from harness.farm.orders import HostFacts

if TYPE_CHECKING:
    from harness.record.stints import Stint

T = TypeVar("T")
# Starts the calls that follow one that has ended.
Starts = Callable[[], Iterable[Running]]

# What all hosts write is gathered on the host that leads; the farm ends with that host.
HEAD = {"node:__internal_head__": 0.001}
ANSWER_S = 60.0
_TICK_S = 0.5
# One value is worked on while the next one is made.
AHEAD = 2


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
        self._ray = connected(address)
        from ray.util.queue import Queue

        self._news = Queue(actor_options={"num_cpus": 0, "resources": HEAD})
        # Until something is heard from such a host again, it gets no call that another can take.
        self._silent = set[str]()

    def nodes(self) -> tuple[Node, ...]:
        """Return the hosts that are there now.

        Raises:
            RunError: the farm is gone.
        """
        with mapped("looking for hosts"):
            alive = [node for node in self._ray.nodes() if node["Alive"]]
        return tuple(
            Node(node["NodeID"], node["NodeManagerAddress"], node["Resources"]) for node in alive
        )

    def call(self, function: Callable[..., T], *args: Any, at: Placement, title: str) -> T:
        """Run ``function(say, *args)`` on a host and return what it returns; see ``run``."""
        values = dict[int, T]()
        self.run(Step(function, [args], at, title, on_value=values.__setitem__))
        return values[0]

    def held(self, function: Callable[..., Any], *args: Any, at: Placement, title: str) -> Any:
        """Run ``function(say, *args)`` on a host; its value stays in the farm until a call takes it."""
        run = self._start(Step(function, [args], at, title), 0, is_held=True)
        with mapped(title):
            self._wait([run])
            # An error is raised here, not in each call that takes the value; a copy comes here, in case its host is lost.
            self._ray.get(run.ref)
            self._ray.wait(run.held)
        return run.held[0]

    def run(self, *steps: Step) -> None:
        """Run the calls of steps on hosts, of all steps at once.

        Of each step, ``AHEAD`` calls are under way for each that its placement has room for, so that few values,
        and few of those that its ``first`` makes, wait in the memory of hosts.

        Raises:
            HarnessError: as a function raised it; the other calls are ended.
            RunError: every host that could run them is gone, died in too many calls, or did not end a
                call in time.
        """
        left = {step: iter(range(len(step.calls))) for step in steps}
        under_way = dict[Running, tuple[Step, int]]()

        def begin(step: Step, number: int, *made: Any) -> Running:
            one = step.first if step.first is not None and not made else step
            run = self._start(one, number, made, is_held=one is step.first)
            under_way[run] = step, number
            return run

        def more(step: Step, count: int = 1) -> list[Running]:
            return [begin(step, number) for number in itertools.islice(left[step], count)]

        def on_end(run: Running) -> Starts:
            step, number = under_way.pop(run)
            with mapped(step.title):
                value = self._ray.get(run.ref)
            if run.held:
                return lambda: [begin(step, number, *run.held)]
            step.on_value(number, value)
            return lambda: more(step)

        with mapped(", ".join(step.title for step in steps)):
            runs = [run for step in steps for run in more(step, self._room(step))]
            self._wait(runs, on_end)

    def ask(
        self, function: Callable[..., T], nodes: Iterable[str] | None = None
    ) -> dict[str, T | str]:
        """Call a function on hosts, by default on all; return by id its value, or why there is none."""
        named = [node.id for node in self.nodes()] if nodes is None else nodes
        title = function.__name__
        with mapped(title):
            steps = {node: Step(function, [()], Placement((node,)), title) for node in named}
            runs = {node: self._start(step, 0) for node, step in steps.items()}
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
            with mapped(title):
                return self._ray.get(ref)
        except HarnessError as error:
            return str(error)

    def _start(
        self, step: Step, number: int, more: tuple[Any, ...] = (), *, is_held: bool = False
    ) -> Running:
        """Start a call of a step, with more arguments after its own."""
        calls = step.function, (*step.calls[number], *more)
        remote = functools.partial(hand_to_ray, self._news, *calls, is_held)
        part, at = step.parts[number] if step.parts else "", step.at.avoiding(self._silent)
        return Running(step.title, at, remote, self.stints, part)

    def _room(self, step: Step) -> int:
        """Return how many calls of a step may be under way."""
        there = [node.resources for node in self.nodes() if node.id in step.at.hosts]
        chips = sum(int(one.get(name, 0)) for one in there for name in step.at.resources)
        return AHEAD * max(1, chips)

    def _wait(
        self,
        runs: Sequence[Running],
        on_end: Callable[[Running], Starts] = lambda run: tuple,
    ) -> None:
        """Wait for calls, and those that follow by ``on_end`` on each; one of a silent host goes elsewhere."""
        pending, starts = list(runs), list[Starts]()

        def take(run: Running) -> None:
            starts.append(on_end(run))

        try:
            while pending:
                refs = [run.ref for run in pending]
                # Many are taken at once, but others are started before hosts have nothing left to do.
                enough = max(1, len(refs) // AHEAD)
                done = set(self._ray.wait(refs, num_returns=enough, timeout=_TICK_S)[0])
                self._hear({run.id: run for run in pending})
                # What has arrived is taken, even if another call has failed meanwhile; then nothing starts.
                with contextlib.ExitStack() as ended:
                    for run in tuple(pending):
                        if run.ref in done:
                            pending.remove(run)
                            run.end()
                            ended.callback(take, run)
                        elif fault := run.fault():
                            others = [one for one in pending if one.ref not in done]
                            self._take_away(run, fault, others)
                while starts:
                    pending.extend(starts.pop()())
        finally:
            with contextlib.suppress(Exception):  # a farm that is gone has nothing to cancel
                for run in pending:
                    run.end("stopped with its check")
                    self._ray.cancel(run.ref, force=True)

    def _take_away(self, run: Running, fault: str, others: Iterable[Running]) -> None:
        """Hand a call of a silent host to another, and those that Ray may have sent there to wait for room."""
        self._silent.add(silent := run.node)
        self._ray.cancel(run.ref, force=True)
        stop_on_host(self._news, run)
        self._say(run.elsewhere(fault))
        for other, ref in [(one, one.ref) for one in others]:
            if other.avoid(silent):
                self._ray.cancel(ref, force=True)

    def _hear(self, pending: Mapping[str, Running]) -> None:
        for news in _queued(self._news):
            self._silent.discard(news.node)
            if news.call in pending:
                pending[news.call].hear(news)
            if news.text:
                self._say(f"{news.host}: {news.text}")


def _queued(news: Any) -> Sequence[News]:
    try:
        found: list[News] = news.get_nowait_batch(news.size())
    except Exception:  # noqa: BLE001 - what a person sees must not break what is measured
        return ()
    return found
