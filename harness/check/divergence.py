"""Where the chain of a cell diverges: the first module, node or operator with a different output."""

import numpy as np
import numpy.typing as npt

from harness.check.context import Context
from harness.check.onnx_divergence import (
    Allowed,
    Divergence,
    first_divergent_node,
    first_divergent_operator,
)
from harness.check.torch_divergence import first_divergent_module
from harness.errors import HarnessError
from harness.host.patience import patiently
from harness.measure.parity import ChainScores
from harness.predict.parity_inputs import ParityInputs
from harness.predict.run import feed_from_tensors
from harness.spec import ONNX_FILE

# A search runs the model dozens of times.
SEARCH_TIMES = 4.0
SEARCH = (
    "`harness precision search {cell.model} --device {cell.device}` finds what to keep in float32"
)


def divergence(context: Context, scores: ChainScores, inputs: ParityInputs) -> str | None:
    """Look for where the chain diverges; a search that breaks does not change the verdict.

    If the scores differ in shape, no input can be called the worst, and nothing is searched.
    """
    if not scores.torch.shape == scores.onnx.shape == scores.device.shape:
        return None
    try:
        return _divergent_node(context, inputs.tensors[worst_input(scores, inputs)])
    except HarnessError as error:
        return f"not found, because the search broke: {error}"


def worst_input(scores: ChainScores, inputs: ParityInputs) -> int:
    """Return the number of the input on which the device, or a stage before it, is furthest off."""
    with np.errstate(invalid="ignore"):
        errors = [np.abs(one - scores.torch) for one in (scores.onnx, scores.device)]
    worst = np.nan_to_num(np.maximum(*errors), nan=np.inf).reshape(len(inputs.tensors), -1)
    return int(worst.max(axis=1).argmax())


def _divergent_node(context: Context, tensor: npt.NDArray[np.float32]) -> str | None:
    """Follow one input along the chain to the first module, node or operator that diverges."""
    bench, cell = context.bench, context.cell
    feed = feed_from_tensors(context.spec, cell.batch, [tensor])
    exported, simplified = bench.exported(cell).artifact.path, bench.simplified(cell).artifact.path
    allowed = context.limits.host_parity.relative_l2
    weights = bench.weights(cell.model).path
    with patiently(times=SEARCH_TIMES) as call:
        if context.spec.reference == ONNX_FILE and weights is not None:
            node = call(first_divergent_node, weights, exported, feed, allowed)
        else:
            node = call(first_divergent_module, context.spec, weights, exported, feed, allowed)
        node = node or call(first_divergent_node, exported, simplified, feed, allowed)
    found = None if node else divergent_operator(context, tensor)
    if found is None:
        return node
    is_fp16 = found.operator.dtype == "float16"
    return found.text + (f"; {SEARCH.format(cell=cell)}" if is_fp16 else "")


def divergent_operator(context: Context, tensor: npt.NDArray[np.float32]) -> Divergence | None:
    """Follow one input through the device's model to the first wrong operator.

    Raises:
        RunError: the device failed or hangs, or does not show what its operators compute.
    """
    bench, cell = context.bench, context.cell
    feed = feed_from_tensors(context.spec, cell.batch, [tensor])
    within = Allowed(context.limits.parity.relative_l2, context.limits.parity.fp64_factor)
    source, model = bench.simplified(cell).artifact.path, bench.device_model(cell)

    def search_inside() -> Divergence | None:
        with device.inside(model, feed) as inside:
            return first_divergent_operator(source, inside, feed, within) if inside else None

    # The chip is let go although the search may hang.
    with bench.chip(cell.device) as device, patiently(times=SEARCH_TIMES) as call:
        return call(search_inside)
