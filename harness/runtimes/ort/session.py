"""ONNX Runtime on one ONNX file: a loaded graph, its errors, and a Session on it."""

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.device import Session
from harness.errors import RunError, first_line
from harness.measure.timing import measure_session
from harness.spec import Feed
from harness.timings import LoopSettings, LoopTimes

if TYPE_CHECKING:
    import onnxruntime

Level = Literal["none", "basic", "extended", "all"]
LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
ERRORS_ONLY = 3
CPU_PROVIDER = "CPUExecutionProvider"
# Execution providers in order of preference, with their options.
Providers = Mapping[str, Mapping[str, str]]
ON_CPU: Providers = {CPU_PROVIDER: {}}


def ort_session(
    path: Path | bytes,
    providers: Providers = ON_CPU,
    level: Level = "all",
    optimized: Path | None = None,
    threads: int | None = None,
) -> "onnxruntime.InferenceSession":
    """Load an ONNX file.

    Args:
        path: the file, or its content.
        providers: execution providers in order of preference, with their options.
        level: graph optimisation level.
        optimized: where to save the optimised graph.
        threads: number of compute threads; by default one per processor.

    Raises:
        onnxruntime's own exceptions, which callers map to errors of their stage.
    """
    import onnxruntime

    if providers.keys() != ON_CPU.keys():
        _load_cuda()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    # Its threads would keep spinning after a query and slow down whatever is timed in turn with it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    known = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = getattr(known, LEVELS[level])
    if threads is not None:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    # With fallback, the CPU replaces a provider that fails, even in the middle of a run, with only
    # a line on standard output.
    return onnxruntime.InferenceSession(
        path if isinstance(path, bytes) else str(path),
        options,
        providers=list(providers.items()),
        enable_fallback=False,
    )


def _load_cuda() -> None:
    """Load CUDA's and cuDNN's libraries from the packages that pip installs beside onnxruntime-gpu.

    The provider finds only those that are in memory or where the system keeps its libraries.
    """
    import onnxruntime

    # It prints which ones are missing. Those that matter the provider names in its error.
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()


def unoptimised_session(
    path: Path, threads: int | None = None, named: Path | None = None
) -> "onnxruntime.InferenceSession":
    """Load an ONNX file on the processor, to run the graph as it is.

    ``named`` is the file that an error names, if this one is a copy of it.

    Raises:
        RunError: ONNX Runtime cannot load it.
    """
    try:
        return ort_session(path, level="none", threads=threads)
    except ort_errors() as error:
        raise RunError(f"ONNX Runtime cannot load {named or path}: {first_line(error)}") from error


@contextlib.contextmanager
def running(path: Path) -> Iterator[None]:
    """Run the graph of a file during the block.

    Raises:
        RunError: ONNX Runtime cannot run it.
    """
    try:
        yield
    except ort_errors() as error:
        raise RunError(f"ONNX Runtime cannot run {path}: {first_line(error)}") from error


def ort_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions: its own, which share no base class, and two built-in ones."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [kind for kind in vars(state).values() if isinstance(kind, type)]
    own = [kind for kind in kinds if issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError)


class OrtSession(Session):
    """The loaded ONNX graph of the file ``path``, which its errors name."""

    def __init__(
        self,
        session: "onnxruntime.InferenceSession",
        path: Path,
        memory: Literal["cpu", "cuda"] = "cpu",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._path = path
        # Looking them up costs as much as a small layer.
        self._inputs = {value.name for value in session.get_inputs()}
        self._outputs = [value.name for value in session.get_outputs()]
        self._memory = memory
        self._clock = clock

    def run(self, feed: Feed) -> Feed:
        """Run one batch."""
        session = self._open_session(feed)
        with running(self._path):
            values = session.run(self._outputs, dict(feed))
        return dict(zip(self._outputs, values, strict=True))

    def loop(self, feed: Feed, settings: LoopSettings) -> LoopTimes:
        """Time copies and compute of the same batch separately."""
        session = self._open_session(feed)
        device_ms: list[float] = []
        outputs: list[Any] = []

        def query() -> None:
            binding = session.io_binding()
            for name, value in feed.items():
                binding.bind_cpu_input(name, value)
            for name in self._outputs:
                binding.bind_output(name, self._memory)
            binding.synchronize_inputs()
            start = self._clock()
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            device_ms.append(1000.0 * (self._clock() - start))
            outputs[:] = binding.copy_outputs_to_cpu()

        with running(self._path):
            device_io_ms = measure_session(query, settings, self._clock)
        return LoopTimes(
            device_ms=tuple(device_ms[-len(device_io_ms) :]),
            device_io_ms=device_io_ms,
            output=dict(zip(self._outputs, outputs, strict=True)),
        )

    def close(self) -> None:
        """Free the graph."""
        self._session = None

    def _open_session(self, feed: Feed) -> "onnxruntime.InferenceSession":
        if self._session is None:
            raise RunError("the session is closed: open the device model again")
        if feed.keys() != self._inputs:
            raise RunError(f"the model takes {sorted(self._inputs)}, but was fed {sorted(feed)}")
        return self._session
