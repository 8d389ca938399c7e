"""The passport of an offline model: ``atc --mode=6`` reads it, ``--mode=1`` lists its operators."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import RunError
from harness.measure.passport import Passport
from harness.runtimes.ascend.environment import CannTools
from harness.runtimes.ascend.om_graph import operators_of_om, read_by_atc
from harness.runtimes.ascend.precision import V1, V2
from harness.spec import OnnxModel

BLOCK = re.compile(
    r"=+ Display Model Info start\s*=+(.*?)=+ Display Model Info end\s*=+", re.DOTALL
)
COMMAND = re.compile(r"^Original Atc command line:[ \t]*(.*)$", re.MULTILINE)
FIELD = re.compile(r"(\w+)\[([^\]]*)\]")
# Our name of a precision, by the values that atc's options take for it.
MODES = {value: mode for values in (V1, V2) for mode, value in values.items()}
MODES["allow_mix_precision_fp16"] = "mixed"


def passport_from_text(text: str) -> Passport:
    """Read what ``atc --mode=6`` prints; operators are not in it.

    Raises:
        RunError: there is no such block, or it does not name a chip.
    """
    block = BLOCK.search(text)
    command = COMMAND.search(block[1]) if block else None
    if block is None or command is None:
        raise RunError(f"`atc --mode=6` displays no model: it printed {text.strip()[-300:]!r}")
    fields = dict(FIELD.findall(block[1].replace(command[0], "")))
    if not fields.get("soc_version"):
        raise RunError(f"`atc --mode=6` names no chip: it printed {block[1].strip()[-300:]!r}")
    return Passport(
        soc_version=fields["soc_version"],
        command=command[1].strip(),
        framework=fields.get("framework_type"),
        compiler=fields.get("atc_version"),
        memory_bytes=_number(fields.get("memory_size")),
        weight_bytes=_number(fields.get("weight_size")),
        stream_count=_number(fields.get("stream_num")),
    )


def passport_of_om(om: Path, folder: Path, tools: CannTools, env: Mapping[str, str]) -> Passport:
    """Ask atc what an offline model is, and on which processors its operators run.

    Raises:
        RunError: atc does not read the model.
    """
    log = tools.logs / f"atc-passport-{om.name}.log"
    result = read_by_atc(("--mode=6", f"--om={om}"), folder, tools, env, log)
    found = passport_from_text(result.output)
    operators = operators_of_om(om, folder, tools, env, gear=None)
    if not any(operator.engine for operator in operators):
        return found
    slow = tuple(f"{one.name} ({one.type})" for one in operators if "aicpu" in one.engine.lower())
    return found.model_copy(update={"ai_cpu_operators": slow})


def shape_options(onnx: OnnxModel) -> dict[str, str]:
    """Return atc's options for the shape of a model's input, and for its gears where it has some."""
    inputs, _ = onnx.spec.tensors_of_file(onnx.batch)
    shapes = (f"{one.name}:{','.join(map(str, one.shape))}" for one in inputs)
    options = {"input_shape": ";".join(shapes)}
    if gears := onnx.spec.gears:
        first = onnx.spec.inputs[0]
        options["dynamic_batch_size"] = ",".join(str(first.batched(one).shape[0]) for one in gears)
    return options


def passport_problems(
    passport: Passport, soc_version: str, wanted: Mapping[str, str], mode: str
) -> Iterator[str]:
    """Yield why an offline model is not the one that a cell asks for.

    ``wanted`` are atc's options for the shape of its input, ``mode`` is its precision.
    """
    if passport.soc_version != soc_version:
        yield f"it was built for {passport.soc_version}, not for {soc_version}"
    options = options_of(passport.command)
    shape, gears = wanted["input_shape"], wanted.get("dynamic_batch_size")
    if options.get("input_shape", None if gears else shape) != shape:
        yield f"its input is {options.get('input_shape', 'of one batch size')}, not {shape}"
    if (found := options.get("dynamic_batch_size")) != gears:
        yield f"its batch sizes are {found or 'one'}, not {gears or 'one'}"
    if (given := mode_of(passport.command)) != mode:
        yield f"it computes in {given}, not in {mode}"


def mode_of(command: str) -> str:
    """Return the precision that an atc command line asks for; an unknown one by atc's own name."""
    options = options_of(command)
    given = options.get("precision_mode_v2", options.get("precision_mode", "fp16"))
    return MODES.get(given, given)


def options_of(command: str) -> dict[str, str]:
    """Return the options of an atc command line by name."""
    words = (word.removeprefix("--").split("=", 1) for word in command.split() if "=" in word)
    return {name: value.strip("\"'") for name, value in words}


def _number(text: str | None) -> int | None:
    found = re.match(r"\d+", text or "")
    return int(found[0]) if found else None
