"""A call on a host: where it may run and for how long, what is heard from it, and which host did what when."""

import contextlib
import dataclasses
import datetime
import functools
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import HarnessError, RunError
from harness.record.stints import Stint

T = TypeVar("T")
Calls = Sequence[tuple[Any, ...]]

# A call whose host dies is made again this many times.
RETRIES = 4
# A working host writes a line at least every 30 s; one that has been silent this long counts as hung.
SILENT_S = 180.0
# The longest call is a build, whose tool may take four hours before it is killed on its host.
LIMIT_S = 5 * 3600.0

_NUMBERS = itertools.count()

# Each host has one of these: PyTorch takes all of its processors.
PYTORCH = "pytorch"


def resource_of(device: str) -> str:
    """Return the name by which Ray knows the chips of a device."""
    return f"chip:{device}"


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a call may run: on one of these hosts, with these amounts of resources to itself.

    Attributes:
        hosts: their ids.
        resources: the amounts that a call holds, by name.
        limit_s: a call that takes longer is moved to another host.
        silent_s: a host that is silent for longer loses its call.
        others: hosts that may run it if none of ``hosts`` is left.
    """

    hosts: tuple[str, ...]
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    limit_s: float = LIMIT_S
    silent_s: float = SILENT_S
    others: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The same as Ray's options."""
        return {
            "num_cpus": 0,
            "resources": dict(self.resources),
            "label_selector": _one_of(self.hosts),
            "fallback_strategy": [{"label_selector": _one_of(self.others)}] if self.others else [],
            "max_retries": RETRIES,
        }

    def without(self, host: str) -> "Placement":
        """Return the same without one host."""
        left = [node for node in (*self.hosts, *self.others) if node != host]
        hosts = tuple(node for node in left if node in self.hosts) or tuple(left)
        others = tuple(node for node in left if node not in hosts)
        return dataclasses.replace(self, hosts=hosts, others=others)

    def avoiding(self, hosts: Iterable[str]) -> "Placement":
        """Return the same without hosts, as long as one is left."""
        at = self
        for host in hosts:
            at = at.without(host) if {*at.hosts, *at.others} - {host} else at
        return at


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """Calls of one function.

    Attributes:
        function: defined at the top of a module; its first argument takes lines about the progress.
        calls: the other arguments of each call.
        at: where they may run, and for how long.
        title: what they are, in words.
        parts: which part of it each call is, in words.
        first: as many calls, each of which makes the last argument of the one with its number. What it makes
            goes from host to host, not through the driver.
        on_value: called with the number and the value of each call as it ends.
    """

    function: Callable[..., Any]
    calls: Calls
    at: Placement
    title: str
    parts: Sequence[str] = ()
    first: "Step | None" = None
    on_value: Callable[[int, Any], object] = lambda number, value: None


@dataclasses.dataclass(frozen=True)
class News:
    """What a process of a host says while it works on a call; an empty text says that it begins."""

    call: str
    node: str
    host: str
    pid: int
    text: str = ""


class Running:
    """A call under way.

    Args:
        title: what it is, in words.
        at: where it may run.
        remote: hands it to Ray, and returns what to wait for and, if its value stays in the farm, that.
        stints: gets an entry for each host that works on it.
        part: which of several calls of this title it is.
    """

    def __init__(
        self,
        title: str,
        at: Placement,
        remote: Callable[[str, Placement], Sequence[Any]],
        stints: list[Stint],
        part: str = "",
    ) -> None:
        self.title, self._part = title, part
        self._at, self._remote, self._stints = at, remote, stints
        self._start()

    def hear(self, news: News) -> None:
        """Take what its host says."""
        self._heard_s = time.monotonic()
        if not news.text:
            self.end("lost")
            self.node, self._host, self._since_s = news.node, news.host, self._heard_s
            self.pid = news.pid
            self._began_s = _now_s()

    def fault(self) -> str:
        """Say why its host should not go on with it; empty while all is well, and before it begins."""
        if not self.node:
            return ""
        now_s = time.monotonic()
        if now_s - self._heard_s > self._at.silent_s:
            return f"has been silent for {now_s - self._heard_s:.0f} s"
        if now_s - self._since_s > self._at.limit_s:
            return f"has not ended within {self._at.limit_s:g} s"
        return ""

    def elsewhere(self, fault: str) -> str:
        """Hand it to another host, and return a line about it.

        Raises:
            RunError: there is no other host.
        """
        host, self._at = self._host, self._at.without(self.node)
        self.end(fault)
        if not self._at.hosts:
            raise RunError(
                f"{self.title}: {host} {fault}, and no other host is left for it: look at that host with "
                "`harness farm status`, then rerun: hosts keep what they have finished"
            )
        self._start()
        return f"{self.title}: {host} {fault}; it goes to another host"

    def avoid(self, node: str) -> bool:
        """Start anew without a host, and say so, if it has not begun and another host is left."""
        at = self._at.avoiding([node])
        if self.node or at == self._at:
            return False
        self._at = at
        self._start()
        return True

    def end(self, fault: str = "") -> None:
        """Note that its host is done with it."""
        if self.node:
            times = {"start_s": self._began_s, "end_s": _now_s()}
            self._stints.append(
                Stint(host=self._host, what=self.title, **times, fault=fault, part=self._part)
            )
        self.node = self._host = ""

    def _start(self) -> None:
        # A new name for each start: what a host says after losing the call does not count.
        self.id = str(next(_NUMBERS))
        self.node, self._host, self.pid = "", "", 0
        self._heard_s = self._since_s = self._began_s = 0.0
        self.ref, *self.held = self._remote(self.id, self._at)


def stop_on_host(news: Any, run: Running) -> None:
    """Have the host of a call end its process, now or once the host answers again, and say that it answers.

    Else a process that is stopped would keep its chip from all that follows.
    """
    hand_to_ray(news, end_process, (run.pid,), False, "", Placement((run.node,)))


def hand_to_ray(
    news: Any,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    is_held: bool,
    call: str,
    at: Placement,
) -> Sequence[Any]:
    """Return the future value of a call; if it stays in the farm, after a future sign that it is there."""
    remote = _remote_function(kept_on_host if is_held else on_host)
    options = {**at.options, "num_returns": 2 if is_held else 1}
    found = remote.options(**options).remote(news, call, function, *args)
    return found if is_held else [found]


@functools.cache
def _remote_function(function: Callable[..., Any]) -> Any:
    import ray

    return ray.remote(function)


def on_host(news: Any, call: str, function: Callable[..., T], *args: Any) -> T:
    """Call a function in a process of this host; what it says goes to the driver.

    Raises:
        HarnessError: as the function raised it, with the name of the host.
    """
    import ray

    from harness.farm.workplace import host_name

    about = call, ray.get_runtime_context().get_node_id(), host_name(), os.getpid()
    _put(news, News(*about))
    _free_threads()
    values = [one.value if isinstance(one, Held) else one for one in args]
    try:
        return function(lambda line: _put(news, News(*about, line)), *values)
    except HarnessError as error:
        raise type(error)(f"{host_name()}: {error}") from error


def _free_threads() -> None:
    """Let PyTorch use the threads that it would without Ray, which allows it one and so rounds differently.

    What the shell has set in which the host was started stays.
    """
    at_start = Path("/proc/self/environ").read_bytes().split(b"\0")
    if not any(line.startswith(b"OMP_NUM_THREADS=") for line in at_start):
        os.environ.pop("OMP_NUM_THREADS", None)


def end_process(say: Callable[[str], object], pid: int) -> None:
    """Kill a process of Ray on this host; one that is stopped does not take Ray's own request."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
            os.kill(pid, signal.SIGKILL)


@dataclasses.dataclass(frozen=True)
class Held:
    """A value that stays in the farm, and ballast that keeps Ray from copying it into the calls that take it.

    Ray does so below 100 KiB, and its process ends where such a call is cancelled just after it was handed
    over: https://github.com/ray-project/ray/pull/56123 mended that for actors only.
    """

    value: Any
    ballast: bytes = bytes(128 << 10)


def kept_on_host(*call: Any) -> tuple[None, Held]:
    """Do the same for a value that stays in the farm: what comes before it is small, and can be waited for."""
    return None, Held(on_host(*call))


def _put(news: Any, item: News) -> None:
    try:
        news.put_nowait(item)
    except Exception:  # noqa: BLE001 - what a person sees must not break what is measured
        return


def _one_of(hosts: tuple[str, ...]) -> dict[str, str]:
    return {"ray.io/node-id": f"in({','.join(hosts)})"}


def _now_s() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()
