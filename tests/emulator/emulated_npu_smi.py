"""The emulator's npu-smi: `info`, `info -m`, `info -t board|power|common -i N [-c M]`."""

import sys

from emulated import state
from emulated.faults import hang, has_fault
from emulated.host import chip_names, places
from emulated.output import say

LINE = "+-------------------------------+-----------------+" + "-" * 54 + "+"
BOLD = LINE.replace("-", "=")
HEAD = [
    "+" + "-" * 104 + "+",
    f"| {'npu-smi 24.1.0.1                                 Version: 24.1.0.1':<102} |",
    LINE,
    "| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |",
    "| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |",
    BOLD,
]
PROCESS_HEAD = [
    "+-------------------------------+-----------------+------------------------------------------------------+",
    "| NPU     Chip                  | Process id      | Process name             | Process memory(MB)        |",
    BOLD,
]
NO_DRIVER = "dcmi module initialize failed. ret is -8005"
IN_USE = (
    "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
    "dcmi model initialized failed, because the device is used. ret is -8020"
)


def chip_rows(name, npu, chip, device):
    health = "Alarm" if has_fault("smi_alarm") else "OK"
    is_loaded = state.is_loaded(device)
    heat = 95 if has_fault("smi_hot") else 62 if state.is_warm(device) else 47
    load = 80 if has_fault("smi_busy") else 0
    first = f"| {npu:<7} {name:<21} | {health:<15} | {'NA':<12} {heat:<17} {'0     / 0':<21} |"
    used = 1894 + device + (state.LOADED_MB if is_loaded else 0)
    used += 100 * state.count("leak") if has_fault("smi_leak") else 0
    memory = f"{used:>4} / 21527"
    second = f"| {chip:<7} {device:<21} | 0000:01:00.0    | {load:<12} {memory:<39} |"
    return [first, second]


def empty_rows(npu, chip, device):
    """Lines of a chip whose queries fail: npu-smi prints the record that it had cleared."""
    first = f"| {npu:<7} {'':<21} | {'OK':<15} | {'NA':<12} {0:<17} {'0     / 0':<21} |"
    return [first, f"| {chip:<7} {device:<21} | 0000:00:00.0    | {0:<12} {'0    / 0':<39} |"]


def table(names):
    lines = list(HEAD)
    spots = places(names)
    for device, (npu, chip) in enumerate(spots):
        rows = chip_rows(names[device], npu, chip, device)
        if device == 0 and has_fault("smi_empty_record"):
            rows = empty_rows(npu, chip, device)
        lines += rows[:1] if device == 0 and has_fault("smi_lost_line") else rows
        is_last_of_card = device + 1 == len(spots) or spots[device + 1][0] != npu
        lines.append(BOLD if is_last_of_card else LINE)
    lines += PROCESS_HEAD
    for npu in dict.fromkeys(npu for npu, _ in spots):
        if has_fault("smi_busy"):
            lines.append(f"| {npu:<7} {0:<21} | 4711            | {'python3':<24} | {'1200':<25} |")
        else:
            lines.append(f"| {f'No running processes found in NPU {npu}':<102} |")
        lines.append(BOLD)
    return "\n".join(lines)


def logic_map(names):
    row = "\t{:<30} {:<30} {:<30} {:<30}".format
    rows = [row(*place, d, f"Ascend {names[d]}") for d, place in enumerate(places(names))]
    return "\n".join([row("NPU ID", "Chip ID", "Chip Logic ID", "Chip Name"), *rows])


def board(names):
    return (
        "\tNPU ID                         : 1\n\tSoftware Version               : 24.1.0.1\n"
        "\tFirmware Version               : 7.5.0.1.129\n\tCompatibility                  : OK\n"
        f"\tChip Count                     : {min(len(names), 2)}\n"
        f"\tChip Name                      : {names[0]}"
    )


def power(names):
    """A 310P has no sensor of its own; the controller of the card tells that of the whole card."""
    chip = "\tChip ID                        : 0\n\tThis device does not support querying power."
    card = "\tPower Dissipation(W)           : 16.9\n\tChip Name                      : mcu"
    head = "\tNPU ID                         : 1\n\tChip Count                     : 1"
    return "\n\n".join([head, chip] if has_fault("smi_no_power") else [head, chip, card])


def common(names):
    return (
        "\tNPU ID                         : 1\n\tChip ID                        : 0\n"
        "\tAicore Usage Rate(%)           : 0\n\tAicore Freq(MHZ)               : 1080\n"
        "\tAicore curFreq(MHZ)            : 960\n\tTemperature(C)                 : 43"
    )


def main(words):
    if has_fault("smi_hang_loaded") and any(map(state.is_warm, range(len(chip_names())))):
        hang()
    if has_fault("smi_hang"):
        hang()
    for fault, text in (("smi_8005", NO_DRIVER), ("smi_8020", IN_USE), ("smi_garbage", "\0 ~~ \7")):
        if has_fault(fault):
            say(text)
            return 0
    kinds = {"board": board, "power": power, "common": common}
    answers = {("info",): table, ("info", "-m"): logic_map}
    answers |= {("info", "-t", kind): answer for kind, answer in kinds.items()}
    if tuple(words[:3]) not in answers:
        say("Error parameter of command")
        return 1
    say(answers[tuple(words[:3])](chip_names()))
    return 1 if has_fault("smi_rc") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
