"""Ask npu-smi about this host's chips; absent, broken and present stay distinct."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from harness.errors import DeviceAbsent, DeviceBroken
from harness.host.command import Command, CommandResult, RunCommand, run_command
from harness.host.reading import number_from_text
from harness.runtimes.ascend.npu_smi_table import (
    Chip,
    NpuSmiReport,
    TableError,
    blocks_from_text,
    logic_ids_from_text,
    properties_from_text,
    report_from_text,
)

DCMI = re.compile(r"dcmi .*?ret is (-?\d+)", re.IGNORECASE)
DCMI_ADVICE = {
    "-8005": "the driver is not loaded or its libraries are not visible: load the driver, or start"
    " the container with /usr/local/Ascend/driver and /usr/local/dcmi mounted and"
    " --device=/dev/davinci_manager",
    "-8020": "the device is in use by another container or process: stop it or choose another chip",
}
OTHER_ADVICE = "run `npu-smi info` by hand and check the driver (dmesg, /var/log/npu)"
POWERS = ("NPU Real-time Power(W)", "Power Dissipation(W)")
FREQUENCY = "Aicore curFreq(MHZ)"
USUAL_PLACES = "/usr/local/bin, /usr/local/sbin, /usr/local/Ascend/driver/tools"


@dataclasses.dataclass(frozen=True)
class NpuSmi:
    """npu-smi of this host.

    Attributes:
        name: name of the executable on PATH, or its path.
        env: environment of the child process, or None for our own.
        device_root: folder of the device nodes.
    """

    name: str = "npu-smi"
    env: Mapping[str, str] | None = None
    timeout_s: float = 30.0
    run: RunCommand = run_command
    device_root: Path = Path("/dev")

    def report(self) -> NpuSmiReport:
        """Return the table of ``npu-smi info``.

        Raises:
            DeviceAbsent: there is neither npu-smi nor a device node, or npu-smi lists no chip.
            DeviceBroken: npu-smi hangs, fails or prints anything but a table.
        """
        result = self._ask("info")
        try:
            report = report_from_text(result.output)
        except TableError as error:
            raise DeviceBroken(self._garbage(result, error)) from error
        if not report.chips and not report.lost:
            raise DeviceAbsent(
                f"{self.name} info answers (driver {report.driver_version}) but lists no chip: "
                "check that the card is seated, powered and passed to this container"
            )
        return report

    def logic_ids(self) -> Mapping[tuple[int, int], int]:
        """Return the logic id of each (NPU id, chip id), from ``npu-smi info -m``.

        Raises:
            DeviceBroken: npu-smi does not report it.
        """
        result = self._ask("info", "-m")
        ids = logic_ids_from_text(result.output)
        if not ids:
            raise DeviceBroken(self._garbage(result, "no row with a Chip Logic ID"))
        return ids

    def board(self, npu_id: int, chip_id: int | None = None) -> Mapping[str, str]:
        """Return the properties of a card, or of one of its chips.

        Raises:
            DeviceBroken: npu-smi does not report them.
        """
        chip = () if chip_id is None else ("-c", str(chip_id))
        result = self._ask("info", "-t", "board", "-i", str(npu_id), *chip)
        properties = properties_from_text(result.output)
        if not properties:
            raise DeviceBroken(self._garbage(result, "no 'name : value' line"))
        return properties

    def soc_version(self, chip: Chip) -> str:
        """Return atc's name for ``chip``.

        The table shows only the family of an A3; its board properties complete the name.

        Raises:
            DeviceBroken: the board properties lack the name.
        """
        if not chip.name.lower().startswith("ascend"):
            return f"Ascend{chip.name}"
        board = self.board(chip.npu_id, chip.chip_id)
        names = board.get("Chip Name", ""), board.get("NPU Name", "")
        if not all(names):
            raise DeviceBroken(
                f"{self.name} info calls NPU {chip.npu_id} '{chip.name}', and `-t board` gives no"
                f" Chip Name and NPU Name to complete it: found {dict(board)}"
            )
        family = names[0].removeprefix("Ascend").strip()
        return f"Ascend{family}_{names[1]}"

    def device_number(self, chip: Chip) -> int:
        """Return ais_bench's number for ``chip``.

        Raises:
            DeviceBroken: neither the table nor the map has it.
        """
        if chip.device_number is not None:
            return chip.device_number
        ids = self.logic_ids()
        if (chip.npu_id, chip.chip_id) not in ids:
            raise DeviceBroken(
                f"`{self.name} info -m` has no Chip Logic ID for NPU {chip.npu_id} chip"
                f" {chip.chip_id}, which `{self.name} info` lists; known: {dict(ids)}"
            )
        return ids[chip.npu_id, chip.chip_id]

    def power(self, chip: Chip) -> tuple[float | None, str]:
        """Return the power in watts of a chip, or of its card where the chip shows none, and which it is.

        (None, "") where this npu-smi shows neither.
        """
        try:
            blocks = blocks_from_text(
                self._ask("info", "-t", "power", "-i", str(chip.npu_id)).output
            )
        except DeviceBroken:
            return None, ""
        own = next((b for b in blocks if b.get("Chip ID") == str(chip.chip_id)), {})
        # The card's microcontroller; what it is rated for is not what it takes.
        card = next((b for b in blocks if "Chip ID" not in b and POWERS[1] in b), {})
        for block, name, of in ((own, POWERS[0], "chip"), (card, POWERS[1], "card")):
            if (watts := number_from_text(block.get(name, ""))) is not None:
                return watts, of
        return None, ""

    def frequency_mhz(self, chip: Chip) -> float | None:
        """Return the frequency of a chip's AI cores now; None where this npu-smi does not show it."""
        words = ("-i", str(chip.npu_id), "-c", str(chip.chip_id))
        try:
            result = self._ask("info", "-t", "common", *words)
        except DeviceBroken:
            return None
        return number_from_text(properties_from_text(result.output).get(FREQUENCY, ""))

    def _ask(self, *words: str) -> CommandResult:
        command = Command((self.name, *words), self.timeout_s, env=self.env)
        try:
            result = self.run(command)
        except FileNotFoundError as error:
            raise self._missing() from error
        except OSError as error:
            raise DeviceBroken(f"`{command.text}` cannot be started: {error}") from error
        if result.timed_out:
            raise DeviceBroken(
                f"`{command.text}` did not answer within {self.timeout_s:g} s and was killed: "
                "the driver hangs; see dmesg, reset or reboot the card"
            )
        if failure := _failure(command, result):
            raise DeviceBroken(failure)
        return result

    def _missing(self) -> DeviceAbsent | DeviceBroken:
        nodes = sorted(p.name for p in self.device_root.glob("davinci[0-9]*"))
        advice = (
            f"install the Ascend driver, or put npu-smi on PATH (usually in {USUAL_PLACES}), "
            "or set its path in site.toml"
        )
        if nodes:
            found = ", ".join(str(self.device_root / node) for node in nodes)
            return DeviceBroken(f"{self.name} is not on PATH although {found} exist: {advice}")
        looked = f"{self.name} is not on PATH and there is no {self.device_root}/davinci<N>"
        return DeviceAbsent(f"no Ascend chip on this host: {looked}; {advice}")

    def _garbage(self, result: CommandResult, reason: object) -> str:
        return (
            f"this suite cannot read the output of {self.name}: {reason}; it printed"
            f" {result.output.strip()[:300]!r}; {OTHER_ADVICE}"
        )


def _failure(command: Command, result: CommandResult) -> str | None:
    """Read the text first: npu-smi does not always fail with a non-zero exit status."""
    if dcmi := DCMI.search(result.output):
        return f"`{command.text}` says '{dcmi[0]}': {DCMI_ADVICE.get(dcmi[1], OTHER_ADVICE)}"
    if result.rc:
        return (
            f"`{command.text}` exited with status {result.rc} and printed {result.last_lines}; "
            f"{OTHER_ADVICE}"
        )
    return None
