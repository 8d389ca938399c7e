"""Read one file of an operator dump: a protobuf header, then the bytes of inputs and outputs.

The header is CANN's ``DumpData``; its few fields are read here, as its parser ships with CANN only.
"""

import dataclasses
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import RunError
from harness.host.reading import TEXT_BYTES, open_file
from harness.runtimes.ascend.layouts import FORMATS, logical_array

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

# Numbers of DumpData.DataType. bfloat16 (27) is read as its bits.
DTYPES = {
    1: "float32",
    2: "float16",
    3: "int8",
    4: "uint8",
    5: "int16",
    6: "uint16",
    7: "int32",
    8: "int64",
    9: "uint32",
    10: "uint64",
    11: "bool",
    12: "float64",
    27: "bfloat16",
}
OUTPUT, INPUT, OP_NAME = 3, 4, 6
DTYPE, FORMAT, SHAPE = 1, 2, 3
# `size` and `original_shape` have other numbers in an output than in an input.
SIZE, ORIGINAL_SHAPE = {OUTPUT: 6, INPUT: 5}, {OUTPUT: 7, INPUT: 6}
Fields = Mapping[int, Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class DumpTensor:
    """One input or output: where its bytes are, and what they are."""

    path: Path
    offset: int
    nbytes: int
    dtype: str
    format: str
    shape: tuple[int, ...]
    original_shape: tuple[int, ...]

    def array(self) -> "Array":
        """Read it in the shape that the ONNX file gives it.

        Raises:
            RunError: its dtype or layout is not known, or it does not fit its shape.
        """
        import numpy as np

        bits = "uint16" if self.dtype == "bfloat16" else self.dtype
        try:
            count = math.prod(self.shape)
            if count * np.dtype(bits).itemsize > self.nbytes:
                raise ValueError(f"{self.nbytes} bytes do not hold the shape {self.shape}")
            raw = np.fromfile(self.path, bits, count, offset=self.offset)
            whole = _wide(raw) if self.dtype == "bfloat16" else raw
            return logical_array(whole.reshape(self.shape), self.format, self.original_shape)
        except (OSError, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"the dump {self.path.name} cannot be read: {error}") from error


@dataclasses.dataclass(frozen=True)
class Dump:
    """The dump of one operator, which ``op_name`` names as the offline model does."""

    op_name: str
    inputs: tuple[DumpTensor, ...]
    outputs: tuple[DumpTensor, ...]


def dump_from_file(path: Path) -> Dump:
    """Read the header of a dump file and check that the file has the bytes that it promises.

    Raises:
        RunError: the file is truncated, damaged or not a dump.
    """
    try:
        with open_file(path) as file:
            (count,) = struct.unpack("<Q", file.read(8))
            header = file.read(min(count, TEXT_BYTES))
        if len(header) < count:
            raise ValueError(f"its header has {len(header)} of {count} bytes")
        return _dump(path, dict(_grouped(header)), 8 + count)
    # A number may stand where a message or a text should.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise RunError(f"the dump {path.name} cannot be read: {error}") from error


def _dump(path: Path, fields: Fields, offset: int) -> Dump:
    """Lay out the tensors: the header lists outputs first, but the bytes are inputs first."""
    found: dict[int, list[DumpTensor]] = {INPUT: [], OUTPUT: []}
    for kind, tensors in found.items():
        for message in fields.get(kind, ()):
            own = dict(_grouped(message))
            size = int(own.get(SIZE[kind], [0])[-1])
            tensors.append(_tensor(path, own, kind, (offset, size)))
            offset += size
    if not any(found.values()):
        raise ValueError("its header lists no tensor")
    if offset > path.stat().st_size:
        raise ValueError(f"it has {path.stat().st_size} bytes, and its header promises {offset}")
    name = fields.get(OP_NAME, [b""])[-1].decode()
    return Dump(name, tuple(found[INPUT]), tuple(found[OUTPUT]))


def _tensor(path: Path, fields: Fields, kind: int, place: tuple[int, int]) -> DumpTensor:
    number, layout = (int(fields.get(key, [0])[-1]) for key in (DTYPE, FORMAT))
    shape = _shape(fields.get(SHAPE, ()))
    return DumpTensor(
        *(path, *place),
        DTYPES.get(number, f"type {number}"),
        FORMATS.get(layout, f"format {layout}"),
        shape,
        _shape(fields.get(ORIGINAL_SHAPE[kind], ())) or shape,
    )


def _shape(messages: Sequence[bytes]) -> tuple[int, ...]:
    dims: list[int] = []
    for message in messages:
        for value in dict(_grouped(message)).get(1, ()):
            # proto3 packs numbers; a plain one is as good.
            dims += [value] if isinstance(value, int) else _varints(value)
    return tuple(dims)


def _grouped(message: bytes) -> Iterator[tuple[int, list[Any]]]:
    """Yield the values of a protobuf message by field number."""
    values: dict[int, list[Any]] = {}
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        value, place = _value(message, place, key & 7)
        values.setdefault(key >> 3, []).append(value)
    yield from values.items()


def _value(message: bytes, place: int, wire_type: int) -> tuple[Any, int]:
    if wire_type == 0:
        return _varint(message, place)
    if wire_type == 2:
        size, place = _varint(message, place)
    else:
        size = {1: 8, 5: 4}[wire_type]
    end = place + size
    if end > len(message):
        raise ValueError("its header ends inside a field")
    return message[place:end], end


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[place]
        value, place, shift = value | (byte & 0x7F) << shift, place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("its header has a number of more than 64 bits")


def _varints(packed: bytes) -> list[int]:
    found, place = [], 0
    while place < len(packed):
        value, place = _varint(packed, place)
        found.append(value)
    return found


def _wide(bits: "Array") -> "Array":
    """Return bfloat16, which is the upper half of a float32."""
    import numpy as np

    return (bits.astype(np.uint32) << 16).view(np.float32)
