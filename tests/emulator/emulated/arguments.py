"""The command line of ais_bench, checked as each generation does."""

import argparse
import os
import re
import sys
from pathlib import Path

from emulated.device import info, is_new, is_writable_by_others, mode_is_above_0750
from emulated.output import say

PLAIN = re.compile(r"[A-Za-z0-9_/.-]+")
LIMITS = {"loop": 100000, "warmup_count": 10000, "batchsize": 4096, "threads": 64}
SOLUTION = (
    '[[1;32mSOLUTION\033[0m] visit \033[1;32m "gitee repo: Ascend/tools, path:tools/ais_bench-workload'
    "/tool/ais_bench/README.md, chapter: FAQ/security_error/path_permission_error_log_solution"
    '" \033[0m for detailed solution'
)
TOO_OPEN = (
    "The file {} is group writable, or is others writable, as export file(or directory),"
    " permission should not be over 0o750(rwxr-x---)"
)


def whole(name, least):
    def parse(text):
        kind = f"{name.removesuffix('_count')} size" if is_new() else "positive int"
        value = int(text)
        if value < least or (is_new() and value > LIMITS[name]):
            raise argparse.ArgumentTypeError(f"{value} is an invalid {kind} value")
        return value

    return parse


def boolean(text):
    if text.lower() in ("yes", "true", "t", "y", "1"):
        return True
    if text.lower() in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError("Boolean value expected.")


def device(text):
    numbers = [int(word) for word in text.split(",")]
    for number in numbers:
        if not 0 <= number <= 255:
            raise argparse.ArgumentTypeError(
                f"device:{number} is invalid. valid value range is [0, 255]"
            )
    if len(numbers) > 1:
        raise argparse.ArgumentTypeError("the emulator takes one device")
    return numbers[0]


def refuse(text, what):
    if text:
        info(text, "ERROR")
        say(SOLUTION)
    raise argparse.ArgumentTypeError(what)


def model_path(text):
    illegal = f"om path:{text} is illegal. Please check."
    if is_new():
        path = Path(text)
        if not path.exists():
            info(
                f"path: {path.absolute()} not exist, please check if file or dir is exist", "ERROR"
            )
            raise argparse.ArgumentTypeError(illegal)
        if path.suffix != ".om" or not PLAIN.fullmatch(text) or path.is_symlink():
            refuse("", illegal)
        if is_writable_by_others(path):
            refuse(TOO_OPEN.format(path.absolute()), illegal)
    return text


def input_paths(text):
    for entry in text.split(","):
        path, illegal = Path(entry), f"input path:{entry} is illegal. Please check."
        if not is_new():
            continue
        if not path.exists() or not PLAIN.fullmatch(entry):
            refuse("", illegal)
        files = [path, *(path.iterdir() if path.is_dir() else ())]
        for file in files:
            if not file.is_symlink() and is_writable_by_others(file):
                refuse(TOO_OPEN.format(file.absolute()), illegal)
    return text


def output_path(text):
    illegal = f"output path:{text} is illegal. Please check."
    if is_new():
        if not PLAIN.fullmatch(text):
            refuse("", illegal)
        if Path(text).exists() and mode_is_above_0750(text):
            refuse(TOO_OPEN.format(Path(text).absolute()), illegal)
    return text


def output_dirname(text):
    if is_new() and Path(text).exists() and mode_is_above_0750(text):
        refuse(TOO_OPEN.format(Path(text).absolute()), f"output path:{text} is illegal.")
    return text


def parser():
    made = argparse.ArgumentParser(prog="__main__.py")
    made.add_argument("--model", "-m", required=True, type=model_path)
    made.add_argument("--input", "-i", type=input_paths)
    made.add_argument("--output", "-o", type=output_path)
    made.add_argument("--output_dirname", type=output_dirname)
    made.add_argument("--outfmt", default="BIN", choices=["NPY", "BIN", "TXT"])
    made.add_argument("--loop", "-l", type=whole("loop", 1), default=1)
    made.add_argument("--debug", type=boolean, default=False)
    made.add_argument("--device", "-d", type=device, default=0)
    made.add_argument("--dymBatch", type=int, default=0)
    made.add_argument("--batchsize", type=whole("batchsize", 1))
    made.add_argument("--pure_data_type", default="zero", choices=["zero", "random"])
    made.add_argument("--output_batchsize_axis", type=int, default=0)
    made.add_argument("--run_mode", default="array", choices=["array", "files", "tensor", "full"])
    made.add_argument("--display_all_summary", type=boolean, default=False)
    made.add_argument("--warmup_count", type=whole("warmup_count", 0), default=1)
    made.add_argument("--acl_json_path")
    if is_new():
        made.add_argument("--pipeline", type=boolean, default=False)
        made.add_argument("--threads", type=whole("threads", 1), default=1)
    return made


def arguments(words):
    made = parser().parse_args(words)
    if made.output_dirname and not made.output:
        info(
            "parameter --output_dirname cann't be used alone. Please use it together with the"
            " parameter --output!",
            "ERROR",
        )
        raise RuntimeError("error bad parameters --output_dirname")
    return made


if os.environ.get("EMULATOR_GENERATION", "2025") not in ("2023", "2025"):
    sys.exit("emulator: EMULATOR_GENERATION is 2023 or 2025")
