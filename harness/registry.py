"""The lists of models, devices and runtimes' tables: the files in their folders are the only source."""

import functools
import importlib
import importlib.util
import itertools
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness.devices
import harness.models
from harness.device import Arithmetic, Device, DeviceSpec
from harness.errors import InputError
from harness.precision import PRECISIONS, Precision
from harness.spec import Cell, ModelSpec

if TYPE_CHECKING:
    from harness.host.site import Site, SiteTable


def model_names() -> tuple[str, ...]:
    """The names of the files in ``harness/models``."""
    return _names_in(*harness.models.__path__)


def device_names() -> tuple[str, ...]:
    """The names of the files in ``harness/devices``."""
    return _names_in(*harness.devices.__path__)


def model_spec(name: str) -> ModelSpec:
    """Return the SPEC of a model.

    Raises:
        InputError: no model has that name; the message lists those that exist.
    """
    spec: ModelSpec = _spec("model", name, model_names())
    require_inputs(spec)
    return spec


def device_spec(name: str) -> DeviceSpec:
    """Return the SPEC of a device, without importing the software that drives it.

    Raises:
        InputError: no device has that name; the message lists those that exist.
    """
    spec: DeviceSpec = _spec("device", name, device_names())
    return spec


def device_specs() -> dict[str, DeviceSpec]:
    """Return the SPEC of every device by name, in the order of tables and reports."""
    specs = sorted(map(device_spec, device_names()), key=lambda spec: (spec.column, spec.name))
    return {spec.name: spec for spec in specs}


def device_help() -> str:
    """Return the help text of an option that takes a device."""
    return f"{', '.join(device_specs())}; default: %(default)s"


def device(name: str) -> Device:
    """Return the device of that name, without probing it.

    Raises:
        InputError: no device has that name; the message lists those that exist.
    """
    device_spec(name)
    found: Device = _definition(f"harness.devices.{name}", "device")()
    return found


def load_site(path: Path | None, environ: Mapping[str, str]) -> "Site":
    """Return the site, with the tables of the runtimes that its file has.

    Raises:
        SiteError: as ``harness.host.site.load_site``.
    """
    # Not at the top: what judges stored runs needs no site.
    from harness.host import site

    return site.load_site(path, environ, site_tables)


def precision_of(spec: ModelSpec, cell: Cell) -> Precision | None:
    """Return the precision that a cell names; None where it leaves it to the compiler.

    Raises:
        InputError: the model does not have it, or not at this batch size.
    """
    if not cell.precision:
        return None
    known = {**PRECISIONS, **spec.precisions}
    if cell.precision not in known:
        raise InputError(
            f"{spec.name} has no precision {cell.precision}; there are: {', '.join(known)}"
        )
    found = known[cell.precision]
    gears = ", ".join(map(str, found.gears))
    if gears and spec.frozen_batch is not None:
        raise InputError(
            f"{spec.name} supports bs{spec.frozen_batch} only, so {cell.precision} cannot give it the "
            f"gears {gears}"
        )
    if gears and cell.batch not in found.gears:
        raise InputError(
            f"{cell.precision} of {spec.name} has no gear {cell.batch}; there are: {gears}"
        )
    return found


def arithmetic_of(spec: ModelSpec, cell: Cell, device: DeviceSpec) -> Arithmetic:
    """Return what a cell computes in, and so is judged by: in mode origin the dtypes of the file.

    Raises:
        InputError: as ``precision_of``.
    """
    named = precision_of(spec, cell)
    is_origin = named is not None and named.mode == "origin"
    return "fp32" if is_origin else device.precision


def site_tables() -> "dict[str, type[SiteTable]]":
    """Return what runtimes declare as their table of site.toml: ``Table`` in ``site.py`` of their folder."""
    # Only a file that has such a table needs a runtime.
    from harness import runtimes

    modules = {name: f"{runtimes.__name__}.{name}.site" for name in _names_in(*runtimes.__path__)}
    found = {name: module for name, module in modules.items() if importlib.util.find_spec(module)}
    return {name: _definition(module, "Table") for name, module in found.items()}


def look_again() -> None:
    """Look at the folders anew: a file was written or removed."""
    _names_in.cache_clear()
    importlib.invalidate_caches()


def require_inputs(spec: ModelSpec) -> None:
    """Fail if the inputs of a model cannot be told apart, or nothing says what they take.

    Raises:
        InputError: two have one name, or frames are missing or not in a clip.
    """
    names, frames = [one.name for one in spec.inputs], range(spec.protocol.frame_count)
    text, taken = f"{spec.name} takes {', '.join(names)}", itertools.chain(*spec.frames)
    if len(set(names)) < len(names):
        raise InputError(f"{text}: two inputs have one name; rename one of them in the file")
    if len(names) > 1 and (len(spec.frames) != len(names) or not set(taken) <= set(frames)):
        raise InputError(
            f"{text}: say in `frames` of its SPEC which frames of a clip each of them takes, from 0 to "
            f"{frames[-1]}"
        )


@functools.cache
def _names_in(*path: str) -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(path)))


def _definition(module: str, attribute: str) -> Any:
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        path = module.replace(".", "/")
        raise InputError(
            f"{path}.py cannot be used because it must define {attribute}: {error}"
        ) from error


def _spec(kind: str, name: str, known: tuple[str, ...]) -> Any:
    if name not in known:
        raise InputError(f"no {kind} is called {name!r}; there are: {', '.join(known)}")
    spec = _definition(f"harness.{kind}s.{name}", "SPEC")
    if spec.name != name:
        raise InputError(f"harness/{kind}s/{name}.py defines SPEC.name {spec.name!r}: rename one")
    return spec
