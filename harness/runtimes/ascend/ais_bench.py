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

Generation = Literal["2023", "2025"]

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
class BenchRun:
    """The files of one ais_bench run: ``output``/``name`` and ``name``_summary.json beside it.

    ``folder`` is a fresh private folder and the working directory. ``gear`` is the batch size to set,
    where the offline model has several.
    """

    folder: Path
    log: Path
    gear: int | None = None
    name: str = "result"

    @property
    def output(self) -> Path:
        """The folder given as --output."""
        return self.folder / "out"

    @property
    def summary(self) -> Path:
        """The file that ais_bench writes last, and only on success."""
        return self.output / f"{self.name}_summary.json"


def found_ais_bench(tools: CannTools, env: Mapping[str, str]) -> AisBench:
    """Return the interpreter that has ais_bench: from ``tools``, else PATH, else our own.

    Raises:
        RunError: no interpreter has it; the message quotes each one's answer.
    """
    candidates = [tools.python] if tools.python else ["python3", sys.executable]
    answers = []
    for python in candidates:
        try:
            result = _help(python, tools, env)
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


def accuracy_command(
    bench: AisBench, om: Path, inputs: Sequence[Path], run: BenchRun, device_number: int
) -> tuple[str, ...]:
    """Return the command line that runs every file once; each input of the model has a folder."""
    return (*_start(bench, om, run, device_number), "--input", ",".join(map(str, inputs)))


def dump_command(
    bench: AisBench,
    om: Path,
    inputs: Sequence[Path],
    run: BenchRun,
    device_number: int,
    config: Path,
) -> tuple[str, ...]:
    """Return the command line that runs one batch once, since every execution dumps."""
    once = ("--warmup_count", "0", "--acl_json_path", str(config))
    return (*accuracy_command(bench, om, inputs, run, device_number), *once)


def loop_command(
    bench: AisBench, om: Path, run: BenchRun, device_number: int, loop: int, warmup: int
) -> tuple[str, ...]:
    """Return the command line that measures speed as the guides do: ``loop`` pure inferences."""
    counts = ("--loop", str(loop), "--warmup_count", str(max(warmup, MIN_WARMUP)))
    return (*_start(bench, om, run, device_number), *counts)


def first_command(bench: AisBench, om: Path, run: BenchRun, device_number: int) -> tuple[str, ...]:
    """Return the command line of a single inference, the first after the model was loaded."""
    return (*_start(bench, om, run, device_number), "--loop", "1", "--warmup_count", "0")


def summary_of_run(
    bench: AisBench, argv: tuple[str, ...], run: BenchRun, tools: CannTools
) -> tuple[BenchSummary, CommandResult]:
    """Run ais_bench and return its summary, if both exit status and file show success.

    Raises:
        RunError: it failed, hung, crashed or left no complete summary.
    """
    _check_paths(bench, argv)
    # 2024+ refuses an output folder above 0750, and checks its name against the working directory.
    run.output.mkdir(mode=0o750, parents=True)
    command = Command(argv, tools.run_timeout_s, run.folder, bench.env, run.log)
    result = tools.run(command)
    if result.rc or result.timed_out or not run.summary.is_file():
        raise RunError(f"ais_bench: {reason_from_result(result)}; log in {run.log}")
    return summary_from_file(run.summary, run.log), result


def _start(bench: AisBench, om: Path, run: BenchRun, device_number: int) -> tuple[str, ...]:
    paths = ("--model", str(om), "--output", str(run.output), "--output_dirname", run.name)
    options = ("--outfmt", "NPY", "--device", str(device_number))
    gear = () if run.gear is None else ("--dymBatch", str(run.gear))
    return (bench.python, "-m", "ais_bench", *paths, *options, *gear)


def _help(python: str, tools: CannTools, env: Mapping[str, str]) -> CommandResult:
    argv = (python, "-m", "ais_bench", "--help")
    return tools.run(Command(argv, tools.probe_timeout_s, cwd=Path("/"), env=env))


def _check_paths(bench: AisBench, argv: tuple[str, ...]) -> None:
    paths = (path for word in argv[3:] if word.startswith("/") for path in word.split(","))
    odd = [path for path in paths if not PLAIN_PATH.fullmatch(path)]
    if odd and bench.generation == "2025":
        raise RunError(
            f"ais_bench of 2024 and later accepts only letters, digits, '_', '/', '.' and '-' in"
            f" paths, not {odd[0]}: set another cache_dir in site.toml"
        )
