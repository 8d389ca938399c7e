"""Run a model through ais_bench's InferSession in a worker process, without files."""

import contextlib
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from harness.errors import RunError
from harness.host.command import Command, CommandResult, guarded, kill_group
from harness.runtimes.ascend import infer_worker
from harness.runtimes.ascend.ais_bench import OmOnChip
from harness.runtimes.ascend.ais_bench_errors import reason_from_result
from harness.runtimes.ascend.infer_worker import read_frame, write_frame

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = Sequence[npt.NDArray[Any]]


class StreamUnavailableError(Exception):
    """The interpreter cannot import InferSession; the message says why."""


class InferStream:
    """A loaded model in a worker process.

    Attributes:
        inputs: name, shape and bytes of each input, as the device reports; likewise ``outputs``.
        load_ms: that InferSession took to load the model.
        infer_ms: that it took for the last batch, with the copies; None before the first.
    """

    def __init__(self, model: OmOnChip, label: str) -> None:
        """Start the worker and load the model; ``label`` begins the name of its log.

        Raises:
            StreamUnavailableError: the interpreter cannot import InferSession.
            RunError: the model cannot be loaded.
        """
        bench, folder = model.bench, model.om.parent
        self._log = model.tools.logs / f"{label}-{folder.name}.log"
        self._timeout_s = model.tools.batch_timeout_s
        self._stack = contextlib.ExitStack()
        words = (infer_worker.__file__, model.om, model.device_number, model.onnx.gear or 0)
        command = Command((bench.python, *map(str, words)), self._timeout_s, folder, bench.env)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        try:
            stderr = self._stack.enter_context(self._log.open("wb"))
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
        import numpy as np

        late = threading.Event()
        watchdog = threading.Timer(self._timeout_s, self._give_up, (late,))
        watchdog.start()
        try:
            if arrays is not None:
                write_frame(_pipe(self._process.stdin), {}, arrays)
            return read_frame(_pipe(self._process.stdout), np)
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
