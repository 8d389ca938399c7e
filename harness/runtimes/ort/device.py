"""ONNX Runtime as a device: one execution provider, and the graphs that it optimises."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.device import HOST, Device, DeviceSpec, DeviceState, Presence
from harness.errors import BuildError, RunError, first_line
from harness.host.patience import patiently
from harness.host.provenance import code_digest
from harness.host.vitals import resident_mb
from harness.runtimes.ort import session as loaded
from harness.runtimes.ort.open_graph import OnnxInside, onnx_inside
from harness.runtimes.ort.operators import OPSET11_OPS
from harness.runtimes.ort.session import (
    CPU_PROVIDER,
    ON_CPU,
    Level,
    OrtSession,
    Providers,
    ort_errors,
    ort_session,
)
from harness.spec import DeviceModel, Feed, OnnxModel
from harness.timings import Start, Vitals

if TYPE_CHECKING:
    import onnxruntime


@dataclasses.dataclass(frozen=True)
class OrtDevice(Device):
    """A device that ONNX Runtime drives through one execution provider.

    ``options`` are those of the provider. ``level`` is how far its build optimises the graph, which
    then runs as it is. ``signs`` tells how the hardware is now.
    """

    spec: DeviceSpec
    provider: str
    memory: Literal["cpu", "cuda"] = "cpu"
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    install_hint: str = "install onnxruntime"
    hardware: Callable[[], Mapping[str, str]] = dict
    level: Level = "all"
    signs: Callable[[], Vitals] = Vitals

    def probe(self) -> DeviceState:
        """Ask ONNX Runtime for the provider, and make one that needs hardware load a graph."""
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
            (HOST if self.spec.is_host else self.spec.name,),
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
        return f"onnxruntime {version} offers {', '.join(available)} but not {self.provider}"

    def _defect(self) -> str:
        # A provider is offered if it was compiled in. Whether its libraries and its hardware
        # are present shows only when it loads a graph.
        if self.provider == CPU_PROVIDER:
            return ""
        try:
            used = ort_session(_smallest_graph(), self._providers()).get_providers()
        except ort_errors() as error:
            return f"{self.provider} is offered but fails: {first_line(error)}"
        if self.provider in used:
            return ""
        return f"{self.provider} is offered but cannot be used: a graph ran on {', '.join(used)}"

    def takes(self, op_type: str) -> bool:
        """Whether the operator is static and deterministic."""
        return op_type in OPSET11_OPS

    def shaped_by(self, onnx: OnnxModel) -> Mapping[str, object]:
        """Return what determines the optimised graph: how far it is optimised, options, and our code."""
        return {
            "level": self.level,
            "options": dict(self.options),
            "code": code_digest(sys.modules[__name__], loaded),
        }

    def build(self, onnx: OnnxModel, target: Path) -> Mapping[str, Any]:
        """Save the graph as ONNX Runtime optimises it for this machine."""
        path = onnx.artifact.path
        with patiently(f"optimising {path}", failure=BuildError) as call:
            call(self._session, path, BuildError, self.level, target)
        return {"provider": self.provider}

    def open(self, model: DeviceModel, threads: int | None = None) -> "OrtSession":
        """Load an optimised graph as it is."""
        path = model.artifact.path
        return OrtSession(self._session(path, RunError, threads=threads), path, self.memory)

    def start(self, model: DeviceModel, feed: Feed, prepare: Callable[[Path], object]) -> Start:
        """Load a graph and run it once; importing ONNX Runtime does not count."""
        self._absence()
        return super().start(model, feed, prepare)

    def vitals(self) -> Vitals:
        """Return how the hardware is, and the memory of this process, which holds the graph."""
        return dataclasses.replace(self.signs(), host_mb=resident_mb())

    def inside(
        self, model: DeviceModel, feed: Feed
    ) -> contextlib.AbstractContextManager[OnnxInside]:
        """Show the tensors that the optimised graph still has, computed by the processor."""
        return onnx_inside(model.onnx.artifact.path, model.artifact.path, feed)

    def _session(
        self,
        path: Path,
        failure: type[BuildError | RunError],
        level: Level = "none",
        optimized: Path | None = None,
        threads: int | None = None,
    ) -> "onnxruntime.InferenceSession":
        absence = self._absence()
        if absence:
            raise failure(f"{self.spec.name} is absent: {absence}; {self.install_hint}")
        try:
            session = ort_session(path, self._providers(), level, optimized, threads)
        except ort_errors() as error:
            raise failure(
                f"ONNX Runtime cannot load {path} on {self.spec.name}: {first_line(error)}"
            ) from error
        used = session.get_providers()
        if self.provider not in used:
            raise failure(
                f"ONNX Runtime fell back to {', '.join(used)} instead of {self.provider}: "
                f"{self.install_hint}; a run elsewhere proves nothing about {self.spec.name}"
            )
        return session

    def _providers(self) -> Providers:
        if self.provider == CPU_PROVIDER:
            return ON_CPU
        # Some operators (shapes) may stay on the CPU; the provider itself must be in use.
        return {self.provider: self.options, **ON_CPU}


def _smallest_graph() -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "smallest", [x], [y])
    opset = helper.make_opsetid("", 11)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
