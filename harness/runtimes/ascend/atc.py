"""Compile an ONNX file with atc; success means that status, final line and file agree."""

import dataclasses
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import BuildError, RunError
from harness.host.command import Command, CommandResult, emulator_stamps, executable
from harness.precision import Precision
from harness.runtimes.ascend.atc_errors import PYTHON, SUCCESS_LINE, reason_from_output
from harness.runtimes.ascend.atc_options import words_for_cann
from harness.runtimes.ascend.build_slots import GIB, Say, build_slot
from harness.runtimes.ascend.environment import (
    CannTools,
    atc_environment,
    atc_python_problems,
    cann_environment,
    versions_on_disk,
)
from harness.runtimes.ascend.om_graph import operators_of_om
from harness.runtimes.ascend.passport import (
    mode_of,
    passport_of_om,
    passport_problems,
    shape_options,
)
from harness.runtimes.ascend.precision import check_precision, precision_words, without_effect
from harness.spec import OnnxModel

OOM_RC = 137
OOM = (
    f"it was killed (status {OOM_RC}), as the kernel does when memory runs out: set"
    " TE_PARALLEL_COMPILER=1, run the suite without -n, or build on a host with more memory"
)
OM_SUFFIX = r"(_[a-z]+_[a-z0-9_]+)?\.om"
WARNING = re.compile(r"^\s*(W\d{5}): ?(.*)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class AtcRun:
    """What one run of atc makes, in which folder, and with which tools in which environment."""

    onnx: OnnxModel
    soc_version: str
    precision: Precision | None
    folder: Path
    tools: CannTools
    env: Mapping[str, str]

    @functools.cached_property
    def cann(self) -> str | None:
        """The version of CANN that is installed."""
        return versions_on_disk(self.tools, self.env).cann

    @property
    def log(self) -> Path:
        """The file that gets what atc prints."""
        name = f"atc-{stem_of(self.onnx)}-{self.soc_version}-{os.getpid()}.log"
        return self.tools.logs / name

    def without_path(self, text: str) -> str:
        """Return words of a command line with the ONNX file's name in place of its path."""
        return text.replace(f"{self.onnx.artifact.path.resolve().parent}/", "")


def stem_of(onnx: OnnxModel) -> str:
    """Return the name of the offline model; atc accepts only plain characters."""
    return re.sub(
        r"\W", "_", f"{onnx.spec.name}_{onnx.spec.label_of_file(onnx.batch)}", flags=re.ASCII
    )


def atc_command(
    onnx: OnnxModel, soc_version: str, output: str, atc: str = "atc"
) -> tuple[str, ...]:
    """Return the guides' command line for this file, its batch size or gears, and this chip."""
    values = {
        "model": onnx.artifact.path,
        "output": output,
        "soc_version": soc_version,
        **shape_options(onnx),
    }
    gears = values.get("dynamic_batch_size")
    more = (f"--dynamic_batch_size={gears}",) if gears else ()
    return (atc, *(word.format_map(values) for word in onnx.spec.atc), *more)


def built_om(
    onnx: OnnxModel,
    soc_version: str,
    target: Path,
    tools: CannTools,
    say: Say = lambda text: None,
    precision: Precision | None = None,
) -> Mapping[str, Any]:
    """Compile ``onnx`` for ``soc_version`` into ``target`` and return facts for its provenance.

    Raises:
        BuildError: atc failed, was killed, or reported success without writing a usable file; or
            the chip does not take the precision, or names that it keeps change nothing.
        DeviceBroken: CANN's environment script does not work.
    """
    env = cann_environment(tools)
    need_bytes = int(tools.build_memory_gb * GIB)
    try:
        target.unlink(missing_ok=True)
        tools.scratch.mkdir(parents=True, exist_ok=True)
        with (
            build_slot(tools.locks, need_bytes, say),
            tempfile.TemporaryDirectory(prefix="atc-", dir=tools.scratch) as folder,
        ):
            run = AtcRun(onnx, soc_version, precision, Path(folder), tools, env)
            command, files = _command(run, say)
            result = _ran(run, command)
            om = _om_of(run, result)
            _check_kept(run, om)
            facts = {**_facts(run, command, result, om), **_passport(run, command, om)}
            facts |= {"files": files} if files else {}
            facts |= {"precision": dataclasses.asdict(precision)} if precision else {}
            _put(om, target)
    except OSError as error:
        raise BuildError(
            f"atc for {onnx.spec.name} batch {onnx.batch} cannot use {tools.scratch} or"
            f" {target.parent}: {error}; free space there or set another cache_dir in"
            " site.toml"
        ) from error
    return facts


def _put(om: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    shutil.move(om, partial)
    partial.replace(target)


def _command(run: AtcRun, say: Say) -> tuple[Command, Mapping[str, str]]:
    """Write the files that the command line names; return it, and those of the guide's words."""
    onnx, stem, tools = run.onnx, stem_of(run.onnx), run.tools
    path = onnx.artifact.path.resolve()
    resolved = dataclasses.replace(onnx, artifact=dataclasses.replace(onnx.artifact, path=path))
    # The output path is relative: newer versions add a suffix at the first ".om" of the whole path.
    guide = atc_command(resolved, run.soc_version, stem, tools.atc)
    words, files = words_for_cann(guide, run.cann)
    for name, text in files.items():
        (run.folder / name).write_text(text, encoding="utf-8")
    if run.precision is not None:
        check_precision(run.precision, run.soc_version)
        words += precision_words(run.precision, run.cann, run.folder, onnx.spec.atc)

    def beat(seconds: float, line: str) -> None:
        say(f"atc {stem}: {seconds:.0f} s, last line: {line or '(none)'}")

    env = atc_environment(tools, run.env)
    limits = tools.build_timeout_s, run.folder, env, run.log, beat, tools.heartbeat_s
    return Command(words, *limits), files


def _check_kept(run: AtcRun, om: Path) -> None:
    """Refuse a model that does not keep what its precision names."""
    if run.precision is None or not run.precision.keep:
        return
    operators = operators_of_om(om, run.folder, run.tools, run.env)
    if lost := without_effect(run.precision.keep, operators):
        raise _refused(run, f"its keep list has names without effect: {'; '.join(lost)}")


def _ran(run: AtcRun, command: Command) -> CommandResult:
    try:
        return run.tools.run(command)
    except FileNotFoundError as error:
        path = (command.env or {}).get("PATH")
        raise BuildError(
            f"atc was not found: {error}; PATH is {path}; install the CANN toolkit and point"
            " site.toml at its set_env.sh"
        ) from error


def _om_of(run: AtcRun, result: CommandResult) -> Path:
    """Return the file that atc wrote, if exit status, final line and file all show success."""
    if result.timed_out:
        limit_s = run.tools.build_timeout_s
        raise _refused(run, f"it was killed after {limit_s:g} s without finishing")
    if result.rc == OOM_RC:
        raise _refused(run, OOM)
    if result.rc or SUCCESS_LINE not in result.output:
        raise _refused(run, _failure_text(run, result))
    stem = stem_of(run.onnx)
    pattern = re.compile(re.escape(stem) + OM_SUFFIX)
    found = [p for p in run.folder.iterdir() if pattern.fullmatch(p.name)]
    if len(found) != 1 or found[0].stat().st_size == 0:
        names = ", ".join(f"{p.name} ({p.stat().st_size} B)" for p in found) or "none"
        raise _refused(
            run,
            f"it printed success but left no single usable {stem}.om; files: {names}; check for"
            " a full disk or quota",
        )
    return found[0]


def _passport(run: AtcRun, command: Command, om: Path) -> dict[str, Any]:
    """Return what the offline model says of itself, or why atc cannot tell.

    Raises:
        BuildError: it is not the model that was asked for.
    """
    try:
        found = passport_of_om(om, run.folder, run.tools, run.env)
    except RunError as error:
        return {"passport_error": str(error)}
    mode = mode_of(" ".join(command.argv))
    if problems := list(passport_problems(found, run.soc_version, shape_options(run.onnx), mode)):
        raise _refused(run, f"it wrote another model than was asked for: {'; '.join(problems)}")
    named = found.model_copy(update={"command": run.without_path(found.command)})
    return {"passport": named.model_dump(mode="json")}


def _failure_text(run: AtcRun, result: CommandResult) -> str:
    reason = reason_from_output(result.output)
    if reason is None and not result.rc:
        reason = f"it exited with status 0 but never printed '{SUCCESS_LINE}'"
    text = reason or f"it exited with status {result.rc} and printed {result.last_lines}"
    if reason is None or PYTHON in reason:
        text += "".join(f"; {one}" for one in atc_python_problems(run.tools, run.env))
    return text


def _refused(run: AtcRun, reason: str) -> BuildError:
    return BuildError(
        f"atc did not build the offline model of {run.onnx.spec.name} batch {run.onnx.batch} for"
        f" {run.soc_version}: {reason}; log in {run.log}"
    )


def _facts(run: AtcRun, command: Command, result: CommandResult, om: Path) -> dict[str, Any]:
    atc = executable(run.tools.atc, command.env)
    return {
        "soc_version": run.soc_version,
        "cann": run.cann or "unknown",
        "command": [run.without_path(word) for word in command.argv],
        "seconds": round(result.seconds, 1),
        "om_name": om.name,
        "warnings": [f"{code} {text}".strip() for code, text in WARNING.findall(result.output)],
        "emulated": bool(emulator_stamps([atc], run.env)),
    }
