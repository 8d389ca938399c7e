"""The values of the operators inside an offline model: one run of ais_bench with a dump of each.

CANN maps an operator to the ONNX nodes that it computes, so its values can be compared with theirs.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import RunError
from harness.host.environment import environment_facts
from harness.inside import InnerValue, Inside, Operator
from harness.runtimes.ascend.ais_bench import OmOnChip, dump_command, summary_of_run
from harness.runtimes.ascend.ais_bench_files import bench_run, write_samples
from harness.runtimes.ascend.build_slots import GIB
from harness.runtimes.ascend.dump_file import Dump, DumpTensor, dump_from_file
from harness.runtimes.ascend.environment import CannTools
from harness.runtimes.ascend.om_graph import CARRIERS, MARK, SILENT, OmOperator, operators_of_om
from harness.runtimes.ort.open_graph import nodes_from_onnx

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Arrays = Sequence[Array]

# <op_type>.<op_name>.<task>.<stream>.<microseconds>; a name that is too long is a number instead.
FILE_NAME = re.compile(r"[\w-]+\.(?P<name>[\w-]+)(\.\d+){1,2}\.(?P<time>\d{16})\b.*", re.ASCII)
LONG_NAMES = "mapping.csv"
CONTAINER = "; this is a container, in which CANN does not write dumps: run parity on the host"


@dataclasses.dataclass(frozen=True)
class OmInside(Inside):
    """The operators of an offline model, with what a chip has computed in each."""

    operators: tuple[Operator, ...]
    tensors: Mapping[str, DumpTensor]
    missing: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """How many operators have no dump."""
        names = ", ".join(self.missing[:3]) + (", ..." if len(self.missing) > 3 else "")
        return f"no dump of {len(self.missing)}: {names}" if self.missing else ""

    def nbytes(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the size of dumped tensors."""
        return {key: self.tensors[key].nbytes for key in keys}

    def values(self, keys: Sequence[str]) -> "dict[str, Array]":
        """Read dumped tensors."""
        return {key: self.tensors[key].array() for key in keys}


def dumped(model: OmOnChip, batch: "Arrays") -> OmInside:
    """Run a private copy of an offline model once; its dumps lie beside it and go with it.

    Raises:
        RunError: atc or ais_bench failed, there is no room for the dumps, or none was written.
    """
    onnx, om, tools = model.onnx, model.om, model.tools
    gear = onnx.spec.gears.index(onnx.batch) if onnx.spec.gears else 0
    graph = operators_of_om(om, om.parent, tools, model.bench.env, gear)
    _check_room(graph, tools)
    dumps = om.parent / "dump"
    dumps.mkdir(mode=0o750)
    config = om.parent / "acl.json"
    wanted = {"dump_list": [{"model_name": om.stem}], "dump_path": str(dumps)}
    switches = {"dump_mode": "all", "dump_op_switch": "off", "dump_data": "tensor"}
    config.write_text(json.dumps({"dump": {**wanted, **switches}}))
    config.chmod(0o640)
    with bench_run(model, "dump") as run:
        inputs, _ = write_samples(onnx, [batch], run.folder / "in")
        summary_of_run(run, dump_command(run, inputs, config))
    files = _latest_files(dumps)
    if not files:
        where = CONTAINER if environment_facts()["container"] == "yes" else ""
        raise RunError(f"the run wrote no dump of any operator{where}; log in {run.log}")
    return om_inside(graph, files, onnx.artifact.path)


def om_inside(graph: Sequence[OmOperator], files: Mapping[str, Path], source: Path) -> OmInside:
    """Join operators, dump files by operator, and the ONNX file that the operators come from."""
    read, defects = _read(files)
    names = {_file_name(name): name for name in read.keys() | defects.keys()}
    mapped = _Mapped(graph, source, read, defects, names)
    shown = [op for op in graph if op.type not in SILENT]
    missing = tuple(op.name for op in shown if mapped.dump(op) is None and not mapped.defect(op))
    return OmInside(tuple(map(mapped.operator, shown)), mapped.tensors, missing)


class _Mapped:
    """Operators of an offline model as operators with values and the ONNX tensors they equal."""

    def __init__(
        self,
        graph: Sequence[OmOperator],
        source: Path,
        read: Mapping[str, Dump],
        defects: Mapping[str, str],
        names: Mapping[str, str],
    ) -> None:
        self._by_name = {op.name: op for op in graph}
        self._outputs = {node.name: node.outputs for node in nodes_from_onnx(source)}
        self._read, self._defects, self._names = read, defects, names
        self.tensors: dict[str, DumpTensor] = {}

    def dump(self, op: OmOperator) -> Dump | None:
        return self._read.get(self._file(op))

    def defect(self, op: OmOperator) -> str:
        return self._defects.get(self._file(op), "")

    def _file(self, op: OmOperator) -> str:
        return self._names.get(_file_name(op.name), "")

    def operator(self, op: OmOperator) -> Operator:
        return Operator(
            *(op.name, op.type, op.nodes),
            inputs=tuple(
                self._value(op, "input", place, maker)
                for place, maker in enumerate(op.inputs)
                if self._is_computed(maker[0])
            ),
            outputs=tuple(
                self._value(op, "output", place, (op.name, place))
                for place in range(len(op.dtypes))
            ),
            passes=op.passes,
            dtype=op.dtype,
        )

    def _is_computed(self, name: str) -> bool:
        """Whether an input is not a weight."""
        maker = self._by_name.get(name)
        return maker is None or maker.type not in ("Const", "Constant")

    def _value(self, op: OmOperator, kind: str, place: int, maker: tuple[str, int]) -> InnerValue:
        key, dump, defect = f"{op.name}:{kind}:{place}", self.dump(op), self.defect(op)
        tensor, is_guess = self._truth(*maker)
        listed = (dump.inputs if kind == "input" else dump.outputs) if dump else ()
        if place < len(listed):
            self.tensors[key] = listed[place]
        elif dump and kind == "output" and tensor is not None:
            defect = f"its dump has {len(listed)} outputs"
        truth = (tensor,) if key in self.tensors and tensor is not None else ()
        # The dump leaves out optional inputs, and so may number the others differently.
        return InnerValue(key, truth, is_guess or kind == "input", maker[0], defect)

    def _truth(self, name: str, place: int) -> tuple[str | None, bool]:
        """Return the ONNX tensor that an output is; through what changes no value, back to its maker."""
        op = self._by_name.get(name)
        if op is None:
            return None, False
        if op.type == "Data":
            return op.name, False
        if op.type in CARRIERS and not op.nodes and len(op.inputs) > place:
            return self._truth(*op.inputs[place])
        origin = op.origins[place] if place < len(op.origins) else None
        outputs = self._outputs.get(origin.node, ()) if origin else ()
        if origin is None or origin.index >= len(outputs):
            return None, False
        return outputs[origin.index], origin.is_guess


def _latest_files(dumps: Path) -> dict[str, Path]:
    """Return the newest dump of each operator, by the operator's name as its file has it."""
    found: dict[str, tuple[str, Path]] = {}
    for path in sorted(dumps.rglob("*")):
        named = FILE_NAME.fullmatch(_long_name(path))
        if named is not None and path.is_file():
            name = _unmarked(named["name"])
            found[name] = max(found.get(name, ("", path)), (named["time"], path))
    return {name: path for name, (_, path) in found.items()}


def _long_name(path: Path) -> str:
    mapping = path.parent / LONG_NAMES
    if not path.name.isdigit() or not mapping.is_file():
        return path.name
    pairs = (line.split(",", 1) for line in mapping.read_text().splitlines() if "," in line)
    return dict(pairs).get(path.name, path.name)


def _read(files: Mapping[str, Path]) -> tuple[dict[str, Dump], dict[str, str]]:
    """Read the headers; return dumps by operator, and why the others cannot be read."""
    read, defects = dict[str, Dump](), dict[str, str]()
    for name, path in files.items():
        try:
            dump = dump_from_file(path)
            read[_unmarked(dump.op_name) or name] = dump
        except RunError as error:
            defects[name] = str(error)
    return read, defects


def _unmarked(name: str) -> str:
    """Return an operator's name without the mark of its gear: only one has run."""
    return re.sub(rf"{MARK}\d+$", "", name)


def _file_name(name: str) -> str:
    """Return an operator's name as the name of a dump file has it."""
    return re.sub(r"[ ./\\]", "_", name)


def _check_room(graph: Sequence[OmOperator], tools: CannTools) -> None:
    need, free = sum(op.nbytes for op in graph), shutil.disk_usage(tools.scratch).free
    if need > free:
        raise RunError(
            f"the dumps of all operators need {need / GIB:.1f} GiB below {tools.scratch}, which has"
            f" {free / GIB:.1f}: set another cache_dir in site.toml, or check a smaller batch"
        )
