"""Turn what atc prints on failure into advice."""

import re

SUCCESS_LINE = "ATC run success, welcome to the next use."
CODE = re.compile(r"^\s*(E[A-Z0-9]\d{4})\b[:\[ ]?.*$", re.MULTILINE)
INNER = ("E19999", "E39999", "EZ9999")
PLOG = "the cause is in CANN's own log, below ~/ascend/log/debug/plog (or $ASCEND_PROCESS_LOG_PATH)"
OPSET = (
    "an operator or the opset is not supported by this CANN: export with opset 11, simplify, and"
    " rewrite the operator it names"
)
PYTHON = (
    "the operator compiler could not import a Python module: give atc a Python 3.7 to 3.10 that has"
    " decorator, attrs, psutil, sympy, scipy, absl-py, protobuf, cffi and numpy<2"
)

SENTENCES = {
    "E10001": "a value on the command line is invalid",
    "E10002": "--input_shape is malformed",
    "E10003": "--input_shape does not match the model",
    "E10005": "a batch size on the command line is malformed",
    "E10007": "a required option is missing",
    "E10016": "--input_shape names an input that the model does not have",
    "E10022": "a path of the command line cannot be used",
    "E10041": "the model file cannot be loaded: export it again",
    "E10049": "an option on the command line is malformed",
    "E10054": "a required option is empty",
    "E13001": "a file cannot be opened",
    "E13026": "a path cannot be used",
    "E16001": "the model has no node",
    "E16002": OPSET,
    "E16005": OPSET,
    "E19010": OPSET,
    "EZ9010": OPSET,
    "EZ0501": "an operator is not registered in this CANN: " + OPSET,
    "EZ3002": "this chip has no kernel for an operator: " + OPSET,
    "EZ3003": "this chip has no kernel for an operator: " + OPSET,
    "EC0010": PYTHON,
    "E40000": PYTHON,
} | dict.fromkeys(INNER, f"an internal compiler error; {PLOG}")

HINTS = {
    "host_env_os": "the terminal's environment leaks into atc: run it outside the IDE's terminal",
    "soc_version": "this CANN does not know the chip name: compare `npu-smi info` with"
    " <toolkit>/*/platform_config/*.ini, and install the kernels package for that chip",
    "Auto Tune function has been deprecated": "remove --auto_tune_mode; use AOE to tune",
    "int64": "an index operator got int64 (ScatterND, Slice, Gather): export with static shapes"
    " and fold them with the simplifier",
    "Einsum": "ATC does not support Einsum: rewrite it as MatMul and Transpose before the export",
}
LIBRARY = re.compile(r"error while loading shared libraries: (\S+):")
HAL = "libascend_hal.so"
NO_SPACE = re.compile(r"no space left on device", re.IGNORECASE)


def reason_from_output(output: str) -> str | None:
    """Return what went wrong according to atc's output, or None if nothing in it is known."""
    if NO_SPACE.search(output):
        return "the disk is full: free space below cache_dir and in $HOME/atc_data"
    if library := LIBRARY.search(output):
        return _library_advice(library[1])
    found = {match[1]: match[0].strip() for match in reversed(list(CODE.finditer(output)))}
    if not found:
        return None
    code, line = _telling(found)
    sentence = SENTENCES.get(code, "an error that this suite does not know")
    hints = "".join(f"; {hint}" for word, hint in HINTS.items() if word in line)
    return f"{code}: {sentence}{hints}; atc said '{line[:300]}'"


def _telling(found: dict[str, str]) -> tuple[str, str]:
    """Prefer a code that names a cause to an internal error, which atc prints as well."""
    telling = [item for item in reversed(found.items()) if item[0] not in INNER]
    return (telling or list(reversed(found.items())))[0]


def _library_advice(name: str) -> str:
    if name.startswith(HAL):
        return (
            f"{name} is missing, as on a build host without the driver: add"
            " $ASCEND_TOOLKIT_HOME/<arch>-linux/devlib to LD_LIBRARY_PATH"
        )
    return f"the shared library {name} is missing: source the toolkit's set_env.sh (site.toml)"
