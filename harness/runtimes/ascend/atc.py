"""Compile an ONNX file with atc; success means that status, final line and file agree."""

import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import BuildError, RunError
from harness.host.command import (
    Command,
    CommandHeartbeat,
    CommandResult,
    emulator_stamps,
    executable,
)
from harness.precision import Precision
from harness.runtimes.ascend.atc_errors import PYTHON, SUCCESS_LINE, reason_from_output
from harness.runtimes.ascend.atc_options import words_for_cann
from harness.runtimes.ascend.build_slots import GIB, Say, build_slot
from harness.runtimes.ascend.environment import (
    CannTools,
    Versions,
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
    """One run of atc: its model, its chip, and its folder with the ``files`` that the command names."""

    onnx: OnnxModel
    soc_version: str
    folder: Path
    command: Command
    files: Mapping[str, str]

    def with_words(self, words: Sequence[str]) -> "AtcRun":
        """Return the run with more words on its command line."""
        command = dataclasses.replace(self.command, argv=(*self.command.argv, *words))
        return dataclasses.replace(self, command=command)

    @property
    def stem(self) -> str:
        """Name of the offline model without its suffix."""
        return stem_of(self.onnx)


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
            words = _words(onnx, soc_version, Path(folder), precision, versions_on_disk(tools, env))
            run = _atc_run(onnx, soc_version, Path(folder), tools, env, _heartbeat(onnx, say))
            run = run.with_words(words)
            result = _ran(run, tools)
            om = _om_of(run, result, tools, env)
            _check_kept(run, om, precision, tools, env)
            facts = {**_facts(run, result, om, tools, env), **_passport(run, om, tools, env)}
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


def _atc_run(
    onnx: OnnxModel,
    soc_version: str,
    folder: Path,
    tools: CannTools,
    env: Mapping[str, str],
    heartbeat: CommandHeartbeat,
) -> AtcRun:
    resolved = dataclasses.replace(
        onnx, artifact=dataclasses.replace(onnx.artifact, path=onnx.artifact.path.resolve())
    )
    # The output path is relative: newer versions add a suffix at the first ".om" of the whole path.
    cann = versions_on_disk(tools, env).cann
    words, files = words_for_cann(
        atc_command(resolved, soc_version, stem_of(onnx), tools.atc), cann
    )
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    log = tools.logs / f"atc-{stem_of(onnx)}-{soc_version}-{os.getpid()}.log"
    child_env = atc_environment(tools, env)
    command = Command(
        words, tools.build_timeout_s, folder, child_env, log, heartbeat, tools.heartbeat_s
    )
    return AtcRun(onnx, soc_version, folder, command, files)


def _words(
    onnx: OnnxModel,
    soc_version: str,
    folder: Path,
    precision: Precision | None,
    versions: Versions,
) -> tuple[str, ...]:
    if precision is None:
        return ()
    check_precision(precision, soc_version)
    return precision_words(precision, versions.cann, folder, onnx.spec.atc)


def _check_kept(
    run: AtcRun, om: Path, precision: Precision | None, tools: CannTools, env: Mapping[str, str]
) -> None:
    """Refuse a model that does not keep what its precision names."""
    if precision is None or not precision.keep:
        return
    lost = without_effect(precision.keep, operators_of_om(om, run.folder, tools, env))
    if lost:
        raise _refused(run, f"its keep list has names without effect: {'; '.join(lost)}")


def _heartbeat(onnx: OnnxModel, say: Say) -> CommandHeartbeat:
    def beat(seconds: float, line: str) -> None:
        say(f"atc {stem_of(onnx)}: {seconds:.0f} s, last line: {line or '(none)'}")

    return beat


def _ran(run: AtcRun, tools: CannTools) -> CommandResult:
    try:
        return tools.run(run.command)
    except FileNotFoundError as error:
        path = (run.command.env or {}).get("PATH")
        raise BuildError(
            f"atc was not found: {error}; PATH is {path}; install the CANN toolkit and point"
            " site.toml at its set_env.sh"
        ) from error


def _om_of(run: AtcRun, result: CommandResult, tools: CannTools, env: Mapping[str, str]) -> Path:
    """Return the file that atc wrote, if exit status, final line and file all show success."""
    if result.timed_out:
        raise _refused(run, f"it was killed after {tools.build_timeout_s:g} s without finishing")
    if result.rc == OOM_RC:
        raise _refused(run, OOM)
    if result.rc or SUCCESS_LINE not in result.output:
        raise _refused(run, _failure_text(run, result, tools, env))
    pattern = re.compile(re.escape(run.stem) + OM_SUFFIX)
    found = [p for p in run.folder.iterdir() if pattern.fullmatch(p.name)]
    if len(found) != 1 or found[0].stat().st_size == 0:
        names = ", ".join(f"{p.name} ({p.stat().st_size} B)" for p in found) or "none"
        raise _refused(
            run,
            f"it printed success but left no single usable {run.stem}.om; files: {names}; check for"
            " a full disk or quota",
        )
    return found[0]


def _passport(run: AtcRun, om: Path, tools: CannTools, env: Mapping[str, str]) -> dict[str, Any]:
    """Return what the offline model says of itself, or why atc cannot tell.

    Raises:
        BuildError: it is not the model that was asked for.
    """
    try:
        found = passport_of_om(om, run.folder, tools, env)
    except RunError as error:
        return {"passport_error": str(error)}
    mode = mode_of(" ".join(run.command.argv))
    if problems := list(passport_problems(found, run.soc_version, shape_options(run.onnx), mode)):
        raise _refused(run, f"it wrote another model than was asked for: {'; '.join(problems)}")
    command = found.command.replace(f"{run.onnx.artifact.path.resolve().parent}/", "")
    return {"passport": found.model_copy(update={"command": command}).model_dump(mode="json")}


def _failure_text(
    run: AtcRun, result: CommandResult, tools: CannTools, env: Mapping[str, str]
) -> str:
    reason = reason_from_output(result.output)
    if reason is None and not result.rc:
        reason = f"it exited with status 0 but never printed '{SUCCESS_LINE}'"
    text = reason or f"it exited with status {result.rc} and printed {result.last_lines}"
    if reason is None or PYTHON in reason:
        problems = atc_python_problems(tools, env)
        text += "".join(f"; {problem}" for problem in problems)
    return text


def _refused(run: AtcRun, reason: str) -> BuildError:
    return BuildError(
        f"atc did not build the offline model of {run.onnx.spec.name} batch {run.onnx.batch} for"
        f" {run.soc_version}: {reason}; log in {run.command.log}"
    )


def _facts(
    run: AtcRun, result: CommandResult, om: Path, tools: CannTools, env: Mapping[str, str]
) -> dict[str, Any]:
    atc = executable(tools.atc, run.command.env)
    versions = versions_on_disk(tools, env)
    argv = (
        a.replace(str(run.onnx.artifact.path.resolve().parent) + "/", "") for a in run.command.argv
    )
    return {
        "soc_version": run.soc_version,
        "cann": versions.cann or "unknown",
        "command": list(argv),
        **({"files": dict(run.files)} if run.files else {}),
        "seconds": round(result.seconds, 1),
        "om_name": om.name,
        "warnings": [f"{code} {text}".strip() for code, text in WARNING.findall(result.output)],
        "emulated": bool(emulator_stamps([atc], env)),
    }
