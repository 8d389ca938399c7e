"""What the emulated atc makes of an ONNX graph: fused operators, with casts and layouts between them.

The operators compute what their ONNX nodes do. Names and attributes are as in the JSON of the real
compiler, so that a reader of dumps has to find its way back.
"""

import dataclasses
import json
from typing import Any

from emulated.faults import has_fault

CONV_BN, CONV_RELU = "ConvBatchnormFusionPass", "TbeConvCommonRules2FusionPass"
LAYER_NORM = "LayerNormONNXFusionPass"
TYPES = {
    "Conv": "Conv2D",
    "MatMul": "BatchMatMul",
    "Gemm": "MatMulV2",
    "Softmax": "SoftmaxV2",
    "ReduceMean": "ReduceMeanD",
    "Div": "RealDiv",
    "Transpose": "TransposeD",
    "MaxPool": "MaxPoolV3",
}
# In mixed precision these keep the dtype of the file.
BLACK = {"SoftmaxV2", "LayerNorm", "ReduceMeanD", "Pow", "Exp"}
GE_DTYPES = {
    "float32": "DT_FLOAT",
    "float16": "DT_FLOAT16",
    "int64": "DT_INT64",
    "int32": "DT_INT32",
}


@dataclasses.dataclass
class Op:
    """One operator; ``tensors`` are the ONNX tensors that its outputs are."""

    name: str
    type: str
    nodes: list[Any] = dataclasses.field(default_factory=list)
    passes: list[str] = dataclasses.field(default_factory=list)
    inputs: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    tensors: list[str] = dataclasses.field(default_factory=list)
    shapes: list[list[int]] = dataclasses.field(default_factory=list)
    dtype: str = "float32"
    layout: str = "ND"

    @property
    def is_made_by_compiler(self):
        return not self.nodes and self.type in ("Cast", "TransData")


def compiled(model, precision):
    """Return the operators of a graph in the order in which they run."""
    return Compiler(model, precision).ops()


MARK = "_ascend_mbatch_batch_"


def compiled_gears(data, precision, gears):
    """Return the operators of a model of several batch sizes: a marked copy for each, and what selects one."""
    import onnx

    if not gears:
        return compiled(onnx.load_model_from_string(data), precision)
    select = Op("ascend_mbatch_shape_case", "Case", [], inputs=[("ascend_mbatch_shape_data", 0)])
    gear = Op("ascend_mbatch_shape_data", "Data", tensors=["gear"], shapes=[[1]], dtype="int32")
    made = [gear, select]
    for place, batch in enumerate(gears):
        mark = f"{MARK}{place}"
        for op in compiled(at_batch(data, batch), precision):
            nodes = [onnx.NodeProto(name=n.name + mark, op_type=n.op_type) for n in op.nodes]
            inputs = [(name + mark, index) for name, index in op.inputs]
            made.append(dataclasses.replace(op, name=op.name + mark, nodes=nodes, inputs=inputs))
    return made


def at_batch(data, batch):
    """Return an ONNX file with an open batch as one for this batch size."""
    import onnx

    model = onnx.load_model_from_string(data)
    del model.graph.value_info[:]
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return model


class Compiler:
    def __init__(self, model, precision):
        import onnx

        self.mode, self.kept = precision["mode"], set(precision["keep"])
        self.graph = onnx.shape_inference.infer_shapes(model).graph
        self.nodes = [n for n in self.graph.node if n.op_type != "Constant"]
        self.makers = {name: n for n in self.nodes for name in n.output}
        self.users = {}
        for node in self.nodes:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.results = {v.name for v in self.graph.output}
        values = [*self.graph.value_info, *self.graph.output, *self.graph.input]
        self.types = {v.name: v.type.tensor_type for v in values}
        self.made, self.by_tensor, self.converted = [], {}, {}

    def ops(self):
        weights = {t.name for t in self.graph.initializer}
        for value in self.graph.input:
            if value.name not in weights:
                self._add(Op(value.name, "Data"), [value.name])
        groups = [self._group(node) for node in self.nodes]
        inner = {id(n) for nodes, _ in groups for n in nodes if len(nodes) > 1}
        ends = {id(nodes[-1]): (nodes, passes) for nodes, passes in groups if len(nodes) > 1}
        for node in self.nodes:
            if id(node) in ends:
                self._add_group(*ends[id(node)])
            elif id(node) not in inner:
                self._add_group([node], [])
        end = Op("Node_Output", "NetOutput")
        end.inputs = [self._as(name, "float32", "ND") for name in sorted(self.results)]
        self.made.append(end)
        return self.made

    def _group(self, node):
        """Return the nodes that are fused with this one, if it is the first of them."""
        if node.op_type == "Conv":
            return self._conv_group(node)
        if node.op_type == "ReduceMean":
            return self._layer_norm_group(node)
        return [node], []

    def _only_user(self, node, op_type):
        users = self.users.get(node.output[0], [])
        fits = len(users) == 1 and users[0].op_type == op_type
        return users[0] if fits and node.output[0] not in self.results else None

    def _conv_group(self, node):
        nodes, passes = [node], []
        for kind, name in (("BatchNormalization", CONV_BN), ("Relu", CONV_RELU)):
            found = self._only_user(nodes[-1], kind)
            if found is not None:
                nodes.append(found)
                passes.append(name)
        return nodes, passes

    def _layer_norm_group(self, mean):
        sub = self._only_user(mean, "Sub")
        found, square = [mean, sub], None
        if sub is not None:
            square = next((n for n in self.users[sub.output[0]] if n.op_type == "Pow"), None)
        node = square
        for kind in ("ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"):
            if node is None:
                break
            found.append(node)
            node = self._only_user(node, kind)
        if node is None or len(found) < 7:
            return [mean], []
        return [*found, node], [LAYER_NORM]

    def _add_group(self, nodes, passes):
        kind = TYPES.get(nodes[0].op_type, nodes[0].op_type)
        name = nodes[0].name
        if passes == [LAYER_NORM]:
            kind, name = "LayerNorm", f"{nodes[-1].name}/LayerNorm"
        elif passes:
            name = "".join(n.name for n in nodes)
        op = Op(name, kind, nodes, passes)
        op.dtype = self._dtype(op)
        op.layout = self._layout(nodes)
        inner = {name for n in nodes for name in n.output}
        names = dict.fromkeys(n for one in nodes for n in one.input if n and n not in inner)
        op.inputs = [
            self._as(n, op.dtype if self._is_float(n) else "int64", self._takes(op, n))
            for n in names
        ]
        self._add(op, [n for n in nodes[-1].output if n])

    def _takes(self, op, tensor):
        """The layout in which an operator takes a tensor."""
        return (
            op.layout if len(self._shape(tensor)) >= len(op.layout.replace("ND", "")) - 1 else "ND"
        )

    def _add(self, op, tensors):
        op.tensors, op.shapes = tensors, [self._shape(name) for name in tensors]
        if not self._is_float(tensors[0]):
            op.dtype, op.layout = "int64", "ND"
        self.made.append(op)
        self.by_tensor |= {name: (op, i) for i, name in enumerate(tensors)}

    def _dtype(self, op):
        if self.mode == "origin" or {op.name, f"OpType::{op.type}"} & self.kept:
            return "float32"
        return "float32" if self.mode == "mixed" and op.type in BLACK else "float16"

    def _layout(self, nodes):
        rank = len(self._shape(nodes[-1].output[0]))
        if nodes[0].op_type in ("Conv", "MaxPool") and rank in (4, 5):
            return "NC1HWC0" if rank == 4 else "NDC1HWC0"
        return "FRACTAL_NZ" if nodes[0].op_type in ("MatMul", "Gemm") and rank >= 2 else "ND"

    def _shape(self, tensor):
        kind = self.types.get(tensor)
        return [d.dim_value for d in kind.shape.dim] if kind is not None else []

    def _is_float(self, tensor):
        kind = self.types.get(tensor)
        return kind is None or kind.elem_type in (0, 1)

    def _as(self, tensor, dtype, layout):
        """Return what computes a tensor in a dtype and a layout; casts are made once."""
        if tensor not in self.by_tensor:
            return f"{tensor}_const", 0
        source, index = self.by_tensor[tensor]
        place = source.name, index
        steps = []
        if source.layout != layout and "ND" not in (source.layout, layout):
            steps.append(("TransData", source.dtype, "ND"))
        if source.dtype != dtype:
            steps.append(("Cast", dtype, "ND" if steps else source.layout))
        if source.layout != layout:
            steps.append(("TransData", dtype, layout))
        for kind, *state in steps:
            key = (tensor, kind, *state)
            if key not in self.converted:
                name = f"trans_{kind}_{len(self.converted)}"
                op = Op(name, kind, inputs=[place], tensors=[tensor])
                op.shapes, (op.dtype, op.layout) = [self._shape(tensor)], state
                self.made.append(op)
                self.converted[key] = op
            place = self.converted[key].name, 0
        return place


def consumers(ops, name):
    """Return the operators that take the output of one, through casts and layouts."""
    users = [op for op in ops if any(source == name for source, _ in op.inputs)]
    found = [op for op in users if not op.is_made_by_compiler]
    return found + [
        one for op in users if op.is_made_by_compiler for one in consumers(ops, op.name)
    ]


def device_shape(shape, layout):
    """Return the shape of a tensor on the chip."""
    if layout == "NC1HWC0":
        n, c, h, w = shape
        return [n, -(-c // 16), h, w, 16]
    if layout == "NDC1HWC0":
        n, c, d, h, w = shape
        return [n, d, -(-c // 16), h, w, 16]
    if layout == "FRACTAL_NZ":
        *batch, rows, columns = shape
        return [*batch, -(-columns // 16), -(-rows // 16), 16, 16]
    return list(shape)


def text_list(values):
    return {"list": {**({"s": list(values)} if values else {}), "val_type": 1}}


def described(op, index):
    shape, attrs = op.shapes[index], []
    if op.nodes:
        attrs.append({"key": "_datadump_origin_name", "value": {"s": op.nodes[-1].name}})
        if index:
            attrs.append({"key": "_datadump_origin_output_index", "value": {"i": index}})
    attrs.append({"key": "origin_shape", "value": {"list": {"i": shape}}})
    dims = {"dim": device_shape(shape, op.layout)}
    dtype = GE_DTYPES.get(op.dtype, "DT_FLOAT")
    return {"dtype": dtype, "layout": op.layout, "shape": dims, "attr": attrs}


def engine(op):
    """Return the library of an operator's kernel; softmax falls off the cores where it is asked to."""
    if op.type == "SoftmaxV2" and has_fault("atc_ai_cpu"):
        return "aicpu_ascend_kernel"
    return "DNN_VM_GE_LOCAL_OP_STORE" if op.type in ("Data", "NetOutput") else "AIcoreEngine"


def json_of(ops, model_name, soc_version):
    """Return the JSON that `atc --mode=1` writes."""
    by_name = {op.name: op for op in ops}
    constants = dict.fromkeys(n for op in ops for n, _ in op.inputs if n not in by_name)
    listed = [
        {
            "name": n,
            "type": "Const",
            "id": i,
            "attr": [{"key": "_datadump_original_op_names", "value": text_list([])}],
        }
        for i, n in enumerate(constants)
    ]
    for number, op in enumerate(ops, len(listed)):
        attrs = [{"key": "_ge_attr_op_kernel_lib_name", "value": {"s": engine(op)}}]
        if op.is_made_by_compiler or len(op.nodes) > 1:
            names = text_list([n.name for n in op.nodes])
            attrs.append({"key": "_datadump_original_op_names", "value": names})
        if op.passes:
            kinds = text_list([n.op_type for n in op.nodes])
            attrs.append({"key": "_datadump_original_op_types", "value": kinds})
            attrs.append({"key": "pass_name", "value": text_list(op.passes)})
        inputs = [described(by_name[n], i) for n, i in op.inputs if n in by_name]
        listed.append(
            {
                "name": op.name,
                "type": op.type,
                "id": number,
                "attr": attrs,
                "input": [f"{n}:{i}" for n, i in op.inputs],
                "input_desc": inputs,
                "output_desc": [described(op, i) for i in range(len(op.tensors))],
            }
        )
    attrs = [{"key": "soc_version", "value": {"s": soc_version}}]
    model = {"name": model_name, "graph": [{"name": model_name, "op": listed}], "attr": attrs}
    return json.dumps(model)
