"""The chips of the emulated host."""

import os


def chip_names():
    """Name of each chip, by device number."""
    names = os.environ.get("EMULATOR_CHIP", "310P3").split(",")
    count = int(os.environ.get("EMULATOR_CHIP_COUNT", str(len(names))))
    return [names[number % len(names)] for number in range(count)]


def places(names):
    """NPU id and chip id of each chip: two to a card, or one where the chips differ."""
    if len(set(names)) > 1:
        return [(number + 1, 0) for number in range(len(names))]
    return [(number // 2 + 1, number % 2) for number in range(len(names))]
