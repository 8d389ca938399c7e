"""How one chip is while it works, as npu-smi tells."""

from collections.abc import Collection

from harness.errors import DeviceBroken
from harness.runtimes.ascend.npu_smi import NpuSmi
from harness.timings import Vitals


def chip_vitals(smi: NpuSmi, names: Collection[str], unit_id: str | None) -> Vitals:
    """Return how a chip is, by default the first of those names; its power may be that of its card.

    Raises:
        DeviceAbsent: there is neither npu-smi nor a chip.
        DeviceBroken: npu-smi does not answer, or does not show the chip.
    """
    report = smi.report()
    chips = [chip for chip in report.chips if chip.name in names]
    chip = next((one for one in chips if unit_id in (None, one.unit_id)), None)
    if chip is None:
        lost = "; ".join(one.reason for one in report.lost)
        raise DeviceBroken(
            f"`{smi.name} info` no longer shows {unit_id or 'the chip'}: {lost or '–'}"
        )
    power_w, power_of = (chip.power_w, "chip") if chip.power_w is not None else smi.power(chip)
    return Vitals(
        temperature_c=chip.temperature_c,
        power_w=power_w,
        power_of="" if power_w is None else power_of,
        frequency_mhz=smi.frequency_mhz(chip),
        memory_mb=chip.memory_used_mb,
        health=chip.health,
    )
