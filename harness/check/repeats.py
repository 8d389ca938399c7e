"""Run the first batch of the parity inputs again, on every free chip: does the device repeat itself?"""

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

Arrays = dict[str, npt.NDArray[np.float64]]


def repeated_scores(context: Context, inputs: ParityInputs) -> Arrays:
    """Return what ``repeats_from_arrays`` compares: three queries a chip, two for a batch of one.

    Alone, an input runs in the device model for batch size 1 where there is one.

    Raises:
        DeviceError: the device is absent or does not work.
        RunError: a chip failed.
    """
    # Built before a chip is held for it.
    context.bench.device_model(context.single or context.cell)
    with context.bench.chips(context.cell.device) as chips:
        runs = [_on_chip(context, device, inputs) for device in chips.values()]
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]} | _row(context, inputs)


def _row(context: Context, inputs: ParityInputs) -> Arrays:
    if context.cell.batch == 1:
        return {}
    last = min(context.cell.batch, len(inputs.tensors)) - 1
    return {"row": np.array(min(ROW, last)), "is_single": np.array(context.single is not None)}


def _on_chip(context: Context, device: Device, inputs: ParityInputs) -> Arrays:
    batch, row = context.cell.batch, _row(context, inputs)
    tensors = inputs.tensors[:batch]
    scores = _scores(context, device, context.cell, {"first": tensors, "again": tensors})
    if row:
        place = int(row["row"])
        alone = {"alone": tensors[place : place + 1]}
        scores |= _scores(context, device, context.single or context.cell, alone)
    return scores


def _scores(
    context: Context,
    device: Device,
    cell: Cell,
    wanted: Mapping[str, Sequence[npt.NDArray[np.float32]]],
) -> Arrays:
    spec = context.spec
    with session_on(device, context.bench.device_model(cell)) as session:
        rows = {
            name: run_tensors(session.run_many, spec, cell.batch, some, context.smallest)
            for name, some in wanted.items()
        }
    return {
        name: one.reshape(len(wanted[name]), -1, spec.class_count) for name, one in rows.items()
    }
