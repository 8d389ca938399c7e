"""The dump tree of one execution: a file for each operator, as CANN writes them."""

import json
import time
from pathlib import Path

import numpy as np

from emulated.compiled import MARK, at_batch, compiled, device_shape
from emulated.faults import has_fault

DTYPES = {"float32": 1, "float16": 2, "int32": 7, "int64": 8}
FORMATS = {"ND": 2, "NC1HWC0": 3, "FRACTAL_NZ": 29, "NDC1HWC0": 32}
ALIGNED = 32
NAME_MAX = 255


def device_array(array, layout):
    """Return an array as the chip lays it out."""
    shape = device_shape(array.shape, layout)
    if layout == "NC1HWC0":
        n, c1, h, w, c0 = shape
        whole = np.zeros((n, c1 * c0, h, w), array.dtype)
        whole[:, : array.shape[1]] = array
        return whole.reshape(n, c1, c0, h, w).transpose(0, 1, 3, 4, 2)
    if layout == "NDC1HWC0":
        n, d, c1, h, w, c0 = shape
        whole = np.zeros((n, c1 * c0, d, h, w), array.dtype)
        whole[:, : array.shape[1]] = array
        return whole.reshape(n, c1, c0, d, h, w).transpose(0, 3, 1, 4, 5, 2)
    if layout == "FRACTAL_NZ":
        *batch, c1, n1, n0, c0 = shape
        rows, columns = array.shape[-2:]
        whole = np.zeros((*batch, n1 * n0, c1 * c0), array.dtype)
        whole[..., :rows, :columns] = array
        blocks = whole.reshape(*batch, n1, n0, c1, c0)
        axes = range(len(batch))
        return blocks.transpose(*axes, *(len(batch) + axis for axis in (2, 0, 1, 3)))
    return array


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def shape_message(shape):
    return field(1, b"".join(map(varint, shape)))


def tensor_message(array, layout, original, size, numbers):
    """An OpOutput or OpInput; they number `size` and `original_shape` differently."""
    size_number, original_number = numbers
    return b"".join(
        [
            field(1, DTYPES[str(array.dtype)]),
            field(2, FORMATS[layout]),
            field(3, shape_message(array.shape)),
            field(size_number, size),
            field(original_number, shape_message(original)),
        ]
    )


def dump_bytes(name, inputs, outputs):
    """A dump file of (array, layout) pairs; the bytes of the inputs come first."""
    body, messages = b"", {3: [], 4: []}
    for number, numbers, values in ((4, (5, 6), inputs), (3, (6, 7), outputs)):
        for array, layout in values:
            placed = np.ascontiguousarray(device_array(array, layout))
            data = placed.tobytes()
            data += bytes(-len(data) % ALIGNED)
            body += data
            messages[number].append(
                field(number, tensor_message(placed, layout, array.shape, len(data), numbers))
            )
    now = int(time.time() * 1e6)
    header = field(1, "2.0") + field(2, now) + b"".join(messages[3] + messages[4]) + field(6, name)
    return len(header).to_bytes(8, "little") + header + body


class Dumper:
    """Writes the dumps that an acl.json asks for."""

    def __init__(self, acl_json, om, device):
        config = json.loads(Path(acl_json).read_text())["dump"]
        names = [entry.get("model_name") for entry in config["dump_list"]]
        self.is_named = Path(om).stem in names
        self.folder = Path(config["dump_path"])
        stamp = time.strftime("%Y%m%d%H%M%S")
        self.root = self.folder / stamp / str(device) / Path(om).stem / "1"
        self.count = 0

    def write(self, onnx_bytes, right_bytes, precision, aliases, feeds, place=None):
        """Dump one execution of a model, which may have a planted fault, with the mark of its gear."""
        import onnx

        model, mark = onnx.load_model_from_string(right_bytes), ""
        if place is not None:
            batch = len(next(iter(feeds.values())))
            model, mark = at_batch(right_bytes, batch), f"{MARK}{place}"
        ops = compiled(model, precision)
        folder = self.root / str(self.count)
        self.count += 1
        if has_fault("bench_no_dump"):
            return
        folder.mkdir(parents=True)
        values = all_values(onnx_bytes, [t for op in ops for t in op.tensors], aliases, feeds)
        by_name = {op.name: op for op in ops}

        def value(name, index):
            op = by_name[name]
            array = values[aliases.get(name, op.tensors[index])]
            with np.errstate(over="ignore"):
                return array.astype(op.dtype if array.dtype.kind == "f" else array.dtype), op.layout

        paths = []
        for number, op in enumerate(ops):
            if op.type in ("Data", "NetOutput"):
                continue
            inputs = [value(n, i) for n, i in op.inputs if n in by_name]
            outputs = [value(op.name, i) for i in range(len(op.tensors))]
            paths.append(file_path(folder, op.type, op.name + mark, number))
            paths[-1].write_bytes(dump_bytes(op.name + mark, inputs, outputs))
        if has_fault("bench_dump_truncated"):
            whole = paths[-1].read_bytes()
            paths[-1].write_bytes(whole[: len(whole) // 2])


def file_path(folder, kind, op_name, number):
    plain = "".join("_" if letter in " ./\\" else letter for letter in op_name)
    stamp = f"{int(time.time() * 1e6):016d}"
    name = f"{kind}.{plain}.{number}.1.{stamp}"
    if len(name) > NAME_MAX:
        with (folder / "mapping.csv").open("a") as file:
            file.write(f"{1000 + number},{name}\n")
        name = str(1000 + number)
    return folder / name


def all_values(onnx_bytes, tensors, aliases, feeds):
    import onnx
    import onnxruntime as ort

    model = onnx.load_model_from_string(onnx_bytes)
    present = {v.name for v in model.graph.output}
    wanted = [t for t in dict.fromkeys([*tensors, *aliases.values()]) if t not in feeds]
    model.graph.output.extend(onnx.ValueInfoProto(name=t) for t in wanted if t not in present)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return {**feeds, **dict(zip(wanted, session.run(wanted, feeds), strict=True))}
