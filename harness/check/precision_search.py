"""The smallest list of operators that must not compute in fp16 for a model to meet its limits.

Each trial builds the model with a list, and measures it. The search first keeps the operator to blame for
the first wrong output, and then the next; if a few of these are not enough, bisection finds the others.
"""

import dataclasses
from collections.abc import Callable, Sequence

GUIDED_MAX = 3

Keep = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A build with a keep list, and how it did.

    Attributes:
        is_met: whether it meets the parity limits.
        text: the verdict on it.
        suspect: the operator to blame for the first wrong output, where it is known.
        operators: those that compute in fp16, in the order they run in.
        query_ms: time of a query on the device.
    """

    keep: Keep
    is_met: bool
    text: str
    suspect: str | None = None
    operators: Keep = ()
    query_ms: float | None = None


@dataclasses.dataclass(frozen=True)
class Search:
    """Every trial in order, and the smallest list that meets the limits; None: no list does."""

    trials: tuple[Trial, ...]
    keep: Keep | None


def smallest_keep(run: Callable[[Keep], Trial]) -> Search:
    """Look for the smallest keep list that meets the limits.

    It is minimal, that is, every name in it is needed, provided that keeping more operators never
    makes a model worse. One name among n is found in at most 2 log2(n) + 2 builds.
    """
    trials: dict[Keep, Trial] = {}

    def meets(keep: Keep) -> bool:
        if keep not in trials:
            trials[keep] = run(keep)
        return trials[keep].is_met

    if meets(()):
        return Search(tuple(trials.values()), ())
    candidates = trials[()].operators
    guided = _guided(meets, trials)
    if guided is None and not meets(candidates):
        return Search(tuple(trials.values()), None)
    keep = _minimal(meets, candidates if guided is None else guided, candidates)
    return Search(tuple(trials.values()), keep)


def _guided(meets: Callable[[Keep], bool], trials: dict[Keep, Trial]) -> Keep | None:
    """Keep the first suspect, then the suspect of that build, and so on; None if that does not help."""
    keep: Keep = ()
    for _ in range(GUIDED_MAX):
        suspect = trials[keep].suspect
        if suspect is None or suspect in keep:
            return None
        keep = (*keep, suspect)
        if meets(keep):
            return keep
    return None


def _minimal(meets: Callable[[Keep], bool], enough: Keep, order: Sequence[str]) -> Keep:
    """Return the part of a list that is needed, if the whole is enough, in the order of ``order``.

    The shortest start of the list that is enough, together with what is known to be needed, ends in an
    operator that is needed.
    """
    needed: set[str] = set()

    def listed(names: Sequence[str]) -> Keep:
        wanted = needed.union(names)
        return tuple(name for name in dict.fromkeys((*order, *enough)) if name in wanted)

    rest = listed(enough)
    while rest and not (needed and meets(listed(()))):
        low, high = 1, len(rest)  # rest[:high] is enough
        while low < high:
            middle = (low + high) // 2
            if meets(listed(rest[:middle])):
                high = middle
            else:
                low = middle + 1
        needed.add(rest[high - 1])
        rest = rest[: high - 1]
    return listed(())
