"""Ascend 310P: the chip of the Atlas 300I Pro, 300V Pro and 300I Duo (two to a card)."""

from harness.device import Device, DeviceSpec

SPEC = DeviceSpec(
    name="ascend310p",
    description="an Ascend 310P, through atc and ais_bench",
    runtime="CANN",
    version_fact="cann",
    precision="fp16",
    label="310P",
    column=2,
    chip_names=("310P1", "310P3", "310P5", "310P7"),
    compared_with=("ascend310", "cuda"),
    scope="chip",
    facts=("chip", "driver", "firmware", "cann"),
)


def device() -> Device:
    """Return the device."""
    from harness.runtimes.ascend.device import CannDevice

    return CannDevice(SPEC)
