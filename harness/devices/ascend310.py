"""Ascend 310: the chip of the Atlas 300I (four to a card)."""

from harness.runtimes.atc_ops import ATC_OPS
from harness.runtimes.cann import CannDevice
from harness.spec import DeviceSpec

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
