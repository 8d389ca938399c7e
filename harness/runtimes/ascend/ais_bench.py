"""Find ais_bench, build its command lines, run it, and map its failures."""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from harness.errors import RunError
from harness.host.command import Command, CommandResult
from harness.runtimes.ascend.ais_bench_errors import reason_from_result
from harness.runtimes.ascend.ais_bench_result import BenchSummary, summary_from_file
from harness.runtimes.ascend.environment import CannTools
from harness.spec import OnnxModel

Generation = Literal["2023", "2025"]

RESULT = "result"
MIN_WARMUP = 5
MAX_LOOP = 100_000
PLAIN_PATH = re.compile(r"[A-Za-z0-9_/.-]+")


@dataclasses.dataclass(frozen=True)
class AisBench:
    """An interpreter that has ais_bench, and its generation: 2023, or 2024 and later."""

    python: str
    generation: Generation
    env: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class OmOnChip:
    """An offline model, the chip that runs it, and the tools to run it with.

    Attributes:
        onnx: what it was built from.
        om: a private copy of it, in a folder of its own.
        device_number: ais_bench's number for the chip.
    """

    onnx: OnnxModel
    om: Path
    device_number: int
    bench: AisBench
    tools: CannTools


@dataclasses.dataclass(frozen=True)
class BenchRun:
    """One run of ais_bench, which leaves ``output``/result and result_summary.json beside it.

    ``folder`` is a fresh private folder and the working directory.
    """

    model: OmOnChip
    folder: Path
    log: Path

    @property
    def output(self) -> Path:
        """The folder given as --output."""
        return self.folder / "out"

    @property
    def summary(self) -> Path:
        """The file that ais_bench writes last, and only on success."""
        return self.output / f"{RESULT}_summary.json"


def found_ais_bench(tools: CannTools, env: Mapping[str, str]) -> AisBench:
    """Return the interpreter that has ais_bench: from ``tools``, else PATH, else our own.

    Raises:
        RunError: no interpreter has it; the message quotes each one's answer.
    """
    candidates = [tools.python] if tools.python else ["python3", sys.executable]
    answers = []
    for python in candidates:
        argv = (python, "-m", "ais_bench", "--help")
        try:
            result = tools.run(Command(argv, tools.probe_timeout_s, cwd=Path("/"), env=env))
        except FileNotFoundError as error:
            answers.append(str(error))
            continue
        if result.rc == 0 and "--outfmt" in result.output and not result.timed_out:
            # Both generations carry the same version numbers but take different options.
            generation: Generation = "2025" if "--pipeline" in result.output else "2023"
            return AisBench(python, generation, env)
        answers.append(f"{python}: {'timed out' if result.timed_out else result.last_lines}")
    raise RunError(
        f"`python -m ais_bench --help` fails in {', '.join(candidates)}"
        f" ({'; '.join(answers)}): install the aclruntime and ais_bench wheels that match CANN, and"
        " set their interpreter in site.toml"
    )


def accuracy_command(run: BenchRun, inputs: Sequence[Path]) -> tuple[str, ...]:
    """Return the command line that runs every file once; each input of the model has a folder."""
    return (*_start(run), "--input", ",".join(map(str, inputs)))


def dump_command(run: BenchRun, inputs: Sequence[Path], config: Path) -> tuple[str, ...]:
    """Return the command line that runs one batch once, since every execution dumps."""
    once = ("--warmup_count", "0", "--acl_json_path", str(config))
    return (*accuracy_command(run, inputs), *once)


def loop_command(run: BenchRun, loop: int, warmup: int) -> tuple[str, ...]:
    """Return the command line that measures speed as the guides do: ``loop`` pure inferences."""
    warmup = max(warmup, MIN_WARMUP)
    return (*_start(run), "--loop", str(loop), "--warmup_count", str(warmup))


def first_command(run: BenchRun) -> tuple[str, ...]:
    """Return the command line of a single inference, the first after the model was loaded."""
    return (*_start(run), "--loop", "1", "--warmup_count", "0")


def summary_of_run(run: BenchRun, argv: tuple[str, ...]) -> tuple[BenchSummary, CommandResult]:
    """Run ais_bench and return its summary, if both exit status and file show success.

    Raises:
        RunError: it failed, hung, crashed or left no complete summary.
    """
    bench, tools = run.model.bench, run.model.tools
    _check_paths(bench, argv)
    # 2024+ refuses an output folder above 0750, and checks its name against the working directory.
    run.output.mkdir(mode=0o750, parents=True)
    command = Command(argv, tools.run_timeout_s, run.folder, bench.env, run.log)
    result = tools.run(command)
    if result.rc or result.timed_out or not run.summary.is_file():
        raise RunError(f"ais_bench: {reason_from_result(result)}; log in {run.log}")
    return summary_from_file(run.summary, run.log), result


def _start(run: BenchRun) -> tuple[str, ...]:
    model = run.model
    paths = ("--model", str(model.om), "--output", str(run.output), "--output_dirname", RESULT)
    options = ("--outfmt", "NPY", "--device", str(model.device_number))
    gear = () if model.onnx.gear is None else ("--dymBatch", str(model.onnx.gear))
    return (model.bench.python, "-m", "ais_bench", *paths, *options, *gear)


def _check_paths(bench: AisBench, argv: tuple[str, ...]) -> None:
    paths = (path for word in argv[3:] if word.startswith("/") for path in word.split(","))
    odd = [path for path in paths if not PLAIN_PATH.fullmatch(path)]
    if odd and bench.generation == "2025":
        raise RunError(
            f"ais_bench of 2024 and later accepts only letters, digits, '_', '/', '.' and '-' in"
            f" paths, not {odd[0]}: set another cache_dir in site.toml"
        )
