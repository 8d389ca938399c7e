"""What is inside a built model: its operators, and the values that they computed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class InnerValue:
    """A tensor inside a built model.

    Attributes:
        key: its name in ``Inside.values``.
        tensors: tensors of the ONNX file that it may equal, the likeliest first; empty: none.
        is_guess: whether another shape only means that this mapping is wrong.
        maker: the operator that computes it.
        defect: why its value is lost, although the device has written it.
    """

    key: str
    tensors: tuple[str, ...]
    is_guess: bool = False
    maker: str = ""
    defect: str = ""


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of a built model.

    Attributes:
        nodes: the ONNX nodes that it computes; ``passes`` fused them.
        dtype: of its first output, where it is known.
        inputs: that another operator or the caller computes; weights are left out.
    """

    name: str
    type: str
    nodes: tuple[str, ...]
    inputs: tuple[InnerValue, ...]
    outputs: tuple[InnerValue, ...]
    passes: tuple[str, ...] = ()
    dtype: str = ""

    @property
    def label(self) -> str:
        """Its name, with type, dtype and fused nodes."""
        kind = ", ".join(filter(None, (self.type, self.dtype)))
        if self.nodes in ((), (self.name,)):
            return f"{self.name} ({kind})"
        by = f" fused by {', '.join(self.passes)}" if self.passes else ""
        return f"{self.name} ({kind}; nodes {', '.join(self.nodes)}{by})"


class Inside(Protocol):
    """A built model that has run on one input: its operators in order, and their values."""

    operators: Sequence[Operator]

    @property
    def note(self) -> str:
        """What the values leave out; empty: nothing."""
        return ""

    def nbytes(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Return how large values are, at least roughly."""
        ...

    def values(self, keys: Sequence[str]) -> "Mapping[str, npt.NDArray[Any]]":
        """Return values by key, in the shape that the ONNX file gives them.

        Raises:
            RunError: one cannot be computed or read.
        """
        ...
