"""Ascend 310: the chip of the Atlas 300I (four to a card)."""

from harness.device import Device, DeviceSpec

SPEC = DeviceSpec(
    name="ascend310",
    description="an Ascend 310, through atc and ais_bench",
    runtime="CANN",
    version_fact="cann",
    precision="fp16",
    label="310",
    column=1,
    chip_names=("310",),
    scope="chip",
    facts=("chip", "driver", "firmware", "cann"),
)


def device() -> Device:
    """Return the device."""
    from harness.runtimes.ascend.device import CannDevice

    return CannDevice(SPEC)
