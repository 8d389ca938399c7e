"""Parse npu-smi's output: the table of ``info``, the map of ``info -m``, a board's properties.

Two lines of text describe a chip; the header row names the columns. NPU ids are arbitrary
numbers, unrelated to ais_bench's device numbers.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping

PAIR = re.compile(r"(\d+|NA)\s*/\s*(\d+)")
# The second cell of a chip's second line; a chip that is not on PCIe shows NA.
BUS_ID = re.compile(r"[0-9A-F]{4,8}:[0-9A-F]{2}:[0-9A-F]{2}\.[0-9A-F]+|NA|N/A", re.IGNORECASE)
VERSION = re.compile(r"^\|\s*npu-smi\s+\S+\s+Version:\s*(\S+)", re.MULTILINE)
LOGIC_ROW = re.compile(r"^\s*(\d+)\s+(\d+)\s+(\d+)\s+\S", re.MULTILINE)
NO_PROCESS = re.compile(r"^\|\s*No running processes found", re.IGNORECASE)
HEALTHS = ("OK", "Warning", "Alarm", "Critical", "UNKNOWN")


class TableError(ValueError):
    """The text is not an npu-smi table."""


@dataclasses.dataclass(frozen=True)
class NpuProcess:
    """A process that uses a chip; None for what cannot be read."""

    npu_id: int
    chip_id: int
    pid: int | None
    name: str
    memory_mb: int | None


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip of the table; a value that npu-smi does not know is None.

    Attributes:
        name: from the Name column: ``310``, ``310P3``, ``910B4``, ``Ascend910``.
        device_number: from the Device column, if there is one.
    """

    npu_id: int
    chip_id: int
    name: str
    health: str
    power_w: float | None
    temperature_c: float | None
    aicore_percent: float | None
    memory_used_mb: int | None
    memory_total_mb: int | None
    device_number: int | None

    @property
    def unit_id(self) -> str:
        """Name of the physical chip on this host."""
        return f"npu{self.npu_id}-chip{self.chip_id}"


@dataclasses.dataclass(frozen=True)
class LostChip:
    """A chip whose lines cannot be read: it is there, and cannot be used.

    ``name`` is None where they do not say what chip it is.
    """

    name: str | None
    reason: str


@dataclasses.dataclass(frozen=True)
class NpuSmiReport:
    """The table of ``npu-smi info``; ``processes`` is None if this version does not list them."""

    driver_version: str
    chips: tuple[Chip, ...]
    processes: tuple[NpuProcess, ...] | None = None
    lost: tuple[LostChip, ...] = ()

    def processes_of(self, chip: Chip) -> tuple[NpuProcess, ...]:
        """The processes on ``chip``."""
        here = (chip.npu_id, chip.chip_id)
        return tuple(p for p in self.processes or () if (p.npu_id, p.chip_id) == here)


def report_from_text(text: str) -> NpuSmiReport:
    """Read the table of ``npu-smi info``, of any generation.

    Raises:
        TableError: it is not a table. A single chip that cannot be read is among ``lost``.
    """
    version = VERSION.search(text)
    if version is None:
        raise TableError("no line '| npu-smi <version>  Version: <version> |'")
    rows = [_cells(line) for line in text.splitlines() if line.lstrip().startswith("|")][1:]
    devices, processes = _split_tables(rows)
    found = list(_chips(devices))
    return NpuSmiReport(
        version[1],
        tuple(chip for chip in found if isinstance(chip, Chip)),
        None if processes is None else tuple(_processes(processes)),
        tuple(chip for chip in found if isinstance(chip, LostChip)),
    )


def logic_ids_from_text(text: str) -> Mapping[tuple[int, int], int]:
    """Read ``npu-smi info -m``: the logic id of each (NPU id, chip id); MCU rows have none."""
    return {(int(r[1]), int(r[2])): int(r[3]) for r in LOGIC_ROW.finditer(text)}


def properties_from_text(text: str) -> Mapping[str, str]:
    """Read the ``Name : value`` lines of ``npu-smi info -t board`` and similar commands."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def blocks_from_text(text: str) -> list[Mapping[str, str]]:
    """Read ``Name : value`` lines in the blocks that empty lines part: a chip or a controller each."""
    return [properties_from_text(block) for block in re.split(r"\n\s*\n", text)]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _split_tables(rows: list[list[str]]) -> tuple[list[list[str]], list[list[str]] | None]:
    for index, row in enumerate(rows):
        if len(row) > 1 and row[1].lower().startswith("process id"):
            return rows[:index], rows[index + 1 :]
    return rows, None


def _chips(rows: list[list[str]]) -> Iterator[Chip | LostChip]:
    if len(rows) < 2 or not rows[0][0].startswith("NPU") or not rows[1][0].startswith("Chip"):
        raise TableError("no header rows 'NPU Name | Health' and 'Chip | Bus-Id'")
    has_device = "Device" in rows[1][0].split()
    for lines in _pairs(rows[2:]):
        try:
            yield _chip(lines, has_device)
        except (ValueError, IndexError) as error:
            text = " and ".join(f"'{' | '.join(line)}'" for line in lines)
            yield LostChip(_name(lines[0]), f"npu-smi shows a chip as {text} ({error})")


def _pairs(rows: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Group the lines by chip; npu-smi leaves out a line whose values it cannot get."""
    pending: list[list[str]] = []
    for row in rows:
        is_second = len(row) > 1 and BUS_ID.fullmatch(row[1]) is not None
        if pending and not is_second:
            yield pending
            pending = []
        pending.append(row)
        if is_second:
            yield pending
            pending = []
    if pending:
        yield pending


def _name(first: list[str]) -> str | None:
    """Return the name in a chip's first line, if it is one."""
    words = first[0].split(maxsplit=1)
    is_second = len(first) > 1 and BUS_ID.fullmatch(first[1]) is not None
    return None if is_second or len(words) < 2 else words[1]


def _chip(lines: list[list[str]], has_device: bool) -> Chip:
    if len(lines) < 2:
        raise ValueError("one of its two lines is missing")
    first, second = lines
    npu_id, *names = first[0].split(maxsplit=1)
    numbers = [int(word) for word in second[0].split()]
    power, temperature = first[2].split()[:2]
    if not (memory := PAIR.findall(second[2])):
        raise ValueError("no memory 'used / total'")
    used, total = memory[-1]
    # npu-smi clears the record first, and prints it as healthy where its queries fail.
    if not names or not int(total):
        raise ValueError("its record is empty: queries of the chip failed")
    return Chip(
        npu_id=int(npu_id),
        chip_id=numbers[0],
        name=names[0],
        health=_health(first[1]),
        power_w=_number(power),
        temperature_c=_number(temperature),
        aicore_percent=_number(second[2].split()[0]),
        memory_used_mb=None if used == "NA" else int(used),
        memory_total_mb=int(total),
        device_number=numbers[1] if has_device else None,
    )


def _health(text: str) -> str:
    for known in HEALTHS:
        if text.lower() == known.lower():
            return known
    raise ValueError(f"health '{text}'")


def _number(text: str) -> float | None:
    return None if text.upper() in ("NA", "N/A", "-") else float(text)


def _processes(rows: Iterable[list[str]]) -> Iterator[NpuProcess]:
    for row in rows:
        if NO_PROCESS.match("|" + row[0]) or not any(row):
            continue
        try:
            npu_id, chip_id = (int(word) for word in row[0].split())
        except ValueError as error:
            raise TableError(f"'{' | '.join(row)}' does not describe a process") from error
        # A process uses its chip, whatever else can be read of it.
        pid, name, memory = (*row[1:4], *3 * [""])[:3]
        yield NpuProcess(npu_id, chip_id, _whole(pid), name, _whole(memory))


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
