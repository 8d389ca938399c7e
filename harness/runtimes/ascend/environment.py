"""Where CANN's tools are, the environment they need, and the versions found on disk.

atc and ais_bench run as child processes with their own environment: CANN's ``set_env.sh`` sourced
on top of a few of our variables, without our virtual environment.
"""

import dataclasses
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pydantic

from harness.errors import DeviceBroken
from harness.host.command import Command, RunCommand, executable, run_command
from harness.host.site import File, SiteTable

VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
# A terminal inside an IDE exports variables that atc reads as options (E10001, host_env_os).
KEPT = ("HOME", "LANG", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "USER")
KEPT_PREFIXES = ("ACL_", "ASCEND_", "EMULATOR_", "MAX_COMPILE_CORE_", "NPU_", "TE_", "TOOLCHAIN_")
SET_ENV_SETS = {"ASCEND_HOME_PATH", "ASCEND_OPP_PATH", "ASCEND_TOOLKIT_HOME"}
SET_ENV_PLACES = ("ascend-toolkit/set_env.sh", "cann/set_env.sh", "nnrt/set_env.sh")
ATC_MODULES = (
    *("attr", "decorator", "psutil", "sympy", "scipy", "absl", "google.protobuf", "cffi"),
    "numpy",
)
ATC_PYTHONS = ((3, 7), (3, 10))
# What to install for a module that has another name.
_PACKAGES = {
    "absl": "absl-py",
    "attr": "attrs",
    "google.protobuf": "protobuf",
    "numpy": "'numpy<2'",
}
_IMPORTS = """
import importlib, json, sys
found = {"python": list(sys.version_info[:3]), "executable": sys.executable, "modules": {}}
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        kept = {key: str(getattr(module, "__%s__" % key, "")) for key in ("file", "version")}
    except Exception as error:
        kept = {"error": "%s: %s" % (type(error).__name__, error)}
    found["modules"][name] = kept
print("IMPORTS " + json.dumps(found))
"""


class PinnedOm(SiteTable):
    """An offline model that somebody else built, which site.toml names for a cell.

    Attributes:
        om: the file.
        sha256: its digest, in hexadecimal.
    """

    om: File
    sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]


@dataclasses.dataclass(frozen=True)
class CannTools:
    """Where this host's tools are, and how long they may take.

    Attributes:
        npu_smi: executable name on PATH, or its path; the same for ``atc``.
        python: interpreter that can import ais_bench; empty to search for one.
        atc_python: interpreter called ``python3`` that atc should find first; empty for PATH's.
        set_env: CANN's environment script; None to search below ``ascend_root``.
        device_numbers: the only devices that may be used; empty for all.
        models: offline models that somebody else built, by cell.
        device_root: folder of the device nodes.
        scratch: folder for temporary files; clips pass through it if streaming is impossible.
        locks: folder of the locks that this host's processes share.
        logs: folder that keeps the tools' output.
        heartbeat_s: time between heartbeats of a long command.
        build_memory_gb: memory that one atc may need, which limits how many builds run at once.
        run_timeout_s: time limit of one ais_bench run; ``batch_timeout_s`` of one streamed batch.
        chunk_bytes: size of the input files in ``scratch`` at any time, if nothing streams.
        streaming: whether to try InferSession before files.
        temperature_limit_c: above this, a measurement does not count.
        settle_s: how long npu-smi may still list a process that has just ended.
        run: the function that runs a command.
    """

    npu_smi: str = "npu-smi"
    atc: str = "atc"
    python: str = ""
    atc_python: str = ""
    set_env: Path | None = None
    ascend_root: Path = Path("/usr/local/Ascend")
    device_numbers: tuple[int, ...] = ()
    models: Mapping[str, PinnedOm] = dataclasses.field(default_factory=dict)
    device_root: Path = Path("/dev")
    scratch: Path = Path(tempfile.gettempdir())
    locks: Path = Path(tempfile.gettempdir()) / "ascend-locks"
    logs: Path = Path(tempfile.gettempdir()) / "ascend-logs"
    heartbeat_s: float = 60.0
    probe_timeout_s: float = 30.0
    build_timeout_s: float = 4 * 3600.0
    run_timeout_s: float = 3600.0
    build_memory_gb: float = 8.0
    batch_timeout_s: float = 600.0
    chunk_bytes: int = 2 << 30
    streaming: bool = True
    temperature_limit_c: float = 85.0
    settle_s: float = 5.0
    run: RunCommand = run_command


@dataclasses.dataclass(frozen=True)
class Versions:
    """Versions found on disk; None for what is not installed."""

    driver: str | None
    firmware: str | None
    cann: str | None


def base_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the few variables that a child needs, without our virtual environment on PATH."""
    kept = {k: v for k, v in environ.items() if k in KEPT or k.startswith(KEPT_PREFIXES)}
    if sys.prefix != sys.base_prefix:
        ours = str(Path(sys.prefix) / "bin")
        folders = kept.get("PATH", os.defpath).split(os.pathsep)
        kept["PATH"] = os.pathsep.join(f for f in folders if f.rstrip("/") != ours)
    return kept


def cann_environment(tools: CannTools, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of CANN's tools.

    Raises:
        DeviceBroken: the environment script is missing or fails.
    """
    base = base_environment(environ)
    script = _set_env(tools, base)
    env = base if script is None else _sourced(tools, script, base)
    env["PYTHONUNBUFFERED"] = "1"
    return env


def toolkit_home(tools: CannTools, env: Mapping[str, str]) -> Path:
    """Return the folder of the CANN toolkit, whether or not it exists."""
    named = env.get("ASCEND_TOOLKIT_HOME") or env.get("ASCEND_HOME_PATH")
    places = (tools.ascend_root / "ascend-toolkit" / "latest", tools.ascend_root / "cann")
    return Path(named) if named else next((p for p in places if p.is_dir()), places[0])


def versions_on_disk(tools: CannTools, env: Mapping[str, str]) -> Versions:
    """Read the versions of driver, firmware and CANN from their info files."""
    return Versions(
        driver=_version(tools.ascend_root / "driver" / "version.info"),
        firmware=_version(tools.ascend_root / "firmware" / "version.info"),
        cann=_cann_version(toolkit_home(tools, env)),
    )


def visible_devices(env: Mapping[str, str]) -> tuple[int, ...] | None:
    """Return the device numbers that ``ASCEND_RT_VISIBLE_DEVICES`` allows, or None for all.

    A process numbers the devices that it sees from 0, in this order.

    Raises:
        DeviceBroken: the variable allows none, or they are not in ascending order.
    """
    text = env.get(VISIBLE)
    if text is None:
        return None
    # CANN, too, stops at the first bad character.
    leading = re.match(r"\d+(,\d+)*", text)
    numbers = tuple(int(n) for n in leading[0].split(",")) if leading else ()
    if not numbers or list(numbers) != sorted(set(numbers)):
        raise DeviceBroken(
            f"{VISIBLE}={text!r} must list device numbers in ascending order without spaces, such"
            ' as "0,2"; correct it or unset it'
        )
    return numbers


def atc_environment(tools: CannTools, env: Mapping[str, str]) -> dict[str, str]:
    """Return ``env`` with atc's Python first on PATH."""
    if not tools.atc_python:
        return dict(env)
    folder = str(Path(tools.atc_python).parent)
    return {**env, "PATH": os.pathsep.join((folder, env.get("PATH", os.defpath)))}


def atc_python_problems(tools: CannTools, env: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the Python that atc will use; empty if it is fine."""
    env = atc_environment(tools, env)
    if executable("python3", env) is None:
        return ["atc needs a python3 (3.7 to 3.10), and there is none on its PATH"]
    found, said = imported("python3", ATC_MODULES, tools, env)
    return _python_problems(found) if found else [f"atc's python3 does not run: it printed {said}"]


def imported(
    python: str, names: Sequence[str], tools: CannTools, env: Mapping[str, str]
) -> tuple[Mapping[str, Any], str]:
    """Have an interpreter import modules; return what it found, and the last lines that it printed.

    ``modules`` has the ``file`` and ``version`` of each, or the ``error``; ``python`` is its version and
    ``executable`` its path. Nothing is found where it does not run.
    """
    argv = (python, "-c", _IMPORTS, *names)
    result = tools.run(Command(argv, tools.probe_timeout_s, cwd=Path("/"), env=env))
    answer = re.search(r"^IMPORTS (.*)$", result.output, re.MULTILINE)
    return (json.loads(answer[1]) if answer else {}), result.last_lines


def _python_problems(found: Mapping[str, Any]) -> list[str]:
    where, modules = f"atc's python3 at {found['executable']}", found["modules"]
    problems = []
    if not ATC_PYTHONS[0] <= tuple(found["python"][:2]) <= ATC_PYTHONS[1]:
        version = ".".join(str(n) for n in found["python"])
        problems.append(f"{where} is {version}; CANN 5 to 8.1 needs 3.7 to 3.10: set another one")
    for name, module in modules.items():
        if error := module.get("error"):
            package = _PACKAGES.get(name, name)
            problems.append(f"{where} cannot import {name} ({error}): pip install {package} there")
    # What is left of a removed package imports, too, but has no version.
    numpy = modules["numpy"].get("version", "1.") or "without a version"
    if not numpy.startswith("1."):
        problems.append(f"{where} has numpy {numpy}: pip install 'numpy<2' there")
    return problems


def _set_env(tools: CannTools, base: Mapping[str, str]) -> Path | None:
    if tools.set_env is not None:
        if not tools.set_env.is_file():
            raise DeviceBroken(
                f"CANN's environment script {tools.set_env} does not exist: point site.toml at the"
                " set_env.sh of the installed toolkit"
            )
        return tools.set_env
    if base.get("ASCEND_TOOLKIT_HOME"):
        return None
    places = (tools.ascend_root / place for place in SET_ENV_PLACES)
    return next((place for place in places if place.is_file()), None)


def _sourced(tools: CannTools, script: Path, base: Mapping[str, str]) -> dict[str, str]:
    # Its exit status is meaningless (its last line may be a test); its output goes before the NUL.
    source = 'source "$1"; printf "\\0"; exec env -0'
    argv = ("bash", "--norc", "--noprofile", "-c", source, "bash", str(script))
    result = tools.run(Command(argv, tools.probe_timeout_s, env=base))
    noise, *pairs = result.output.split("\0")
    env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if not SET_ENV_SETS & env.keys():
        late = f" within {tools.probe_timeout_s:g} s" if result.timed_out else ""
        raise DeviceBroken(
            f"CANN's environment script {script} set none of {', '.join(sorted(SET_ENV_SETS))}"
            f"{late} and printed {noise.strip()[-300:] or 'nothing'}: point site.toml at the"
            " set_env.sh of the installed toolkit"
        )
    return env


def _version(path: Path) -> str | None:
    values = _values(path)
    return values.get("package_version") or values.get("version")


def _values(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name.strip().lower(): value.strip().strip('"') for name, value in pairs}


def _cann_version(home: Path) -> str | None:
    for info in sorted(home.glob("*-linux/ascend_toolkit_install.info")):
        if version := _version(info):
            return version
    config = _values(home / "version.cfg").get("runtime_installed_version", "")
    if installed := re.search(r":([\w.]+)\]", config):
        return installed[1]
    parts = ("toolkit", "runtime", "compiler", "opp")
    return next((v for part in parts if (v := _version(home / part / "version.info"))), None)
