"""npu-smi of the emulator: `info`, `info -m`, `info -t board -i N [-c M]`."""

import os
import sys

from emulated.faults import hang, has_fault
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
    heat = 95 if has_fault("smi_hot") else 47
    load = 80 if has_fault("smi_busy") else 0
    first = f"| {npu:<7} {name:<21} | {health:<15} | {'NA':<12} {heat:<17} {'0     / 0':<21} |"
    memory = f"{1894 + device:>4} / 21527"
    second = f"| {chip:<7} {device:<21} | 0000:01:00.0    | {load:<12} {memory:<39} |"
    return [first, second]


def table(name, count):
    lines = list(HEAD)
    for device in range(count):
        lines += chip_rows(name, device // 2 + 1, device % 2, device)
        lines.append(BOLD if device % 2 or device == count - 1 else LINE)
    lines += PROCESS_HEAD
    for npu in range(1, (count + 1) // 2 + 1):
        if has_fault("smi_busy"):
            lines.append(f"| {npu:<7} {0:<21} | 4711            | {'python3':<24} | {'1200':<25} |")
        else:
            lines.append(f"| {f'No running processes found in NPU {npu}':<102} |")
        lines.append(BOLD)
    return "\n".join(lines)


def logic_map(name, count):
    row = "\t{:<30} {:<30} {:<30} {:<30}".format
    rows = [row(d // 2 + 1, d % 2, d, f"Ascend {name}") for d in range(count)]
    return "\n".join([row("NPU ID", "Chip ID", "Chip Logic ID", "Chip Name"), *rows])


def board(name, count):
    return (
        f"\tNPU ID                         : 1\n\tSoftware Version               : 24.1.0.1\n"
        f"\tFirmware Version               : 7.5.0.1.129\n\tCompatibility                  : OK\n"
        f"\tChip Count                     : {min(count, 2)}\n\tChip Name                      : {name}"
    )


def main(words):
    if has_fault("smi_hang"):
        hang()
    for fault, text in (("smi_8005", NO_DRIVER), ("smi_8020", IN_USE), ("smi_garbage", "\0 ~~ \7")):
        if has_fault(fault):
            say(text)
            return 0
    name = os.environ.get("EMULATOR_CHIP", "310P3")
    count = int(os.environ.get("EMULATOR_CHIP_COUNT", "1"))
    answers = {("info",): table, ("info", "-m"): logic_map, ("info", "-t", "board"): board}
    if tuple(words[:3]) not in answers:
        say("Error parameter of command")
        return 1
    say(answers[tuple(words[:3])](name, count))
    return 1 if has_fault("smi_rc") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
