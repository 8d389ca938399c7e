"""Which cells a pytest run is about, and which of their checks must have passed."""

import dataclasses
import difflib
import functools
import itertools
import re
from collections.abc import Callable, Collection, Sequence

from harness import registry
from harness.contract.thresholds import Thresholds
from harness.errors import InputError, SiteError
from harness.host.site import Site
from harness.spec import ALL_CHECKS, Cell, Check

DEFAULT_TIER = "nightly"


@dataclasses.dataclass(frozen=True)
class Scope:
    """What a run is about.

    Attributes:
        thresholds: the contract.
        tier: name of the tier.
        cells: of the tier, narrowed by the options.
        expression: of ``-m``; empty selects all.
        named_devices: devices that must be there because somebody named them.
    """

    thresholds: Thresholds
    tier: str
    cells: tuple[Cell, ...]
    expression: str = ""
    named_devices: frozenset[str] = frozenset()

    def markers(self, cell: Cell) -> tuple[str, ...]:
        """Markers of every check of a cell: its device and the tiers that it is in."""
        tiers = [name for name in self.thresholds.file.tiers if cell in self.thresholds.cells(name)]
        return (cell.device, *tiers)

    def required(self) -> tuple[str, ...]:
        """Ids of the checks that ``-m`` selects and the tier requires.

        A named device without a required check appears as a pattern that no check meets: somebody
        asked for it, and the run says nothing about it.
        """
        tier = self.thresholds.tier(self.tier)
        chosen = [
            (cell, check)
            for cell in self.cells
            for check in self.thresholds.checks(cell, self.tier)
            if tier.requires(cell, check) and self._is_selected(cell, check)
        ]
        idle = self.named_devices - {cell.device for cell, _ in chosen}
        return (
            *(f"{cell.id}:{check}" for cell, check in chosen),
            *(f"*-{device}-*:*" for device in sorted(idle)),
        )

    def is_excusable(self, check_id: str, absent_devices: Collection[str]) -> bool:
        """Whether a check may be left out: its device is absent and nobody asked for it."""
        devices = {cell.device for cell in self.cells if check_id.startswith(f"{cell.id}:")}
        # Every host has a processor; where it cannot be used, the host is badly set up.
        hosts = {name for name, spec in registry.device_specs().items() if spec.is_host}
        spared = set(absent_devices) - self.named_devices - hosts
        return bool(devices) and devices <= spared

    def _is_selected(self, cell: Cell, check: Check) -> bool:
        names = {check, *self.markers(cell)}
        return not self.expression or _condition(self.expression)(names)


def scope_from_options(
    thresholds: Thresholds,
    tier: str | None = None,
    models: Sequence[str] = (),
    batch_sizes: Sequence[int] = (),
    expression: str = "",
    required_devices: Sequence[str] = (),
) -> Scope:
    """Return the scope that the options ask for.

    Raises:
        InputError: an unknown model, device, batch size or tier, and the message lists the known;
            or an expression that pytest cannot read.
    """
    words = _wanted_words(
        expression, [*registry.device_names(), *thresholds.file.tiers, *ALL_CHECKS]
    )
    named_tiers = [name for name in thresholds.file.tiers if name in words]
    name = tier or (named_tiers[0] if len(named_tiers) == 1 else DEFAULT_TIER)
    cells = thresholds.cells(name)
    for required in required_devices:
        registry.device_spec(required)
    _require_known("model", models, [cell.model for cell in cells], name)
    _require_known("batch size", batch_sizes, [cell.batch for cell in cells], name)
    chosen = tuple(
        cell
        for cell in cells
        if (not models or cell.model in models) and (not batch_sizes or cell.batch in batch_sizes)
    )
    if not chosen:
        raise InputError(
            f"tier {name} has no cell of {', '.join(models)} at batch "
            f"{', '.join(map(str, batch_sizes))}; there are: {', '.join(c.id for c in cells)}"
        )
    named = (words & set(registry.device_names())) | set(required_devices)
    return Scope(thresholds, name, chosen, expression, frozenset(named))


def _require_known(
    kind: str, asked: Sequence[str | int], known: Sequence[str | int], tier: str
) -> None:
    for value in asked:
        if value not in known:
            listed = ", ".join(map(str, dict.fromkeys(known)))
            raise InputError(f"tier {tier} has no {kind} {value}; there are: {listed}")


def refuse_unknown_cells(site: Site, thresholds: Thresholds) -> None:
    """Refuse a site.toml with a key for a cell that the contract lacks, as no check would ever use it.

    Raises:
        SiteError: it has one; the message lists the cells whose names are nearest.
    """
    known = [cell.id for cell in thresholds.cells()]
    for name, table in site.tables.items():
        for key, cell in table.cells.items():
            if cell not in known:
                near = difflib.get_close_matches(cell, known, n=6) or known
                raise SiteError(
                    f"{site.source}: {name}.{key}: {thresholds.path.name} has no such cell, so no check "
                    "would use the entry; correct the cell or remove the entry (with another contract, "
                    f"use another site file); the nearest are: {', '.join(near)}"
                )


@functools.cache
def _condition(expression: str) -> Callable[[Collection[str]], bool]:
    """Return the function that says whether ``-m`` selects a set of markers."""
    from _pytest.mark.expression import Expression

    try:
        compiled = Expression.compile(expression)
    except SyntaxError as error:
        raise InputError(f"wrong expression passed to -m: {expression}: {error}") from error

    def is_met(names: Collection[str]) -> bool:
        def has(name: str, /, **_: str | int | bool | None) -> bool:
            return name in names

        return compiled.evaluate(has)

    return is_met


def _wanted_words(expression: str, known: Sequence[str]) -> set[str]:
    """Return the markers that an expression asks for: with them it can hold, without it does not.

    ``not release`` names the tier and does not ask for it.
    """
    if not expression:
        return set()
    is_met = _condition(expression)
    words = sorted({*re.findall(r"\w+", expression)} & {*known})
    sets = [
        frozenset(chosen)
        for count in range(len(words) + 1)
        for chosen in itertools.combinations(words, count)
    ]
    return {
        word
        for word in words
        if any(is_met({*others, word}) and not is_met(others - {word}) for others in sets)
    }
