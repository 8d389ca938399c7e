"""Which cells a pytest run is about, and which of their checks must have passed."""

import dataclasses
import re
from collections.abc import Collection, Sequence

from harness import registry
from harness.errors import InputError
from harness.spec import CHECKS, Cell, Check
from harness.thresholds import Thresholds

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
        """Ids of the checks that ``-m`` selects and the tier requires."""
        tier = self.thresholds.tier(self.tier)
        return tuple(
            f"{cell.id}:{check}"
            for cell in self.cells
            for check in CHECKS
            if tier.requires(cell, check) and self._is_selected(cell, check)
        )

    def is_excusable(self, check_id: str, absent_devices: Collection[str]) -> bool:
        """Whether a check may be left out: its device is absent and nobody asked for it."""
        device = next(cell.device for cell in self.cells if check_id.startswith(f"{cell.id}:"))
        return device in absent_devices and device not in self.named_devices

    def _is_selected(self, cell: Cell, check: Check) -> bool:
        from _pytest.mark.expression import Expression

        if not self.expression:
            return True
        names = {check, *self.markers(cell)}

        def has(name: str, /, **_: str | int | bool | None) -> bool:
            return name in names

        return Expression.compile(self.expression).evaluate(has)


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
        InputError: an unknown model, device, batch size or tier; the message lists the known.
    """
    words = set(re.findall(r"\w+", expression))
    named_tiers = [name for name in thresholds.file.tiers if name in words]
    name = tier or (named_tiers[0] if len(named_tiers) == 1 else DEFAULT_TIER)
    cells = thresholds.cells(name)
    for required in required_devices:
        registry.device(required)
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
