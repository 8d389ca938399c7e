"""ONNX Runtime: sessions, the optimised model that it saves, and the devices that run it."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.device import DeviceSpec, DeviceState, LoopSettings, LoopTimes, Presence
from harness.errors import BuildError, RunError, first_line
from harness.measure.timing import measure_session
from harness.spec import DeviceModel, Feed, OnnxModel

if TYPE_CHECKING:
    import onnxruntime

Level = Literal["none", "all"]
ERRORS_ONLY = 3
CPU_PROVIDER = "CPUExecutionProvider"


def ort_session(
    path: Path | bytes,
    providers: tuple[str, ...] = (CPU_PROVIDER,),
    level: Level = "all",
    optimized: Path | None = None,
) -> "onnxruntime.InferenceSession":
    """Load an ONNX file.

    Args:
        path: the file, or its content.
        providers: execution providers in order of preference.
        level: of graph optimisation.
        optimized: where to save the optimised graph.

    Raises:
        onnxruntime's own exceptions, which callers map to their stage.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    # Its threads would go on spinning after a query, and slow down whatever is timed in turns.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        if level == "all"
        else onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    # Left on, a provider that fails, even in the middle of a run, is replaced by the CPU with no
    # more than a line on standard output.
    return onnxruntime.InferenceSession(
        path if isinstance(path, bytes) else str(path),
        options,
        providers=list(providers),
        enable_fallback=False,
    )


def ort_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: its own exceptions, which share no base, and two built-in ones."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if _is_exception(kind)]
    return (*own, RuntimeError, ValueError)


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _smallest_graph() -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "smallest", [x], [y])
    opset = helper.make_opsetid("", 11)
    content: bytes = helper.make_model(
        graph, opset_imports=[opset], ir_version=8
    ).SerializeToString()
    return content


@dataclasses.dataclass(frozen=True)
class OrtDevice:
    """A device that ONNX Runtime drives through one execution provider."""

    spec: DeviceSpec
    provider: str
    memory: Literal["cpu", "cuda"] = "cpu"
    install_hint: str = "install onnxruntime"
    hardware: Callable[[], Mapping[str, str]] = dict

    def probe(self) -> DeviceState:
        """Ask ONNX Runtime for the provider, and let one that needs hardware load a graph."""
        absence = self._absence()
        if absence:
            return DeviceState(Presence.ABSENT, f"{absence}; {self.install_hint}")
        import onnxruntime

        facts = {"onnxruntime": onnxruntime.__version__, "provider": self.provider}
        defect = self._defect()
        if defect:
            return DeviceState(Presence.BROKEN, f"{defect}; {self.install_hint}", facts)
        facts |= self.hardware()
        return DeviceState(
            Presence.PRESENT,
            self.provider,
            facts,
            (self.spec.name,),
            emulated="emulated" in facts,
        )

    def _absence(self) -> str:
        try:
            import onnxruntime
        except ImportError as error:
            return f"onnxruntime: {error}"
        available = onnxruntime.get_available_providers()
        if self.provider in available:
            return ""
        version = onnxruntime.__version__
        return f"onnxruntime {version} offers {', '.join(available)} and not {self.provider}"

    def _defect(self) -> str:
        # A provider is offered wherever it was compiled in; whether its libraries and its hardware
        # are there shows when it is to load something.
        if self.provider == CPU_PROVIDER:
            return ""
        try:
            used = ort_session(_smallest_graph(), self._providers()).get_providers()
        except ort_errors() as error:
            return f"{self.provider} is offered and fails: {first_line(error)}"
        if self.provider in used:
            return ""
        return f"{self.provider} is offered and cannot be used: a graph went to {', '.join(used)}"

    def build(self, onnx: OnnxModel, target: Path) -> Mapping[str, Any]:
        """Save the graph as ONNX Runtime optimises it for this machine."""
        self._session(onnx.artifact.path, BuildError, optimized=target)
        return {"provider": self.provider}

    def open(self, model: DeviceModel) -> "OrtSession":
        """Load an optimised graph as it is."""
        return OrtSession(self._session(model.artifact.path, RunError, level="none"), self.memory)

    def _session(
        self,
        path: Path,
        failure: type[BuildError | RunError],
        level: Level = "all",
        optimized: Path | None = None,
    ) -> "onnxruntime.InferenceSession":
        absence = self._absence()
        if absence:
            raise failure(f"{self.spec.name} is absent: {absence}; {self.install_hint}")
        try:
            session = ort_session(path, self._providers(), level, optimized)
        except ort_errors() as error:
            raise failure(
                f"ONNX Runtime cannot load {path} on {self.spec.name}: {first_line(error)}"
            ) from error
        self._refuse_fallback(session, failure)
        return session

    def _providers(self) -> tuple[str, ...]:
        # Some operators of a graph (shapes) may stay on the CPU; the provider itself must be there.
        return tuple(dict.fromkeys((self.provider, CPU_PROVIDER)))

    def _refuse_fallback(
        self, session: "onnxruntime.InferenceSession", failure: type[BuildError | RunError]
    ) -> None:
        used = session.get_providers()
        if self.provider not in used:
            raise failure(
                f"ONNX Runtime fell back to {', '.join(used)} instead of {self.provider}: "
                f"{self.install_hint}; a run on another device is no evidence for {self.spec.name}"
            )


class OrtSession:
    """A loaded ONNX graph; implements Session."""

    def __init__(
        self,
        session: "onnxruntime.InferenceSession",
        memory: Literal["cpu", "cuda"] = "cpu",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        # Asking for them costs as much as a small layer.
        self._inputs = {value.name for value in session.get_inputs()}
        self._outputs = [value.name for value in session.get_outputs()]
        self._memory = memory
        self._clock = clock

    def run(self, feed: Feed) -> Feed:
        """Run one batch."""
        session = self._open_session(feed)
        try:
            values = session.run(self._outputs, dict(feed))
        except ort_errors() as error:
            raise RunError(f"ONNX Runtime could not run the model: {error}") from error
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

        try:
            device_io_ms = measure_session(query, settings, self._clock)
        except ort_errors() as error:
            raise RunError(f"ONNX Runtime could not run the model: {error}") from error
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
            raise RunError(f"the model takes {sorted(self._inputs)}, and was fed {sorted(feed)}")
        return self._session
