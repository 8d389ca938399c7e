"""Ascend 310: the chip of the Atlas 300I (four to a card)."""

from harness.device import DeviceSpec
from harness.runtimes.ascend.device import CannDevice
from harness.runtimes.ascend.operators import ATC_OPS

DEVICE = CannDevice(
    DeviceSpec(
        name="ascend310",
        runtime="cann",
        description="Ascend 310, through atc and ais_bench",
        precision="fp16",
        allowed_ops=ATC_OPS,
        soc_names=("310",),
    )
)
