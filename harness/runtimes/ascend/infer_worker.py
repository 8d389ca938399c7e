"""Hold an InferSession in the interpreter that has ais_bench; started as a script, for Python 3.7+.

``infer_worker.py OM DEVICE GEAR`` (0: the model has one batch size) reads frames from standard input
and answers each on standard output. A frame is the length of a JSON head as 4 bytes, the head, and
the bytes of the arrays that the head lists. What aclruntime prints goes to standard error, as does
the traceback of a failure, which ends the worker.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

INFER_SESSION_MISSING_RC = 3


def read_exactly(stream: Any, size: int) -> bytearray:
    """Return ``size`` bytes; arrays over them are writable.

    Raises:
        EOFError: the stream ends before.
    """
    buffer = bytearray(size)
    done = 0
    with memoryview(buffer) as view:
        while done < size:
            count = stream.readinto(view[done:])
            if not count:
                raise EOFError(f"{done} bytes of {size}")
            done += count
    return buffer


def read_frame(stream: IO[bytes], numpy: Any) -> tuple[dict[str, Any], list[Any]]:
    """Return the head and the arrays of the next frame.

    Raises:
        EOFError: the stream ends before that of the frame.
    """
    (size,) = struct.unpack("<I", read_exactly(stream, 4))
    head = json.loads(read_exactly(stream, size).decode())
    arrays = []
    for item in head["arrays"]:
        dtype = numpy.dtype(item["dtype"])
        count = int(numpy.prod(item["shape"], dtype=numpy.int64))
        data = read_exactly(stream, count * dtype.itemsize)
        arrays.append(numpy.frombuffer(data, dtype).reshape(item["shape"]))
    return head, arrays


def write_frame(stream: IO[bytes], head: dict[str, Any], arrays: Sequence[Any] = ()) -> None:
    """Write a head and arrays as one frame."""
    head["arrays"] = [{"dtype": str(a.dtype), "shape": list(a.shape)} for a in arrays]
    text = json.dumps(head).encode()
    stream.write(struct.pack("<I", len(text)) + text)
    for array in arrays:
        # Any other layout has to be copied first.
        stream.write(array if array.flags.c_contiguous else array.tobytes())
    stream.flush()


def tensors(descriptions: Sequence[Any]) -> list[dict[str, Any]]:
    """Return name, shape and size in bytes of each tensor of a model."""
    return [
        {"name": str(d.name), "shape": [int(n) for n in d.shape], "bytes": int(d.realsize)}
        for d in descriptions
    ]


def free(session: Any) -> None:
    """Free the device; each generation has its own call for it."""
    if hasattr(session, "free_resource"):
        session.free_resource()
        type(session).finalize()
    else:
        session.finalize()


def main() -> int:
    """Load the model, send its inputs and outputs, then answer until the other end closes."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # This script's folder holds a module called ais_bench, which would hide the real one.
    sys.path.pop(0)
    try:
        import numpy
        from ais_bench.infer.interface import InferSession
    except ImportError as error:
        write_frame(replies, {"missing": str(error)})
        return INFER_SESSION_MISSING_RC
    start_s = time.perf_counter()
    session, gear = InferSession(int(sys.argv[2]), sys.argv[1]), int(sys.argv[3])
    load_ms = 1000.0 * (time.perf_counter() - start_s)
    # The older one keeps the gear that is set once, whatever the mode; the newer sets it before each run of this mode,
    # and in mode static would go back to the largest.
    mode = "dymbatch" if gear else "static"
    if gear:
        session.set_dynamic_batchsize(gear)
    inputs, outputs = tensors(session.get_inputs()), tensors(session.get_outputs())
    write_frame(replies, {"inputs": inputs, "outputs": outputs, "load_ms": load_ms})
    while True:
        try:
            _, arrays = read_frame(sys.stdin.buffer, numpy)
        except EOFError:
            break
        start_s = time.perf_counter()
        results = [numpy.asarray(output) for output in session.infer(arrays, mode)]
        infer_ms = 1000.0 * (time.perf_counter() - start_s)
        write_frame(replies, {"infer_ms": infer_ms}, results)
    free(session)
    return 0


if __name__ == "__main__":
    sys.exit(main())
