"""A precision as atc takes it: options, the files that they name, and what a chip refuses."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.errors import BuildError
from harness.precision import Precision
from harness.runtimes.ascend.atc_options import version_from_text
from harness.runtimes.ascend.om_graph import OmOperator

# The newer option is in CANN 7.0 and later. atc refuses both together.
V1 = {"fp16": "force_fp16", "origin": "must_keep_origin_dtype", "mixed": "allow_mix_precision"}
V2 = {"fp16": "fp16", "origin": "origin", "mixed": "mixed_float16"}
V2_SINCE = (7, 0)
OF_A_NODE = {
    *("high_precision", "high_performance", "support_out_of_bound_index", "keep_fp16"),
    "super_performance",
}
OPTIONS = [
    "precision_mode",
    "precision_mode_v2",
    "keep_dtype",
    "modify_mixlist",
    "customize_dtypes",
    "op_precision_mode",
    "deterministic",
    "fusion_switch_file",
]
# Deprecated options that op_precision_mode replaces.
OLDER = ["op_select_implmode", "optypelist_for_implmode"]
MOST_GEARS = 100
HAS_BF16 = re.compile("Ascend(910B[1-4]|910_9|310B)")


def precision_words(
    precision: Precision, cann: str | None, folder: Path, given: Sequence[str]
) -> tuple[str, ...]:
    """Write the files that a precision needs to where atc runs, and return atc's options.

    The version of CANN decides between the two forms of the mode; None if it is unknown.

    Raises:
        BuildError: ``given``, the model's own words, name one of the options as well.
    """
    files = {
        "keep_dtype": "\n".join(precision.keep),
        "modify_mixlist": json.dumps(dict(precision.mixed_list)) if precision.mixed_list else "",
        "customize_dtypes": "\n".join(precision.dtypes),
        "op_precision_mode": _ini(precision),
        "fusion_switch_file": "\n".join(precision.fusion_switches),
    }
    _refuse_twice(given, OPTIONS + (OLDER if files["op_precision_mode"] else []))
    is_new = version_from_text(cann) >= V2_SINCE
    mode = f"--precision_mode_v2={V2[precision.mode]}"
    words = [mode if is_new else f"--precision_mode={V1[precision.mode]}"]
    for option, text in files.items():
        if text:
            path = folder / f"{option}.{'json' if option == 'modify_mixlist' else 'cfg'}"
            path.write_text(text + "\n", encoding="utf-8")
            words.append(f"--{option}={path.name}")
    return (*words, "--deterministic=1") if precision.deterministic else tuple(words)


def _refuse_twice(given: Sequence[str], taken: Sequence[str]) -> None:
    for word in given:
        if word.removeprefix("--").partition("=")[0] in taken:
            raise BuildError(
                f"the model's own options for atc have {word}, and its cell names a precision: keep"
                " one of them"
            )


def check_precision(precision: Precision, soc_version: str) -> None:
    """Check that the parts of a precision fit each other and the chip.

    Raises:
        BuildError: they do not; the message says what to leave out.
    """
    problem = next(_problems(precision, soc_version), None)
    if problem is not None:
        raise BuildError(f"{soc_version} cannot be given this precision: {problem}")


def _problems(precision: Precision, soc_version: str) -> Iterator[str]:
    mode = precision.mode
    if precision.keep and mode == "origin":
        yield "a keep list has no effect in mode origin, which keeps every dtype: leave it out"
    if precision.mixed_list and mode != "mixed":
        yield f"mode {mode} has no lists of mixed precision: leave mixed_list out, or say mixed"
    if precision.deterministic and soc_version.startswith("Ascend310B"):
        yield "this chip has no deterministic computing: leave it out"
    gears = precision.gears
    if gears and not (1 < len(gears) <= MOST_GEARS and gears == tuple(sorted({*gears}))):
        yield f"it has the gears {gears}: name 2 to {MOST_GEARS} batch sizes, the smallest first"
    wide = [line for line in precision.dtypes if re.search("bfloat16|bf16", line)]
    if wide and not HAS_BF16.match(soc_version):
        yield f"the chip has no bfloat16, which {wide[0]} asks for"
    for name, value in {**precision.by_type, **precision.by_node}.items():
        if value not in OF_A_NODE:
            yield f"{name} = {value}: choose one of {', '.join(sorted(OF_A_NODE))}"


def _ini(precision: Precision) -> str:
    parts = (("ByOpType", precision.by_type), ("ByNodeName", precision.by_node))
    lines = [
        line
        for title, values in parts
        if values
        for line in (f"[{title}]", *(f"{name}={value}" for name, value in values.items()))
    ]
    return "\n".join(lines)


def without_effect(keep: Iterable[str], operators: Sequence[OmOperator]) -> list[str]:
    """Say which names of a keep list change nothing in a built model, and what to name instead."""
    return [text for name in keep if (text := _effect(name, operators))]


def _effect(name: str, operators: Sequence[OmOperator]) -> str:
    kind = name.removeprefix("OpType::") if name.startswith("OpType::") else None
    meant = [op for op in operators if (op.type == kind if kind else op.name == name)]
    fused = next((op for op in operators if name in op.nodes and op.name != name), None)
    if any(op.dtype == "float16" for op in meant):
        return f"{name} still computes in float16: the chip has no other kernel for it"
    if meant or (fused is not None and fused.dtype != "float16"):
        return ""
    if fused is None:
        return f"{name} is not an operator of the built model"
    by = f" by {', '.join(fused.passes)}" if fused.passes else ""
    return f"{name} was fused{by}: name {fused.name} instead, or switch the pass off"
