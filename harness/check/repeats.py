"""The device's parity scores, and its first batch again, on every free chip: does it repeat itself?"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from harness.check.context import Context
from harness.device import Device
from harness.predict.device_predictions import session_on
from harness.predict.parity_inputs import ParityInputs
from harness.predict.run import run_tensors
from harness.spec import Cell

# Row of a batch in which an input is compared with its run alone: at batch size 1, or in a batch of its copies.
ROW = 3

Scores = npt.NDArray[np.float64]
Arrays = dict[str, Scores]
Tensors = Sequence[npt.NDArray[np.float32]]


def device_scores(context: Context, inputs: ParityInputs) -> tuple[Scores, Arrays]:
    """Run the inputs on one chip and the first batch of them again, and that batch twice on each other chip.

    Alone, an input runs in the device model for batch size 1 where there is one.

    Returns:
        The scores [input x crop, class], and what ``repeats_from_arrays`` compares.

    Raises:
        DeviceError: the device is absent or does not work.
        RunError: a chip failed.
    """
    # Built before a chip is held for it.
    context.bench.device_model(context.single or context.cell)
    with context.bench.chips(context.cell.device) as chips:
        one, *others = chips.values()
        first_batch = inputs.tensors[: context.cell.batch]
        runs = [_on_chip(context, one, inputs.tensors)]
        runs += [_on_chip(context, other, first_batch) for other in others]
    scores = runs[0]["whole"].reshape(-1, context.spec.class_count)
    again = {name: np.stack([run[name] for run in runs]) for name in runs[0] if name != "whole"}
    return scores, again | _row(context, inputs.tensors)


def _row(context: Context, tensors: Tensors) -> Arrays:
    if context.cell.batch == 1:
        return {}
    last = min(context.cell.batch, len(tensors)) - 1
    return {"row": np.array(min(ROW, last)), "is_single": np.array(context.single is not None)}


def _on_chip(context: Context, device: Device, tensors: Tensors) -> Arrays:
    """Return scores [input, crop, class] of all tensors, of their first batch, and of one alone."""
    first, row, single = tensors[: context.cell.batch], _row(context, tensors), context.single
    place = int(row.get("row", 0))
    alone = {"alone": tensors[place : place + 1]} if row else {}
    wanted = {"whole": tensors, "again": first, **({} if single else alone)}
    scores = _scores(context, device, context.cell, wanted)
    if single:
        scores |= _scores(context, device, single, alone)
    return {"first": scores["whole"][: len(first)], **scores}


def _scores(context: Context, device: Device, cell: Cell, wanted: Mapping[str, Tensors]) -> Arrays:
    spec, progress = context.spec, context.bench.progress
    with session_on(device, context.bench.device_model(cell)) as session:
        rows = {
            name: run_tensors(
                *(session.run_many, spec, cell.batch, some, context.smallest),
                progress.counter(f"{cell.id} parity", len(some)),
            )
            for name, some in wanted.items()
        }
    # Not by the number of inputs: whether there are as many answers is for the judge to see.
    shape = -1, spec.crop_count, spec.class_count
    return {name: one.reshape(shape) for name, one in rows.items()}
