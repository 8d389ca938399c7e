"""Run the first batch of the parity inputs again, on every free chip: does the device repeat itself?"""

import numpy as np
import numpy.typing as npt

from harness.check.context import Context
from harness.device import Device
from harness.predict.device_predictions import session_on
from harness.predict.parity_inputs import ParityInputs
from harness.predict.run import run_tensors

# Row of a batch in which an input is compared with a batch of its copies.
ROW = 3

Arrays = dict[str, npt.NDArray[np.float64]]


def repeated_scores(context: Context, inputs: ParityInputs) -> Arrays:
    """Return what ``repeats_from_arrays`` compares: three queries a chip, two for a batch of one.

    Raises:
        DeviceError: the device is absent or does not work.
        RunError: a chip failed.
    """
    with context.bench.chips(context.cell.device) as chips:
        runs = [_on_chip(context, device, inputs) for device in chips.values()]
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]} | _row(context, inputs)


def _row(context: Context, inputs: ParityInputs) -> Arrays:
    last = min(context.cell.batch, len(inputs.tensors)) - 1
    return {"row": np.array(min(ROW, last))} if context.cell.batch > 1 else {}


def _on_chip(context: Context, device: Device, inputs: ParityInputs) -> Arrays:
    spec, batch = context.spec, context.cell.batch
    tensors, row = inputs.tensors[:batch], _row(context, inputs)
    wanted = {"first": tensors, "again": tensors}
    if row:
        place = int(row["row"])
        wanted["alone"] = tensors[place : place + 1]
    model = context.bench.device_model(context.cell)
    with session_on(device, model) as session:
        scores = {
            name: run_tensors(session.run_many, spec, batch, some, context.smallest)
            for name, some in wanted.items()
        }
    return {
        name: rows.reshape(len(wanted[name]), -1, spec.class_count) for name, rows in scores.items()
    }
