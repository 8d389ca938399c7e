"""Ascend 310P: the chip of the Atlas 300I Pro, 300V Pro and 300I Duo (two to a card)."""

from harness.device import DeviceSpec
from harness.runtimes.ascend.device import CannDevice
from harness.runtimes.ascend.operators import ATC_OPS

DEVICE = CannDevice(
    DeviceSpec(
        name="ascend310p",
        runtime="cann",
        description="Ascend 310P, through atc and ais_bench",
        precision="fp16",
        allowed_ops=ATC_OPS,
        soc_names=("310P1", "310P3", "310P5", "310P7"),
    )
)
