"""CANN as a device: probe with npu-smi, build with atc, run with ais_bench."""

import dataclasses

from harness.runtimes.cann_env import CannTools
from harness.runtimes.cann_probe import probe
from harness.spec import DeviceSpec, DeviceState


@dataclasses.dataclass
class CannDevice:
    """One kind of Ascend chip, with the tools that reach it."""

    spec: DeviceSpec
    tools: CannTools = dataclasses.field(default_factory=CannTools)

    def probe(self) -> DeviceState:
        """Look for the device; never raises for one that is absent or broken."""
        return probe(self.spec, self.tools)
