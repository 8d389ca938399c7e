"""The chips of the emulated host."""

import os


def chip_names():
    """Name of each chip, by device number."""
    names = os.environ.get("EMULATOR_CHIP", "310P3").split(",")
    count = int(os.environ.get("EMULATOR_CHIP_COUNT", str(len(names))))
    return [names[number % len(names)] for number in range(count)]


def visible_chips():
    """Name and number of each chip that a process sees, which numbers them from 0."""
    names = chip_names()
    visible = os.environ.get("ASCEND_RT_VISIBLE_DEVICES")
    numbers = range(len(names)) if visible is None else map(int, visible.split(","))
    return [(names[number], number) for number in numbers]


def places(names):
    """NPU id and chip id of each chip: two to a card, or one where the chips differ."""
    if len(set(names)) > 1:
        return [(number + 1, 0) for number in range(len(names))]
    return [(number // 2 + 1, number % 2) for number in range(len(names))]
