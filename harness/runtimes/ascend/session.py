"""A built model on one chip: outputs through InferSession or files, times through ais_bench."""

import contextlib
import dataclasses
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.device import Session
from harness.errors import DeviceError, InvalidMeasurement, RunError
from harness.runtimes.ascend.ais_bench import (
    MAX_LOOP,
    AisBench,
    OmOnChip,
    loop_command,
    summary_of_run,
)
from harness.runtimes.ascend.ais_bench_errors import warnings_from_output
from harness.runtimes.ascend.ais_bench_files import (
    bench_run,
    check_batch,
    check_batch_sizes,
    chunks_of,
    outputs_through_files,
)
from harness.runtimes.ascend.ais_bench_result import BenchSummary, check_array, check_times
from harness.runtimes.ascend.environment import CannTools
from harness.runtimes.ascend.infer_stream import InferStream, StreamUnavailableError
from harness.runtimes.ascend.probe import Unit, chip_problems, is_quiet
from harness.spec import DeviceModel, OnnxModel
from harness.timings import LoopSettings, LoopTimes

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.spec import Feed

    Array = npt.NDArray[Any]
    Arrays = Sequence[Array]


class CannSession(Session):
    """A loaded offline model.

    Attributes:
        unit: the physical chip, as it was when the session opened.
    """

    def __init__(
        self,
        model: DeviceModel,
        unit: Unit,
        bench: AisBench,
        tools: CannTools,
        look: Callable[[], Unit],
    ) -> None:
        """Load ``model`` on ``unit``; ``look`` queries npu-smi for it again.

        Raises:
            RunError: it cannot be loaded.
        """
        self.unit, self._notes = unit, [f"ais_bench of {bench.generation}"]
        self._onnx, self._tools, self._look = model.onnx, tools, look
        self._stream: InferStream | None = None
        self._is_streaming = tools.streaming
        self._files = contextlib.ExitStack()
        om = self._files.enter_context(private_copy(model.artifact.path, tools.scratch))
        self._model = OmOnChip(model.onnx, om, unit.device_number, bench, tools)
        try:
            self._open_stream()
        except BaseException:
            self.close()
            raise

    @property
    def notes(self) -> tuple[str, ...]:
        """How the outputs were obtained, and warnings of the tools."""
        return tuple(self._notes)

    def run(self, feed: "Feed") -> "Feed":
        """Run one batch."""
        return next(iter(self.run_many([feed])))

    def run_many(self, feeds: "Iterable[Feed]") -> "Iterator[Feed]":
        """Run batches in order; through files, one ais_bench run takes many of them."""
        batches = (self._batch(feed) for feed in feeds)
        outputs = self._streamed(batches) if self._is_streaming else self._filed(batches)
        for output in outputs:
            yield {self._onnx.output.name: output}

    def loop(self, feed: "Feed", settings: LoopSettings) -> LoopTimes:
        """Measure as the guides do: pure inference, without the content of ``feed``.

        The problems of the result say if the chip was hot, unhealthy or shared.

        Raises:
            InvalidMeasurement: the state of the chip is unknown.
        """
        self._batch(feed)
        self._close_stream()  # only the measured process may be on the chip
        before = self._settled(self._looked("before"))
        summary = self._timed(settings)
        after = self._looked("after")
        after = dataclasses.replace(after, processes=self._settled(after).processes)
        problems = chip_problems(before, after, self._tools.temperature_limit_c)
        looks = f"before: {before.id} {before.text}", f"after: {after.id} {after.text}"
        times = self._times(summary)
        return dataclasses.replace(times, problems=tuple(problems), notes=(*looks, *self.notes))

    def steady(self, feed: "Feed", queries: int) -> LoopTimes:
        """Run ais_bench's loop at once, without a look at the chip before and after."""
        self._batch(feed)
        self._close_stream()
        return self._times(self._looped(min(queries, MAX_LOOP), 0))

    def _times(self, summary: BenchSummary) -> LoopTimes:
        copies_ms = summary.h2d_ms + summary.d2h_ms
        return LoopTimes(summary.times_ms, tuple(time + copies_ms for time in summary.times_ms))

    def close(self) -> None:
        """Free the device and the files."""
        self._close_stream()
        self._files.close()

    def _batch(self, feed: "Feed") -> "Arrays":
        return arrays_of_feed(self._onnx, feed)

    def _streamed(self, batches: "Iterable[Arrays]") -> "Iterator[Array]":
        for batch in batches:
            self._open_stream()
            if self._stream is None:
                raise RunError(f"InferSession can no longer be imported: {self._notes[-1]}")
            (output,) = self._stream.run(batch)
            check_array(output, self._onnx.output, "an output of InferSession")
            yield output

    def _filed(self, batches: "Iterable[Arrays]") -> "Iterator[Array]":
        for chunk in chunks_of(batches, self._tools.chunk_bytes):
            outputs, warnings = outputs_through_files(self._model, chunk)
            self._note(*warnings)
            yield from outputs

    def _timed(self, settings: LoopSettings) -> BenchSummary:
        """Loop, and repeat with a higher count until the run lasts the minimum time."""
        count = settings.min_queries
        while True:
            summary = self._looped(count, settings.warmup_queries)
            seconds = sum(summary.times_ms) / 1000.0
            if seconds >= settings.min_seconds or count >= MAX_LOOP:
                return summary
            needed = math.ceil(1.2 * count * settings.min_seconds / seconds)
            count = min(MAX_LOOP, max(2 * count, needed))

    def _looped(self, count: int, warmup: int) -> BenchSummary:
        with bench_run(self._model, "loop") as run:
            summary, result = summary_of_run(run, loop_command(run, count, warmup))
        check_times(summary.times_ms, count)
        check_batch_sizes(result.output, self._onnx)
        self._note(*warnings_from_output(result.output))
        return summary

    def _looked(self, when: str) -> Unit:
        try:
            return self._look()
        except DeviceError as error:
            raise InvalidMeasurement(
                f"{self.unit.id} cannot be checked {when} the run: {error}"
            ) from error

    def _settled(self, unit: Unit) -> Unit:
        """Look again for a while: npu-smi may still list our own process, which has just ended."""
        end = time.monotonic() + self._tools.settle_s
        while not is_quiet(unit) and time.monotonic() < end:
            time.sleep(self._tools.settle_s / 10.0)
            unit = self._looked("around")
        return unit

    def _open_stream(self) -> None:
        if not self._is_streaming or self._stream is not None:
            return
        try:
            self._stream = InferStream(self._model, "infer_session")
        except StreamUnavailableError as error:
            self._is_streaming = False
            self._note(f"outputs through files, because InferSession cannot be imported: {error}")
            return
        self._check_tensors(self._stream)

    def _check_tensors(self, stream: InferStream) -> None:
        found = [tensor["bytes"] for tensor in stream.inputs], len(stream.outputs)
        wanted = [tensor.nbytes for tensor in self._onnx.inputs], 1
        if found != wanted:
            raise RunError(
                f"the offline model takes {stream.inputs} and gives {stream.outputs}, but"
                f" {self._onnx.spec.name} batch {self._onnx.batch} takes {self._onnx.inputs} and"
                " gives one output: rebuild it"
            )

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _note(self, *texts: str) -> None:
        self._notes += [text for text in texts if text not in self._notes]


def arrays_of_feed(onnx: OnnxModel, feed: "Feed") -> "Arrays":
    """Return the arrays of a batch in the order of the model's inputs.

    Raises:
        RunError: they are not those that the model takes.
    """
    import numpy as np

    inputs = onnx.inputs
    if set(feed) != {tensor.name for tensor in inputs}:
        names = ", ".join(tensor.name for tensor in inputs)
        raise RunError(f"the model takes {names}, but the feed has {', '.join(feed)}")
    arrays = [np.ascontiguousarray(feed[tensor.name]) for tensor in inputs]
    for array, tensor in zip(arrays, inputs, strict=True):
        check_batch(array, tensor)
    return arrays


@contextlib.contextmanager
def private_copy(om: Path, scratch: Path) -> Iterator[Path]:
    """Copy the model to a path of plain characters that nobody else can write to, for the block.

    Raises:
        RunError: the disk is full or the folder cannot be used.
    """
    with contextlib.ExitStack() as stack:
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            made = tempfile.TemporaryDirectory(
                prefix="cann-", dir=scratch.resolve(), ignore_cleanup_errors=True
            )
            copy = Path(stack.enter_context(made)) / "model.om"
            shutil.copyfile(om, copy)
            copy.chmod(0o640)
        except OSError as error:
            raise RunError(
                f"cannot copy {om} below {scratch}: {error}; free space there, or set another"
                " cache_dir in site.toml"
            ) from error
        yield copy
