"""How a chip's compiler builds a model where a cell says so: its precision, or one file for many batch sizes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Precision:
    """How the compiler of a chip treats dtypes. Devices that compute as the file says take none.

    Attributes:
        mode: ``fp16``; ``origin``, the dtypes of the file; ``mixed``, fp16 where that costs little.
        keep: names of operators, or ``OpType::Type``, that keep the dtype of the file.
        mixed_list: types moved between the lists of mixed precision, such as
            ``{"black-list": {"to-add": ["SoftmaxV2"]}}``.
        dtypes: lines ``Name::InputDtype:…,OutputDtype:…``, which win over ``keep``.
        by_type, by_node: how an operator computes, such as ``{"Gelu": "high_performance"}``.
        deterministic: whether the order of accumulation is fixed.
        fusion_switches: lines ``PassName:off``.
        gears: batch sizes that one device model serves, smallest first; none: it serves one.
    """

    mode: Literal["fp16", "origin", "mixed"] = "fp16"
    keep: tuple[str, ...] = ()
    mixed_list: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dtypes: tuple[str, ...] = ()
    by_type: Mapping[str, str] = dataclasses.field(default_factory=dict)
    by_node: Mapping[str, str] = dataclasses.field(default_factory=dict)
    deterministic: bool = False
    fusion_switches: tuple[str, ...] = ()
    gears: tuple[int, ...] = dataclasses.field(default=(), metadata={"later": True})


# What every model has; "" is what the compiler does when it is told nothing, which is fp16.
PRECISIONS: Mapping[str, Precision] = {
    "fp16": Precision("fp16"),
    "origin": Precision("origin"),
    "mixed": Precision("mixed"),
}
