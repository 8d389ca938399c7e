"""The emulator's atc: checks the command line as the real one does and writes an emulated .om."""

import configparser
import os
import signal
import sys
from pathlib import Path

from emulated.faults import hang, has_fault
from emulated.om import read_om, write_om
from emulated.output import say

START = "ATC start working now, please wait for a moment."
SUCCESS = "ATC run success, welcome to the next use."
FAILED = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
OPTIONS = """
model framework output input_format input_shape soc_version log op_select_implmode
optypelist_for_implmode precision_mode precision_mode_v2 output_type op_precision_mode
insert_op_conf dynamic_batch_size debug_dir mode om json op_compiler_cache_mode op_compiler_cache_dir
out_nodes auto_tune_mode check_report keep_dtype modify_mixlist customize_dtypes deterministic
fusion_switch_file
"""
V1 = {"force_fp16": "fp16", "must_keep_origin_dtype": "origin", "allow_mix_precision": "mixed"}
V2 = {"fp16": "fp16", "origin": "origin", "mixed_float16": "mixed"}
SOC_VERSIONS = """
Ascend310 Ascend310P1 Ascend310P3 Ascend310P5 Ascend310P7 Ascend310B1 Ascend310B4 Ascend910A
Ascend910B3 Ascend910B4
"""
FORMATS = ("NCHW", "NCDHW", "ND")
MAX_OPSET = 18
MISSING = "error while loading shared libraries: {}: cannot open shared object file: No such file"
CANNED = {
    "atc_E19010": "E19010: No parser is registered for Op [Conv_52, optype [ai.onnx::11::Convx]].",
    "atc_EZ3002": "EZ3002: [PID: 10490] 2025-03-18-09:02:18.501.341 Optype [Einsum] of Ops kernel"
    " [AIcoreEngine] is unsupported. Reason: Einsum has no kernel.",
    "atc_EC0010": "EC0010: Failed to import Python module [ModuleNotFoundError: No module named"
    " 'decorator'.].",
    "atc_int64": "EZ3003: No supported Ops kernel and engine are found for [ScatterND_12], optype"
    " [ScatterND]: input 1 has dtype int64.",
    "atc_inner": "E19999: Inner Error!\n        TraceBack\nE16002: Fail to get the ONNX parser of"
    " Op [GridSample_3].",
    "atc_only_inner": "E39999[PID: 52728] 2026-01-01-00:00:00.000.000 (E39999): Inner Error!",
    "atc_host_env_os": "E10001: Value [darwin] for parameter [host_env_os] is invalid. Reason: not"
    " in the supported list.",
    "atc_disk_full": "E19999: write file failed: No space left on device",
}


class RefusalError(Exception):
    """An error block, as atc prints it."""


def invalid(name, value, reason):
    return RefusalError(
        f"E10001: Value [{value}] for parameter [{name}] is invalid. Reason: {reason}"
    )


def options_from_words(words):
    options = {}
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        if name not in OPTIONS.split():
            raise RefusalError(
                f"E10001: Value [{name}] for parameter [flag] is invalid. Reason: unknown"
            )
        options[name] = value.strip('"')
    return options


def check_options(options):
    for name, what in (("model", "a path"), ("framework", "0, 1, 3 or 5"), ("output", "a path")):
        if not options.get(name):
            raise RefusalError(f"E10007: --{name} is required. The value must be {what}.")
    soc, shape_format = options.get("soc_version", ""), options.get("input_format", "NCHW")
    if soc not in SOC_VERSIONS.split():
        raise invalid("soc_version", soc, "not in the supported list")
    if options["framework"] != "5":
        raise invalid("framework", options["framework"], "this emulator takes 5 (ONNX)")
    if shape_format not in FORMATS:
        raise invalid("input_format", shape_format, "ONNX takes NCHW, NCDHW or ND")
    if "auto_tune_mode" in options:
        reason = "The Auto Tune function has been deprecated. Please use the AOE tool for tuning."
        raise invalid("auto_tune_mode", options["auto_tune_mode"], reason)
    check_precision_file(options)
    if "optypelist_for_implmode" in options and "op_select_implmode" not in options:
        raise invalid("op_select_implmode", "", "required with optypelist_for_implmode")


def check_precision_file(options):
    path = options.get("op_precision_mode")
    if path is None:
        return
    made = configparser.ConfigParser()
    made.optionxform = str
    if not made.read(path):
        raise invalid("--op_precision_mode", path, "the file does not exist")
    odd = set(made.sections()) - {"ByOpType", "ByNodeName"}
    values = {value for name in made.sections() for value in made[name].values()}
    if odd or values - {"high_precision", "high_performance", "keep_fp16"}:
        raise invalid("--op_precision_mode", path, "the file is malformed")


def shapes_from_text(text):
    shapes = {}
    for part in filter(None, text.split(";")):
        name, _, dims = part.rpartition(":")
        if not name or not all(d.lstrip("-").isdigit() for d in dims.split(",")):
            raise RefusalError(f"E10002: Value [{part}] for parameter [input_shape] is malformed.")
        shapes[name] = [int(d) for d in dims.split(",")]
    return shapes


def tensor_head(value):
    import onnx

    kind = value.type.tensor_type
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return {
        "name": value.name,
        "shape": [d.dim_value or -1 for d in kind.shape.dim],
        "dtype": dtype,
    }


def model_from_file(path):
    import onnx
    from google.protobuf.message import DecodeError

    if not Path(path).is_file():
        raise RefusalError(
            f"E10001: Value [{path}] for parameter [model] is invalid. Reason: no file"
        )
    data = Path(path).read_bytes()
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise RefusalError(f"E10041: Failed to load the model from {path}.") from error
    check_model(model)
    return model, data


def check_model(model):
    import onnx

    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset > MAX_OPSET or not model.graph.node:
        raise RefusalError(f"E16002: Fail to get the ONNX parser for opset {opset}.")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
            kind = f"{node.domain or 'ai.onnx'}::{opset}::{node.op_type}"
            raise RefusalError(
                f"E19010: No parser is registered for Op [{node.name}, optype [{kind}]]."
            )


def heads(model, shapes):
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [tensor_head(v) for v in model.graph.input if v.name not in constants]
    unknown = set(shapes) - {head["name"] for head in inputs}
    if unknown:
        raise RefusalError(
            f"E10016: Opname [{unknown.pop()}] of [input_shape] is not found in the model."
        )
    for head in inputs:
        wanted = shapes.get(head["name"], head["shape"])
        same = len(wanted) == len(head["shape"])
        if not same or any(n not in (-1, w) for n, w in zip(head["shape"], wanted, strict=True)):
            raise RefusalError(f"E10003: input_shape {wanted} does not fit {head['shape']}.")
        head["shape"] = wanted
    return inputs, [tensor_head(v) for v in model.graph.output]


def om_path(output):
    if has_fault("atc_suffix"):
        return Path(f"{output}_linux_x86_64.om")
    return Path(f"{output}.om")


def gears_from_options(options, shapes):
    """The batch sizes of one model for several; none where it has one."""
    is_open = [name for name, dims in shapes.items() if dims[0] == -1]
    for dims in shapes.values():
        if -1 in dims[1:] or (is_open and "dynamic_batch_size" not in options):
            raise RefusalError(f"E10018: Value [-1] for shape [{dims}] is invalid.")
    if "dynamic_batch_size" not in options:
        return []
    if not is_open:
        raise RefusalError(
            "E10031: --dynamic_batch_size is included, but none of the nodes specified in"
            " --input_shape has a batch size equaling -1."
        )
    gears = [int(word) for word in options["dynamic_batch_size"].split(",")]
    if len(gears) < 2:
        raise RefusalError(
            f"E10035: --dynamic_batch_size, --dynamic_image_size, or --dynamic_dims has {len(gears)}"
            " profiles, which is less than the minimum 2."
        )
    return gears[:-1] if has_fault("atc_lost_gear") else gears


def compile_model(options):
    for fault, text in CANNED.items():
        if has_fault(fault):
            raise RefusalError(text)
    model, data = model_from_file(options["model"])
    shapes = shapes_from_text(options.get("input_shape", ""))
    gears = gears_from_options(options, shapes)
    inputs, outputs = heads(model, shapes)
    head = {"soc_version": options["soc_version"], "inputs": inputs, "outputs": outputs}
    head["gears"] = gears
    head["precision"] = precision_from_options(options)
    head["command"] = " ".join(["/usr/local/Ascend/bin/atc.bin", *options["words"]])
    if has_fault("atc_wrong_soc"):
        head["soc_version"] = "Ascend910B4"
    path = om_path(options["output"])
    if has_fault("atc_empty_file"):
        path.touch()
    elif not has_fault("atc_no_file") and not has_fault("atc_stale"):
        write_om(path, head, data)


def precision_from_options(options):
    """What becomes of the dtypes; the file of names has to be there."""
    if "precision_mode" in options and "precision_mode_v2" in options:
        raise invalid("precision_mode", options["precision_mode"], "not with precision_mode_v2")
    mode = "fp16"
    for name, known in (("precision_mode", V1), ("precision_mode_v2", V2)):
        value = options.get(name)
        if value is not None and value not in known:
            raise invalid(name, value, f"The value is not within the range of values: {[*known]}")
        mode = known.get(value, mode)
    keep = []
    for name in ("keep_dtype", "modify_mixlist", "customize_dtypes", "fusion_switch_file"):
        if name in options and not Path(options[name]).is_file():
            raise invalid(name, options[name], "no file")
    if "keep_dtype" in options:
        keep = Path(options["keep_dtype"]).read_text().split()
    return {"mode": mode, "keep": keep}


def write_json(options):
    """Mode 1: the graph of an offline model, as JSON."""
    from emulated.compiled import compiled_gears, json_of

    head, data = read_om(options["om"])
    ops = compiled_gears(data, head["precision"], head["gears"])
    text = json_of(ops, Path(options["om"]).stem, head["soc_version"])
    Path(options["json"]).write_text(text)


INFO = """\
============ Display Model Info start ============
Original Atc command line: {command}
system   info: atc_version[7.6.0.1.220], soc_version[{soc}], framework_type[Onnx].
resource info: memory_size[{memory} B], weight_size[{weights} B], stream_num[1], event_num[0].
om       info: modeldef_size[{modeldef} B], weight_data_size[{weights} B], tbe_kernels_size[0 B]{store}
============ Display Model Info end   ============"""


def display(options):
    """Mode 6: what an offline model is."""
    import numpy as np

    try:
        head, data = read_om(options["om"])
    except (OSError, ValueError):
        raise RefusalError(f"E10041: Failed to load the model from {options['om']}.") from None
    largest = max(head["gears"], default=1)
    tensors = [*head["inputs"], *head["outputs"]]
    # -1, the batch of a model that has several, has the size of the largest.
    memory = sum(4 * largest * abs(int(np.prod(tensor["shape"]))) for tensor in tensors)
    store = ", so_store_size[0 B]." if os.environ.get("EMULATOR_GENERATION") != "2023" else "."
    numbers = {"memory": memory, "weights": len(data), "modeldef": len(data) // 100}
    say(INFO.format(command=head["command"], soc=head["soc_version"], store=store, **numbers))


def fatal_faults():
    if has_fault("atc_missing_hal"):
        say("atc.bin: " + MISSING.format("libascend_hal.so"))
        sys.exit(127)
    if has_fault("atc_missing_library"):
        say("atc.bin: " + MISSING.format("libgraph.so"))
        sys.exit(127)
    say(START)
    if has_fault("atc_hang"):
        hang()
    if has_fault("atc_oom"):
        os.kill(os.getpid(), signal.SIGKILL)


def main(words):
    if "--help" in words:
        say("usage: atc <args>")
        return 0
    fatal_faults()
    try:
        if has_fault("atc_unknown"):
            raise RefusalError("something went wrong")
        options = options_from_words(words)
        if options.get("mode") == "1":
            write_json(options)
        elif options.get("mode") == "6":
            display(options)
        else:
            options["words"] = words
            check_options(options)
            compile_model(options)
    except RefusalError as refusal:
        say(f"{FAILED}\n{refusal}\n        Solution: see the manual.\n        TraceBack:")
        return 255
    if not has_fault("atc_no_success_line"):
        say("...\n" + SUCCESS)
    if has_fault("atc_warning"):
        say("W11001: Op [Gelu] does not hit the high-priority operator information library.")
    return 1 if has_fault("atc_rc_after_success") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
