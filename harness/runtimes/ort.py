"""ONNX Runtime: sessions, the optimised model that it saves, and the devices that run it."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import BuildError, RunError
from harness.spec import (
    DeviceModel,
    DeviceSpec,
    DeviceState,
    Feed,
    LoopSettings,
    LoopTimes,
    OnnxModel,
    Presence,
)
from harness.timing import measure_session

if TYPE_CHECKING:
    import onnxruntime

Level = Literal["none", "all"]
ERRORS_ONLY = 3


def ort_session(
    path: Path,
    providers: tuple[str, ...] = ("CPUExecutionProvider",),
    level: Level = "all",
    optimized: Path | None = None,
) -> "onnxruntime.InferenceSession":
    """Load an ONNX file.

    Args:
        path: the file.
        providers: execution providers in order of preference.
        level: of graph optimisation.
        optimized: where to save the optimised graph.

    Raises:
        onnxruntime's own exceptions, which callers map to their stage.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        if level == "all"
        else onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))


@dataclasses.dataclass(frozen=True)
class OrtDevice:
    """A device that ONNX Runtime drives through one execution provider."""

    spec: DeviceSpec
    provider: str
    memory: Literal["cpu", "cuda"] = "cpu"
    install_hint: str = "install onnxruntime"

    def probe(self) -> DeviceState:
        """Ask ONNX Runtime for the provider."""
        try:
            import onnxruntime
        except ImportError as error:
            return DeviceState(Presence.ABSENT, f"onnxruntime: {error}; {self.install_hint}")
        available = onnxruntime.get_available_providers()
        if self.provider not in available:
            return DeviceState(
                Presence.ABSENT,
                f"onnxruntime {onnxruntime.__version__} offers {', '.join(available)} and not "
                f"{self.provider}; {self.install_hint}",
            )
        facts = {"onnxruntime": onnxruntime.__version__, "provider": self.provider}
        return DeviceState(Presence.PRESENT, f"{self.provider}", facts, (self.spec.name,))

    def build(self, onnx: OnnxModel, target: Path) -> Mapping[str, Any]:
        """Save the graph as ONNX Runtime optimises it for this machine."""
        from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

        try:
            session = ort_session(onnx.artifact.path, self._providers(), optimized=target)
        except (ort_errors.Fail, ort_errors.InvalidGraph, ort_errors.NotImplemented) as error:
            raise BuildError(
                f"ONNX Runtime refused {onnx.artifact.path} for {self.spec.name}: {error}"
            ) from error
        self._refuse_fallback(session, BuildError)
        return {"provider": self.provider}

    def open(self, model: DeviceModel) -> "OrtSession":
        """Load an optimised graph as it is."""
        from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

        try:
            session = ort_session(model.artifact.path, self._providers(), level="none")
        except (ort_errors.Fail, ort_errors.InvalidGraph, ort_errors.InvalidProtobuf) as error:
            raise RunError(
                f"ONNX Runtime cannot load {model.artifact.path} on {self.spec.name}: {error}"
            ) from error
        self._refuse_fallback(session, RunError)
        return OrtSession(session, self.memory)

    def _providers(self) -> tuple[str, ...]:
        # Some operators of a graph (shapes) may stay on the CPU; the provider itself must be there.
        return tuple(dict.fromkeys((self.provider, "CPUExecutionProvider")))

    def _refuse_fallback(
        self, session: "onnxruntime.InferenceSession", error: type[BuildError | RunError]
    ) -> None:
        used = session.get_providers()
        if self.provider not in used:
            raise error(
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
        self._memory = memory
        self._clock = clock

    def run(self, feed: Feed) -> Feed:
        """Run one batch."""
        from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

        session = self._open_session()
        try:
            values = session.run(None, dict(feed))
        except (ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.RuntimeException) as error:
            raise RunError(f"ONNX Runtime could not run the model: {error}") from error
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, values, strict=True))

    def loop(self, feed: Feed, settings: LoopSettings) -> LoopTimes:
        """Time copies and compute of the same batch separately."""
        session = self._open_session()
        device_ms: list[float] = []

        def query() -> None:
            nonlocal output
            binding = session.io_binding()
            for name, value in feed.items():
                binding.bind_cpu_input(name, value)
            for value in session.get_outputs():
                binding.bind_output(value.name, self._memory)
            binding.synchronize_inputs()
            start = self._clock()
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            device_ms.append(1000.0 * (self._clock() - start))
            output = binding.copy_outputs_to_cpu()

        output: list[Any] = []
        device_io_ms = measure_session(query, settings, self._clock)
        names = [value.name for value in session.get_outputs()]
        return LoopTimes(
            device_ms=tuple(device_ms[-len(device_io_ms) :]),
            device_io_ms=device_io_ms,
            output=dict(zip(names, output, strict=True)),
        )

    def close(self) -> None:
        """Free the graph."""
        self._session = None

    def _open_session(self) -> "onnxruntime.InferenceSession":
        if self._session is None:
            raise RunError("the session is closed: open the device model again")
        return self._session
