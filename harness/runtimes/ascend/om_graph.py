"""The operators of an offline model, from the JSON that ``atc --mode=1`` makes of it."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.host.command import Command, CommandResult
from harness.host.reading import ARRAY_BYTES, json_from_text, text_from_file
from harness.runtimes.ascend.environment import CannTools, atc_environment

# Operators that compute no value of their own.
SILENT = frozenset(
    ["Data", "Const", "Constant", "NetOutput", "Send", "Recv", "StreamActive", "AtomicAddrClean"]
)
# Where the compiler inserts one of these, it changes no value.
CARRIERS = ("Cast", "TransData")
# In a model of several batch sizes, names of operators end in this and the place of their batch size.
MARK = "_ascend_mbatch_batch_"
# In the names of the operators that select a batch size, and of those above.
SELECTING = "ascend_mbatch_"
DTYPES = {"DT_FLOAT": "float32", "DT_FLOAT16": "float16", "DT_BF16": "bfloat16"}


@dataclasses.dataclass(frozen=True)
class Origin:
    """The output of an ONNX node."""

    node: str
    index: int
    is_guess: bool = False


@dataclasses.dataclass(frozen=True)
class OmOperator:
    """One operator of an offline model.

    Attributes:
        nodes: the ONNX nodes that it computes; none for an operator that the compiler made.
        inputs: name and output number of what computes each input.
        origins: the ONNX output that each output is, where there is one.
        nbytes: of its inputs and outputs, weights among them.
        engine: the library that its kernel is from, which tells the processor; empty: unknown.
    """

    name: str
    type: str
    nodes: tuple[str, ...]
    passes: tuple[str, ...]
    dtypes: tuple[str, ...]
    inputs: tuple[tuple[str, int], ...]
    origins: tuple[Origin | None, ...]
    nbytes: int
    engine: str = ""

    @property
    def dtype(self) -> str:
        """The dtype of its first output."""
        return self.dtypes[0] if self.dtypes else ""


def operators_of_om(
    om: Path, folder: Path, tools: CannTools, env: Mapping[str, str], gear: int | None = 0
) -> tuple[OmOperator, ...]:
    """Return the operators of an offline model, in the order in which it runs them.

    ``gear`` is the place of one of its batch sizes, from 0; None: the operators of all.

    Raises:
        RunError: atc cannot convert the model, or its JSON is not as expected.
    """
    target, log = folder / "om.json", tools.logs / f"atc-json-{om.parent.name}.log"
    read_by_atc(("--mode=1", f"--om={om}", f"--json={target}"), folder, tools, env, log)
    try:
        return operators_from_json(text_from_file(target, ARRAY_BYTES), gear)
    except (OSError, ValueError) as error:
        raise RunError(
            f"`atc --mode=1` did not write the graph of {om.name}: {error}; log in {log}"
        ) from error


def read_by_atc(
    words: Sequence[str], folder: Path, tools: CannTools, env: Mapping[str, str], log: Path
) -> CommandResult:
    """Run atc in a mode that reads an offline model.

    Raises:
        RunError: it cannot be started, or failed.
    """
    argv = (tools.atc, *words)
    command = Command(argv, tools.run_timeout_s, folder, atc_environment(tools, env), log)
    try:
        result = tools.run(command)
    except OSError as error:
        raise RunError(f"`{command.text}` cannot be started: {error}") from error
    if result.rc or result.timed_out:
        raise RunError(f"`{command.text}` failed: {result.last_lines}; log in {log}")
    return result


def operators_from_json(text: str, gear: int | None = 0) -> tuple[OmOperator, ...]:
    """Read the operators from the JSON of an offline model.

    A model of several batch sizes has a copy of its graph for each, with marked names. Those of one
    gear are without the mark, so that they bear the names of the ONNX nodes.

    Raises:
        RunError: it is malformed.
    """
    try:
        model = json_from_text(re.sub(rf"{MARK}{gear}(?!\d)", "", text))
        found = [op for graph in model["graph"] for op in graph["op"]]
        if gear is not None:
            found = [op for op in found if SELECTING not in op["name"]]
        # The order of the file is topological, too, where an operator has no number.
        return tuple(_operator(op) for op in sorted(found, key=lambda op: int(op.get("id", 0))))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunError(
            f"the JSON of the offline model is not as expected ({type(error).__name__}: {error})"
        ) from error


def _operator(op: Mapping[str, Any]) -> OmOperator:
    attrs, outputs = _attrs(op), op.get("output_desc") or []
    names = _texts(attrs, "_datadump_original_op_names")
    nodes = (str(op["name"]),) if names is None else names
    return OmOperator(
        *(str(op["name"]), str(op["type"])),
        nodes=nodes if op["type"] not in SILENT else (),
        passes=_texts(attrs, "pass_name") or (),
        dtypes=tuple(DTYPES.get(one.get("dtype"), one.get("dtype", "")) for one in outputs),
        inputs=tuple(_source(text) for text in op.get("input") or () if _source(text)[1] >= 0),
        origins=tuple(_origin(attrs, nodes, index, one) for index, one in enumerate(outputs)),
        nbytes=sum(map(_nbytes, [*(op.get("input_desc") or ()), *outputs])),
        engine=str(attrs.get("_ge_attr_op_kernel_lib_name", {}).get("s", "")),
    )


def _nbytes(desc: Mapping[str, Any]) -> int:
    size = 2 if desc.get("dtype") in ("DT_FLOAT16", "DT_BF16") else 4
    return size * math.prod(map(int, (desc.get("shape") or {}).get("dim") or ()))


def _origin(
    attrs: Mapping[str, Any], nodes: Sequence[str], index: int, desc: Mapping[str, Any]
) -> Origin | None:
    own = _attrs(desc)
    name = own.get("_datadump_origin_name", {}).get("s")
    if name:
        return Origin(name, int(own.get("_datadump_origin_output_index", {}).get("i", index)))
    if not nodes or attrs.get("_datadump_is_multiop", {}).get("b"):
        return None
    is_guess = _texts(attrs, "_datadump_original_op_names") is not None
    return Origin(nodes[-1], index, is_guess)


def _attrs(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {pair["key"]: pair["value"] for pair in holder.get("attr") or ()}


def _texts(attrs: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    """Return a list of texts; None where there is no such attribute."""
    if key not in attrs:
        return None
    value = attrs[key]
    found = value["list"].get("s") or () if "list" in value else (value.get("s", ""),)
    return tuple(map(str, found))


def _source(text: str) -> tuple[str, int]:
    """Split ``producer:output``; -1 is a control edge."""
    name, _, index = text.rpartition(":")
    return name, int(index or -1)
