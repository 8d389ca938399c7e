"""CANN as a device: probe with npu-smi, build with atc, run with ais_bench."""

import contextlib
import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.device import Device, DeviceSpec, DeviceState, ToolState
from harness.errors import RunError
from harness.host.provenance import code_digest
from harness.host.site import Site
from harness.inside import Operator
from harness.precision import Precision
from harness.runtimes.ascend import atc, atc_options, passport, precision
from harness.runtimes.ascend.ais_bench import OmOnChip, found_ais_bench
from harness.runtimes.ascend.atc import built_om
from harness.runtimes.ascend.atc_options import version_from_text
from harness.runtimes.ascend.build_slots import Say
from harness.runtimes.ascend.doctor import tool_states
from harness.runtimes.ascend.environment import (
    CannTools,
    PinnedOm,
    cann_environment,
    versions_on_disk,
)
from harness.runtimes.ascend.foreign import accepted_om
from harness.runtimes.ascend.host_checks import host_checks
from harness.runtimes.ascend.om_graph import operators_of_om
from harness.runtimes.ascend.om_inside import OmInside, dumped, om_inside
from harness.runtimes.ascend.operators import ATC_OPS
from harness.runtimes.ascend.probe import Unit, npu_smi_from_tools, probe, unit_from_id
from harness.runtimes.ascend.session import CannSession, arrays_of_feed, private_copy
from harness.runtimes.ascend.site import tools_from_site
from harness.runtimes.ascend.start import started
from harness.runtimes.ascend.vitals import chip_vitals
from harness.spec import Cell, DeviceModel, Feed, OnnxModel
from harness.timings import Start, Vitals

_LOG = logging.getLogger(__name__)


def _log(text: str) -> None:
    _LOG.warning("%s", text)


@dataclasses.dataclass(frozen=True)
class CannDevice(Device):
    """One kind of Ascend chip, with the tools that drive it.

    Attributes:
        unit_id: the physical chip to use, or None for the least busy one.
        say: receives heartbeats of long builds and the reason for a wait.
        precision: of the models that atc builds; None: its own choice.
        precision_name: its name in the rows of the contract.
    """

    spec: DeviceSpec
    tools: CannTools = dataclasses.field(default_factory=CannTools)
    unit_id: str | None = None
    say: Say = _log
    precision: Precision | None = None
    precision_name: str = ""
    model_suffix = ".om"

    def at(self, site: Site) -> "CannDevice":
        """Return the same device with the tools that site.toml sets."""
        return dataclasses.replace(self, tools=tools_from_site(site))

    def on(self, unit_id: str) -> "CannDevice":
        """Return the same device, bound to one physical chip."""
        return dataclasses.replace(self, unit_id=unit_id)

    def look(self) -> str:
        """Return the chip's state as npu-smi reports it."""
        unit = self.unit()
        return f"{unit.id} {unit.text}"

    def toolchain(self) -> tuple[ToolState, ...]:
        """Look for driver, firmware, CANN, atc and ais_bench on this host."""
        return tool_states(self.tools)

    def host_checks(self) -> tuple[ToolState, ...]:
        """Check what docs/ascend.md asks of this host."""
        return host_checks(self.tools)

    def probe(self) -> DeviceState:
        """Look for the chips with npu-smi."""
        return probe(self.spec, self.tools)

    def takes(self, op_type: str) -> bool:
        """Whether atc supports the operator without losing precision."""
        return op_type in ATC_OPS

    def shaped_by(self, onnx: OnnxModel) -> Mapping[str, object]:
        """Return atc's options, the precision and the code that calls it."""
        told = {"precision": self.precision} if self.precision else {}
        code = code_digest(sys.modules[__name__], atc, atc_options, passport, precision)
        pinned = self._pinned(onnx)
        foreign = {} if pinned is None else {"om": pinned.sha256}
        return {"options": list(onnx.spec.atc), **told, **foreign, "code": code}

    def in_precision(self, precision: Precision, name: str = "") -> "CannDevice":
        """Return the same device, building in a precision."""
        return dataclasses.replace(self, precision=precision, precision_name=name)

    def build(self, onnx: OnnxModel, target: Path) -> Mapping[str, Any]:
        """Compile ``onnx`` with atc, or take the model that site.toml names.

        Raises:
            DeviceError: there is no chip to build for.
        """
        soc_version, pinned = self.unit().soc_version, self._pinned(onnx)
        if pinned is not None:
            mode = self.precision.mode if self.precision else "fp16"
            return accepted_om(pinned, onnx, soc_version, mode, target, self.tools)
        return built_om(onnx, soc_version, target, self.tools, self.say, self.precision)

    def open(self, model: DeviceModel, threads: int | None = None) -> CannSession:
        """Load a built model; the chip computes, so ``threads`` is ignored.

        Raises:
            DeviceError: there is no chip to load it on.
        """
        unit = self.unit()
        env = cann_environment(self.tools)
        _check_built_for(model, unit)
        _check_cann(model, versions_on_disk(self.tools, env).cann)
        bench = found_ais_bench(self.tools, env)
        return CannSession(model, unit, bench, self.tools, lambda: self.unit(unit.id))

    def operators(self, model: DeviceModel) -> tuple[Operator, ...]:
        """Return the operators of an offline model, as atc lists them."""
        env = cann_environment(self.tools)
        with private_copy(model.artifact.path, self.tools.scratch) as om:
            graph = operators_of_om(om, om.parent, self.tools, env)
        return om_inside(graph, {}, model.onnx.artifact.path).operators

    @contextlib.contextmanager
    def inside(self, model: DeviceModel, feed: Feed) -> Iterator[OmInside]:
        """Run the offline model once and show what each of its operators computed.

        Raises:
            DeviceError: there is no chip to run it on.
        """
        with self._on_chip(model) as (_, placed):
            yield dumped(placed, [feed[one.name] for one in model.onnx.inputs])

    def start(self, model: DeviceModel, feed: Feed, prepare: Callable[[Path], object]) -> Start:
        """Load an offline model and run it once, in the interpreter that has ais_bench.

        Raises:
            DeviceError: there is no chip to load it on.
        """
        arrays = arrays_of_feed(model.onnx, feed)
        with self._on_chip(model) as (unit, placed):
            prepare(placed.om)
            return started(placed, arrays, functools.partial(self.unit, unit.id))

    @contextlib.contextmanager
    def _on_chip(self, model: DeviceModel) -> Iterator[tuple[Unit, OmOnChip]]:
        """Yield a chip, and a private copy of an offline model to run on it."""
        unit = self.unit()
        bench = found_ais_bench(self.tools, cann_environment(self.tools))
        with private_copy(model.artifact.path, self.tools.scratch) as om:
            yield unit, OmOnChip(model.onnx, om, unit.device_number, bench, self.tools)

    def vitals(self) -> Vitals:
        """Return how the chip is now, as npu-smi shows it."""
        smi = npu_smi_from_tools(self.tools, cann_environment(self.tools))
        return chip_vitals(smi, self.spec.chip_names, self.unit_id)

    def passport(self, model: DeviceModel) -> Mapping[str, Any] | None:
        """Return what the offline model said of itself when it was built or accepted."""
        found = build_fact(model, "passport")
        return found if isinstance(found, Mapping) else None

    def _pinned(self, onnx: OnnxModel) -> PinnedOm | None:
        cell = Cell(onnx.spec.name, self.spec.name, onnx.batch, self.precision_name)
        # A trial of the precision search has no row in the contract, and so no name.
        is_of_row = bool(self.precision_name) == (self.precision is not None)
        return self.tools.models.get(cell.id) if is_of_row else None

    def unit(self, unit_id: str | None = None) -> Unit:
        """Look up one chip: the one named, the one bound, or the least busy one.

        Raises:
            DeviceError: it is absent or cannot be used.
        """
        return unit_from_id(self.spec, self.tools, unit_id or self.unit_id)


def build_fact(model: DeviceModel, name: str) -> object:
    """Return the fact ``name`` of the build, at the top of the provenance or one level below."""
    provenance = model.artifact.provenance
    nested = (value for value in provenance.values() if isinstance(value, Mapping))
    places = (provenance, *nested)
    return next((place[name] for place in places if name in place), None)


def _check_built_for(model: DeviceModel, unit: Unit) -> None:
    built_for = build_fact(model, "soc_version")
    if built_for is not None and built_for != unit.soc_version:
        raise RunError(
            f"{model.artifact.path.name} was built for {built_for}, and {unit.id} is"
            f" {unit.soc_version}: an offline model runs on one kind of chip only, so rebuild it"
        )


def _check_cann(model: DeviceModel, installed: str | None) -> None:
    built_with = build_fact(model, "cann")
    here = version_from_text(installed)
    if here and version_from_text(built_with) > here:
        raise RunError(
            f"{model.artifact.path.name} was built with CANN {built_with}, and this host runs CANN"
            f" {installed}: rebuild it here, or update CANN, driver and firmware"
        )
