"""Read one file of an operator dump: a protobuf header, then the bytes of inputs and outputs.

The header is CANN's ``DumpData``, whose parser ships with CANN only; what is read of it is declared here.
"""

import dataclasses
import functools
import math
import struct
from collections.abc import Mapping
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
# Messages of CANN: the number of each field, and its type where it is not a whole number. `size` and
# `original_shape` have other numbers in an output than in an input.
SHAPE, TENSOR = {"dim": (1, "")}, {"data_type": (1, ""), "format": (2, ""), "shape": (3, "Shape")}
MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Shape": SHAPE,
    "Input": {**TENSOR, "size": (5, ""), "original_shape": (6, "Shape")},
    "Output": {**TENSOR, "size": (6, ""), "original_shape": (7, "Shape")},
    "DumpData": {"output": (3, "Output"), "input": (4, "Input"), "op_name": (6, "string")},
}
REPEATED = ("dim", "output", "input")


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
    from google.protobuf.message import DecodeError

    try:
        with open_file(path) as file:
            (count,) = struct.unpack("<Q", file.read(8))
            header = file.read(min(count, TEXT_BYTES))
        if len(header) < count:
            raise ValueError(f"its header has {len(header)} of {count} bytes")
        return _dump(path, _dump_data().FromString(header), 8 + count)
    except (OSError, ValueError, struct.error, DecodeError) as error:
        raise RunError(f"the dump {path.name} cannot be read: {error}") from error


def _dump(path: Path, header: Any, offset: int) -> Dump:
    """Lay out the tensors: the header lists outputs first, but the bytes are inputs first."""
    tensors = []
    for one in (*header.input, *header.output):
        shape = tuple(one.shape.dim)
        tensors.append(
            DumpTensor(
                *(path, offset, one.size),
                DTYPES.get(one.data_type, f"type {one.data_type}"),
                FORMATS.get(one.format, f"format {one.format}"),
                shape,
                tuple(one.original_shape.dim) or shape,
            )
        )
        offset += one.size
    if not tensors:
        raise ValueError("its header lists no tensor")
    if offset > path.stat().st_size:
        raise ValueError(f"it has {path.stat().st_size} bytes, and its header promises {offset}")
    count = len(header.input)
    return Dump(header.op_name, tuple(tensors[:count]), tuple(tensors[count:]))


@functools.cache
def _dump_data() -> Any:
    """Return the class of the header."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds: Any = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="dump.proto", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            message.field.add(
                name=field,
                number=number,
                type={"": kinds.TYPE_UINT64, "string": kinds.TYPE_STRING}.get(kind),
                type_name=kind if kind in MESSAGES else None,
                label=kinds.LABEL_REPEATED if field in REPEATED else kinds.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("DumpData"))


def _wide(bits: "Array") -> "Array":
    """Return bfloat16, which is the upper half of a float32."""
    import numpy as np

    return (bits.astype(np.uint32) << 16).view(np.float32)
