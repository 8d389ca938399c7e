"""What the checks of a process share: files, models and devices, built once and kept."""

import contextlib
import copy
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness import registry
from harness.build.build import (
    WeightsFile,
    Workshop,
    device_model_from_onnx,
    onnx_from_source,
    simplified_from_onnx,
    weights_from_site,
)
from harness.build.input_check import InputCheck, check_known_clips, check_sample
from harness.clips import Clip, ClipSet
from harness.data.datasets import clip_set_from_site, motion8, require_classes
from harness.device import HOST, Device, DeviceState, Presence
from harness.errors import (
    DeviceAbsent,
    DeviceBroken,
    DeviceError,
    MissingInput,
    RunError,
)
from harness.host.artifacts import ArtifactStore
from harness.host.environment import rounding_facts
from harness.host.locks import OnWait, exclusive, free_one, shared, try_exclusive, wait_notice
from harness.host.patience import patiently
from harness.host.progress import Progress
from harness.host.site import Site
from harness.measure.passport import Passport
from harness.spec import Cell, DeviceModel, ModelSpec, OnnxModel

FindDevice = Callable[[str], Device]
FindModel = Callable[[str], ModelSpec]


class Workbench:
    """Finds and builds what a cell needs, and does each slow step once."""

    def __init__(
        self,
        site: Site,
        log_dir: Path,
        progress: Progress,
        find_model: FindModel = registry.model_spec,
        find_device: FindDevice = registry.device,
    ) -> None:
        self.site = site
        self.progress = progress
        self.workshop = Workshop(ArtifactStore(site.cache_dir, site.trust_cache), log_dir, progress)
        self.model = find_model
        self._find_device = find_device
        self.state = functools.cache(self._state)
        self.weights = functools.cache(self._weights)
        self.clip_set = functools.cache(self._clip_set)
        self.input_check = functools.cache(self._input_check)
        self.sample_check = functools.cache(self._sample_check)

    def present_device(self, name: str) -> Device:
        """Return a device that is usable now.

        Raises:
            DeviceAbsent: it is not on this machine.
            DeviceBroken: it is on this machine but does not work.
        """
        state = self.state(name)
        if state.presence is Presence.ABSENT:
            raise DeviceAbsent(f"{name} is not on this machine: {state.detail}")
        if state.presence is Presence.BROKEN:
            raise DeviceBroken(f"{name} does not work: {state.detail}")
        if not state.unit_ids:
            raise DeviceBroken(
                f"{name} was found ({state.detail}), but site.toml allows none of its units: check "
                "device_ids"
            )
        return self.device(name)

    def spec(self, cell: Cell) -> ModelSpec:
        """Return the declaration of a cell's model, with gears where the cell is one of several.

        Raises:
            InputError: the model does not have the cell's precision.
        """
        spec = self.model(cell.model)
        precision = registry.precision_of(spec, cell)
        return dataclasses.replace(spec, gears=precision.gears if precision else ())

    def exported(self, cell: Cell) -> OnnxModel:
        """Return the exported model of a cell."""
        return onnx_from_source(
            self.spec(cell), cell.batch, self.weights(cell.model), self.workshop
        )

    def simplified(self, cell: Cell) -> OnnxModel:
        """Return the simplified model of a cell."""
        return simplified_from_onnx(self.exported(cell), self.workshop)

    def device_model(self, cell: Cell) -> DeviceModel:
        """Return the device model of a cell."""
        device = self.present_device(cell.device)
        if precision := registry.precision_of(self.model(cell.model), cell):
            device = device.in_precision(precision, cell.precision)
        facts = {**rounding_facts(), **self.state(cell.device).lasting_facts}
        return device_model_from_onnx(self.simplified(cell), device, facts, self.workshop)

    def only_reading(self) -> "Workbench":
        """Return a workbench that raises ArtifactError in place of building what is not in the store."""
        other = copy.copy(self)
        store = self.workshop.store.only_reading()
        other.workshop = dataclasses.replace(self.workshop, store=store)
        return other

    def with_clips(self, clip_set: ClipSet) -> "Workbench":
        """Return a workbench on which every model is judged on clips that another host has."""
        other = copy.copy(self)
        other.clip_set = functools.cache(lambda name: clip_set)
        return other

    def passport(self, cell: Cell) -> Passport | None:
        """Return what a cell's device model, which gets built, says of itself; None where it is silent.

        Raises:
            HarnessError: it cannot be built or read.
        """
        found = self.device(cell.device).passport(self.device_model(cell))
        return None if found is None else Passport.model_validate_json(json.dumps(dict(found)))

    def device(self, name: str) -> Device:
        """Return a device with the tools that site.toml sets, without probing it."""
        return self._find_device(name).at(self.site)

    @contextlib.contextmanager
    def chip(self, name: str, *, is_alone: bool = False) -> Iterator[Device]:
        """Hold one chip of a device during the block; wait if none is free.

        Only a timing, ``is_alone``, holds the host's processor; other checks share it.

        Raises:
            DeviceError: the device is absent or broken, or the lock cannot be created.
        """
        device, units = self.present_device(name), self.state(name).unit_ids
        if device.spec.is_host and not is_alone:
            yield device
            return
        unit = free_one(units, self.site.lock_dir)
        with exclusive(unit, self.site.lock_dir, self.on_wait(unit)):
            yield device.on(unit)

    @contextlib.contextmanager
    def beside_others(self) -> Iterator[None]:
        """Share the host's processor with other checks, but not while a timing holds it.

        Raises:
            DeviceError: the lock cannot be created.
        """
        with shared(HOST, self.site.lock_dir, self.on_wait(HOST)):
            yield

    @contextlib.contextmanager
    def chips(self, name: str) -> Iterator[Mapping[str, Device]]:
        """Hold every free chip of a device, by unit id; if none is free, wait for one.

        Raises:
            DeviceError: the device is absent or broken, or a lock cannot be created.
        """
        device, units = self.present_device(name), self.state(name).unit_ids
        with contextlib.ExitStack() as stack:
            if device.spec.is_host:
                free = list(units)
            else:
                held = {unit: try_exclusive(unit, self.site.lock_dir) for unit in units}
                free = [unit for unit, lock in held.items() if stack.enter_context(lock)]
            if not free:
                free = [free_one(units, self.site.lock_dir)]
                stack.enter_context(exclusive(free[0], self.site.lock_dir, self.on_wait(free[0])))
            yield {unit: device.on(unit) for unit in free}

    def clips_at_hand(self, model: str) -> tuple[ClipSet, Path]:
        """Return the clips of a model, or else motion8's, and the folder of decoded clips."""
        root = self.site.cache_dir / "crops"
        try:
            return self.clip_set(model), root
        except MissingInput:
            return motion8(), root

    def on_wait(self, name: str) -> OnWait:
        """Return a callback that prints who holds the lock that this run waits for."""
        return wait_notice(name, self.progress.say)

    def _state(self, name: str) -> DeviceState:
        try:
            with patiently() as call:
                return call(self.device(name).probe)
        except DeviceAbsent as error:
            return DeviceState(Presence.ABSENT, str(error))
        except (DeviceError, RunError) as error:
            return DeviceState(Presence.BROKEN, str(error))

    def _weights(self, name: str) -> WeightsFile:
        return weights_from_site(self.model(name), self.site)

    def _input_check(self, name: str, wanted: str) -> InputCheck:
        return check_known_clips(self.model(name), wanted, self.workshop)

    def _sample_check(self, name: str, clips: tuple[Clip, ...]) -> InputCheck:
        return check_sample(self.model(name), self.clip_set(name), clips, self.workshop)

    def _clip_set(self, name: str) -> ClipSet:
        spec = self.model(name)
        clip_set = clip_set_from_site(spec.dataset, self.site)
        require_classes(clip_set, spec)
        return clip_set
