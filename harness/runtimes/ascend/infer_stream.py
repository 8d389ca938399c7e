"""Run a model through ais_bench's InferSession in a worker process, without files."""

import contextlib
import json
import struct
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness.errors import RunError
from harness.host.command import Command, CommandResult, guarded, kill_group
from harness.runtimes.ascend.ais_bench import AisBench
from harness.runtimes.ascend.ais_bench_errors import reason_from_result

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = Sequence[npt.NDArray[Any]]

WORKER = Path(__file__).with_name("infer_worker.py")


class StreamUnavailableError(Exception):
    """The interpreter cannot import InferSession; the message says why."""


class InferStream:
    """A loaded model in a worker process.

    Attributes:
        inputs: name, shape and bytes of each input, as the device reports; likewise ``outputs``.
        load_ms: that InferSession took to load the model.
        infer_ms: that it took for the last batch, with the copies; None before the first.
    """

    def __init__(
        self,
        bench: AisBench,
        om: Path,
        device_number: int,
        gear: int | None,
        log: Path,
        timeout_s: float,
    ) -> None:
        """Start the worker and load the model, with its batch size ``gear`` where it has several.

        Raises:
            StreamUnavailableError: the interpreter cannot import InferSession.
            RunError: the model cannot be loaded.
        """
        self._log, self._timeout_s = log, timeout_s
        self._stack = contextlib.ExitStack()
        argv = (bench.python, str(WORKER), str(om), str(device_number), str(gear or 0))
        command = Command(argv, timeout_s, om.parent, bench.env)
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            stderr = self._stack.enter_context(log.open("wb"))
            pipe = subprocess.PIPE
            self._process = self._stack.enter_context(guarded(command, pipe, stderr, pipe))
            head, _ = self._exchange(None)
            if "missing" in head:
                raise StreamUnavailableError(str(head["missing"]))
        except BaseException:
            self._stack.close()
            raise
        self.inputs: list[dict[str, Any]] = head["inputs"]
        self.outputs: list[dict[str, Any]] = head["outputs"]
        self.load_ms: float = head["load_ms"]
        self.infer_ms: float | None = None

    def run(self, arrays: "Arrays") -> "Arrays":
        """Run one batch: takes arrays in input order, returns arrays in output order.

        Raises:
            RunError: the device failed, or the worker died or did not answer in time.
        """
        head, outputs = self._exchange(arrays)
        self.infer_ms = head["infer_ms"]
        return outputs

    def close(self) -> None:
        """Free the device; safe to call twice."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                _pipe(self._process.stdin).close()
                self._process.wait(min(self._timeout_s, 30.0))
        self._stack.close()

    def _exchange(self, arrays: "Arrays | None") -> tuple[Mapping[str, Any], "Arrays"]:
        late = threading.Event()
        watchdog = threading.Timer(self._timeout_s, self._give_up, (late,))
        watchdog.start()
        try:
            if arrays is not None:
                _write_frame(_pipe(self._process.stdin), arrays)
            return _read_frame(_pipe(self._process.stdout))
        except (OSError, EOFError, ValueError) as error:
            raise self._dead(late.is_set()) from error
        finally:
            watchdog.cancel()

    def _give_up(self, late: threading.Event) -> None:
        late.set()
        kill_group(self._process)

    def _dead(self, is_late: bool) -> RunError:
        self._stack.close()
        said = self._log.read_text(errors="replace")
        result = CommandResult(
            self._process.returncode, said, self._timeout_s, self._log, timed_out=is_late
        )
        return RunError(f"InferSession: {reason_from_result(result)}; log in {self._log}")


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise EOFError("the worker has no pipe")
    return stream


def _write_frame(stream: IO[bytes], arrays: "Arrays") -> None:
    heads = [{"dtype": str(a.dtype), "shape": list(a.shape)} for a in arrays]
    text = json.dumps({"arrays": heads}).encode()
    stream.write(struct.pack("<I", len(text)) + text)
    for array in arrays:
        stream.write(array.data.cast("B"))
    stream.flush()


def _read_frame(stream: IO[bytes]) -> tuple[Mapping[str, Any], "Arrays"]:
    import numpy as np

    (size,) = struct.unpack("<I", _exactly(stream, 4))
    head = json.loads(_exactly(stream, size))
    arrays = []
    for item in head["arrays"]:
        dtype = np.dtype(item["dtype"])
        count = int(np.prod(item["shape"], dtype=np.int64))
        data = _exactly(stream, count * dtype.itemsize)
        arrays.append(np.frombuffer(data, dtype).reshape(item["shape"]).copy())
    return head, arrays


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError(f"{len(data)} bytes of {size}")
    return data
