"""The tensors of an ONNX file in float64, which tell a wrong value from one that is hard to compute."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import first_line
from harness.spec import Feed

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class InexactError(Exception):
    """A tensor cannot be computed in float64."""


class ExactGraph:
    """Runs an ONNX file in float64 as far as it is asked, and drops what no later node needs."""

    def __init__(self, path: Path, feed: Feed) -> None:
        self._path, self._feed = path, feed
        self._nodes: list[Any] = []
        self._values: dict[str, Array] = {}
        self._done = 0

    def value(self, tensor: str) -> "Array":
        """Return a tensor. Asking in the order of the file costs one run in all.

        Raises:
            InexactError: it, or an operator before it, cannot be computed in float64.
        """
        if tensor not in self._values and not self._is_ahead(tensor):
            self._restart()
        while tensor not in self._values and self._done < len(self._nodes):
            self._step(tensor)
        if tensor not in self._values:
            raise InexactError(f"the file has no tensor {tensor}")
        return self._values[tensor]

    def _is_ahead(self, tensor: str) -> bool:
        return any(tensor in node.output for node in self._nodes[self._done :])

    def _restart(self) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(onnx.load(self._path))
        self._nodes, self._done = evaluator.rt_nodes_, 0
        given = {**evaluator.rt_inits_, **self._feed}
        self._values = {name: _widened(value) for name, value in given.items()}
        self._uses = collections.Counter(name for node in self._nodes for name in node.input)

    def _step(self, wanted: str) -> None:
        node = self._nodes[self._done]
        self._done += 1
        inputs: list[Any] = [self._values[name] if name else None for name in node.input]
        try:
            if node.op_type in ("BatchNormalization", "Conv", "MaxPool"):
                outputs = _through_torch(node.onnx_node, inputs[0], inputs[1:])
            else:
                outputs = node.run(*inputs)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InexactError(f"{node.op_type}: {first_line(error)}") from error
        self._values.update(zip(node.output, map(_widened, outputs), strict=False))
        for name in node.input:
            self._uses[name] -= 1
            if self._uses[name] == 0 and name != wanted:
                self._values.pop(name, None)


def _widened(value: Any) -> "Array":
    array: Array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _through_torch(op: Any, x: "Array", weights: Sequence["Array"]) -> "list[Array]":
    """Return convolution, pooling and batch normalisation as PyTorch computes them.

    ONNX's reference takes minutes a clip for the first two, and normalises by the batch at hand where
    an old opset gives a momentum.

    Args:
        op: node of the ONNX file.
        x: what it takes, channels second.
        weights: of a convolution, and its bias; of a normalisation, scale, bias, mean and variance.
    """
    import onnx
    import torch
    from torch.nn import functional

    told = {one.name: onnx.helper.get_attribute_value(one) for one in op.attribute}
    if told.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError(f"auto_pad {told['auto_pad'].decode()} is not computed in float64")
    if op.op_type == "BatchNormalization":
        if told.get("training_mode", 0):
            raise ValueError("it normalises by the batch at hand")
        scale, bias, mean, var = map(torch.from_numpy, weights)
        eps = told.get("epsilon", 1e-5)
        normal = functional.batch_norm(torch.from_numpy(x), mean, var, scale, bias, eps=eps)
        return [normal.numpy()]
    rank, pads = x.ndim - 2, told.get("pads", [])
    # ONNX has all begins, then all ends; PyTorch has pairs and begins with the last dimension.
    pairs = [side for i in reversed(range(len(pads) // 2)) for side in pads[i :: len(pads) // 2]]
    is_conv = op.op_type == "Conv"
    inside = functional.pad(torch.from_numpy(x), pairs, value=0.0 if is_conv else -np.inf)
    steps = told.get("strides", 1), 0, told.get("dilations", 1)
    if is_conv:
        kernel, *bias = map(torch.from_numpy, weights)
        convolve = getattr(functional, f"conv{rank}d")
        made = convolve(inside, kernel, *(bias or [None]), *steps, told.get("group", 1))
    else:
        pool = getattr(functional, f"max_pool{rank}d")
        made = pool(inside, told["kernel_shape"], *steps, bool(told.get("ceil_mode", 0)))
    return [made.numpy()]
