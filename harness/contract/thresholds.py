"""thresholds.toml -> Limits: the contract, with one home, a unit and a source for each number.

The layout, in which tables may be repeated for each model, device, batch size and tier::

    schema = 2
    inputs = "<sha256>"                     of the known answers of inputs, fixtures/inputs.json
    [sources]                               texts; every source = "..." below names one
    [clip_sets.S]                           the whole set: how many clips
    [parity.fp16]                           how far off a stage may be, in that precision
    [every_clip.fp16]                       how far off any clip of the accuracy run may be
    [multiply_adds]                         by what share those of the files may differ from PyTorch's
    [devices.D]                             how the speed of a device is measured
    [no_golden]                             bounds of a speed that nobody has published or measured
    [models.M]                              clip set, weights, paired comparison, accuracy floors
    [models.M.parity.fp16]                  the keys in which the model differs; every_clip alike
    [models.M.multiply_adds]                the model's own share
    [models.M.devices.D]                    the accuracy goldens of the device, or a floor of its own
    [models.M.devices.D.device_model]       memory and AI-CPU operators that its model may take
    [models.M.devices.D.startup]            what a start may take, in rows as those of throughput
    [models.M.devices.D.soak]               what long work may change, in such rows
    [models.M.devices.D.throughput]         the keys in which the model differs, and its rows:
    bs4 = { golden = 78.25, tolerance = 0.05 }
    [tiers.T]                               which cells it runs, what it requires, how long
    [[waivers]]                             a known failure, its owner, its last day

Unknown keys, tables of unknown models or devices, patterns that match nothing, sources and limits that
nothing uses, empty requirements, NaN, strings for numbers and numbers out of range are errors that
name the key.
"""

import dataclasses
import functools
import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness import registry
from harness.contract.consistency import problems
from harness.contract.migrate import file_of_schema_1, toml_of_schema_2
from harness.contract.tables import ThresholdsFile, Tier
from harness.contract.written import file_from_tables
from harness.errors import InputError, ThresholdsError
from harness.host.reading import TOML_BYTES, bytes_from_file, toml_from_text
from harness.judge.limits import AccuracyLimits, Limits, ThroughputReference
from harness.spec import PYTORCH, Cell, Check

Reader = Callable[[Mapping[str, Any]], ThresholdsFile]


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The contract as read from a file; ``digest`` is the sha256 of its bytes."""

    path: Path
    digest: str
    file: ThresholdsFile

    def tier(self, name: str) -> Tier:
        """Return a tier.

        Raises:
            InputError: there is none of that name.
        """
        if name not in self.file.tiers:
            known = ", ".join(self.file.tiers)
            raise InputError(f"{self.path} has no tier {name!r}; there are: {known}")
        return self.file.tiers[name]

    def with_more_timing(self, sessions: int, budget_minutes: float) -> "Thresholds":
        """Return the contract with room for more timed sessions; what it asks for stays."""
        tiers = {}
        for name, tier in self.file.tiers.items():
            timing = {
                key: plan.with_more(sessions, budget_minutes) for key, plan in tier.timing.items()
            }
            tiers[name] = tier.model_copy(update={"timing": timing})
        return dataclasses.replace(self, file=self.file.model_copy(update={"tiers": tiers}))

    def with_soak(self, tier: str, minutes: float) -> "Thresholds":
        """Return the contract with a soak of so many minutes in a tier."""
        longer = self.tier(tier).model_copy(update={"soak_minutes": minutes})
        tiers = {**self.file.tiers, tier: longer}
        return dataclasses.replace(self, file=self.file.model_copy(update={"tiers": tiers}))

    def cells(self, tier: str | None = None) -> tuple[Cell, ...]:
        """All cells, or those of a tier, in the order of the file."""
        if tier is not None:
            self.tier(tier)
        return self._cells[tier]

    @functools.cached_property
    def _cells(self) -> Mapping[str | None, tuple[Cell, ...]]:
        return {
            name: self.file.cells(None if name is None else self.file.tiers[name])
            for name in (None, *self.file.tiers)
        }

    def limits(self, cell: Cell) -> Limits:
        """Return what a cell is judged by.

        Raises:
            InputError: the file has no such cell.
        """
        if cell not in self.cells():
            raise InputError(
                f"{self.path} has no cell {cell.id}; there are: "
                f"{', '.join(known.id for known in self.cells())}"
            )
        model = self.file.models[cell.model]
        device = model.devices[cell.device]
        clip_set = self.file.clip_sets[model.clip_set]
        of_model, of_device = registry.model_spec(cell.model), registry.device_spec(cell.device)
        precision = registry.arithmetic_of(of_model, cell, of_device)
        reference = of_model.reference
        return Limits(
            reference=reference,
            weights=model.weights,
            inputs=self.file.inputs,
            parity=model.parity[precision],
            host_parity=model.parity["fp32"],
            accuracy=AccuracyLimits(
                top1=device.top1,
                top5=device.top5,
                clip_count=clip_set.clip_count,
                clip_set_digest=clip_set.digest,
                unreadable_max=clip_set.unreadable_max,
                paired=model.paired,
                every_clip=model.every_clip.get(precision),
                reference=reference,
                matrix_cells=sum(
                    self.file.models[other.model].clip_set == model.clip_set
                    for other in self.cells()
                ),
            ),
            throughput=device.throughput[cell.row],
            multiply_adds=model.multiply_adds if reference == PYTORCH else None,
            device_model=device.device_model,
            startup=device.startup.get(cell.row),
            soak=device.soak.get(cell.row),
        )

    def checks(self, cell: Cell, tier: str) -> tuple[Check, ...]:
        """Return the checks that a cell has in a tier; none where the file has no such cell.

        Raises:
            InputError: there is no tier of that name.
        """
        found = self.tier(tier)
        return self.file.checks(cell, found) if cell in self.cells() else ()

    def references(self) -> Mapping[Cell, ThroughputReference]:
        """Return the reference speed of every cell."""
        return {cell: self.limits(cell).throughput for cell in self.cells()}


def thresholds_from_file(path: Path) -> Thresholds:
    """Read and check the contract that runs are judged by from now on.

    Raises:
        ThresholdsError: it is missing, malformed, inconsistent or of the old form; every problem is
            named by its key.
    """
    return _thresholds(path, {2: file_from_tables})


def stored_thresholds(path: Path) -> Thresholds:
    """Read and check the contract that a stored run was judged by, in the old form as well.

    ``run.json`` and the signature name the digest of these bytes, so nobody may write them anew.

    Raises:
        ThresholdsError: it is missing, malformed or inconsistent; every problem is named by its key.
    """
    return _thresholds(path, {1: file_of_schema_1, 2: file_from_tables})


def migrated_toml(path: Path) -> str:
    """Return the text of a contract in the old form as today's form has it.

    Raises:
        ThresholdsError: it is missing, malformed, inconsistent, or not in the old form.
    """
    return toml_of_schema_2(_thresholds(path, {1: file_of_schema_1}).file)


def tables_from_toml(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of a TOML file and what they hold.

    Raises:
        ThresholdsError: it cannot be read, or it is not TOML.
    """
    try:
        content = bytes_from_file(path, TOML_BYTES)
        text = content.decode()
        return content, toml_from_text(text)
    except OSError as error:
        raise ThresholdsError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ThresholdsError(f"{path} is not UTF-8: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ThresholdsError(f"{path} is not TOML: {error}{_quoted_line(text, error)}") from error
    except ValueError as error:
        # An integer of thousands of digits, brackets in thousands of brackets.
        raise ThresholdsError(f"{path} is not TOML: {error}") from error


def tier_names(path: Path) -> tuple[str, ...]:
    """Return the names of the tiers, for the markers; none where the file cannot be read.

    ``thresholds_from_file`` says what is wrong with the file, once somebody needs it.
    """
    try:
        tiers = tables_from_toml(path)[1].get("tiers")
    except ThresholdsError:
        return ()
    return tuple(tiers) if isinstance(tiers, dict) else ()


def _quoted_line(text: str, error: tomllib.TOMLDecodeError) -> str:
    # tomllib gives the place in its message alone, and does not name a key that is there twice.
    lines = text.rstrip().splitlines()
    found = re.search(r"\(at line (\d+)", str(error))
    return f": {lines[int(found[1]) - 1 if found else -1].strip()}"


def _thresholds(path: Path, readers: Mapping[int, Reader]) -> Thresholds:
    content, tables = tables_from_toml(path)
    schema = 1 if tables.get("schema") == 1 else 2
    if schema not in readers:
        old = f"{path} is in the old form (schema = 1); this writes it in today's: "
        command = f"harness thresholds migrate {path} --output NEW"
        raise ThresholdsError(
            old + command if schema == 1 else f"{path} is not in the old form (schema = 1)"
        )
    try:
        file = readers[schema](tables)
    except ThresholdsError as error:
        raise ThresholdsError(f"{path} {error}") from error
    found = list(problems(file))
    if found:
        raise ThresholdsError("\n  ".join([f"{path} is inconsistent:", *found]))
    return Thresholds(path, hashlib.sha256(content).hexdigest(), file)
