"""Where faults are planted: a cache, a contract and a site of their own, and real runs in them."""

import contextlib
import dataclasses
import functools
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from harness.build import build
from harness.build.workbench import Workbench
from harness.check import checks
from harness.check.timed_session import time_session
from harness.errors import StageError
from harness.host.child_process import run_in_child
from harness.host.environment import processor_name
from harness.host.progress import Progress
from harness.host.site import FIXTURES, load_site
from harness.record.record import RunDirectory
from harness.spec import CHECKS, Cell
from harness.testing import run_here

ROOT = FIXTURES.parent
BATCH = 4
# A tier of the tiny models; a release is what `harness report` decides about.
TIERS = """
[tiers.{name}]
cells = ["nonlocal_tiny-{device}-bs4", "timesformer_tiny-{device}-bs4"]
required = ["*:*"]
parity_inputs = {{ default = 64 }}
timing.default = {{ sessions_min = {least}, sessions_max = {sessions}, warmup_queries = 3, min_queries = 20, \
min_seconds = {seconds} }}
"""
# Environment variables that would change a run.
_FOREIGN = ("ACCEPTANCE_SITE", "ACCEPTANCE_CACHE_DIR", "ACCEPTANCE_CHECKPOINTS", "PYTEST_ADDOPTS")


@dataclasses.dataclass(frozen=True)
class Answer:
    """How a run or a command ended: its exit status, and what it said."""

    status: int
    said: str


@dataclasses.dataclass
class Setting:
    """A place for one fault; what a plant changes in it holds for that fault alone.

    Attributes:
        device: name of the device that is tested.
        folder: of this fault alone.
        cache: the artifact store that runs use.
        contract: text of the thresholds.
        runs: two signed runs that are green in all four checks; made on first use.
        shared: what was measured without a fault, for the faults that follow.
        site: more lines of site.toml.
        plugins: what runs register with pytest.
    """

    device: str
    folder: Path
    cache: Path
    contract: str
    runs: Callable[[], tuple[Path, Path]]
    shared: dict[str, Any]
    site: str = ""
    plugins: list[object] = dataclasses.field(default_factory=list)

    @property
    def clean_run(self) -> Path:
        """The folder of a green run, signed with the key beside it."""
        return self.runs()[0]

    @property
    def other_run(self) -> Path:
        """The folder of another green run of the same cell."""
        return self.runs()[1]

    def cell(self, model: str) -> Cell:
        """Return the cell that faults are planted in."""
        return Cell(model, self.device, BATCH)

    def run(self, check: str, model: str, *options: str, tier: str = "selftest") -> Answer:
        """Run one check, or ``all`` four, by pytest; return the exit status and what the records say.

        Without a record, the answer is what was printed.
        """
        expression = self.device if check == "all" else f"{self.device} and {check}"
        narrowed = ("-m", expression, "--model", model, "--batch-size", str(BATCH), "--tier", tier)
        run = self.new_folder()
        status, printed = self._pytest(*narrowed, "--run-dir", str(run), *options)
        wanted = {f"{self.cell(model).id}:{one}" for one in (CHECKS if check == "all" else [check])}
        stored = RunDirectory(run).records() if (run / "run.json").exists() else []
        found = [one for one in stored if one.id in wanted]
        said = [f"{one.check} {one.verdict.status}: {one.verdict.reason}" for one in found]
        return Answer(status, "\n".join(said) or printed)

    def pytest(self, *options: str) -> Answer:
        """Run pytest with these options; return its exit status and what it printed."""
        return Answer(*self._pytest(*options))

    def harness(self, *arguments: str) -> Answer:
        """Run a command of ``harness``; return its exit status and what it printed."""
        command = [sys.executable, "-m", "harness", *self.site_options(), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return Answer(done.returncode, done.stdout + done.stderr)

    def new_folder(self) -> Path:
        """Return the path of a folder that is not there yet."""
        numbers = itertools.count()
        return next(p for n in numbers if not (p := self.folder / f"run-{n}").exists())

    def bench(self) -> Workbench:
        """Return the workbench that a run has."""
        site = load_site(self._site_file(), {})
        return Workbench(site, self.folder / "logs", Progress())

    def without(self, *kinds: str) -> None:
        """Take some kinds of artifacts out of the cache, so that they are built again."""
        for kind in kinds:
            shutil.rmtree(self.cache / kind, ignore_errors=True)

    def contract_file(self) -> Path:
        """Write the contract and return its path."""
        path = self.folder / "thresholds.toml"
        if not path.exists() or path.read_text("utf-8") != self.contract:
            path.write_text(self.contract, encoding="utf-8")
        return path

    def site_options(self) -> tuple[str, ...]:
        """Return the options that name the site."""
        return ("--site", str(self._site_file()))

    def _site_file(self) -> Path:
        path = self.folder / "site.toml"
        places = {"cache_dir": self.cache, "run_root": self.folder / "runs"}
        places["lock_dir"] = self.folder / "locks"
        lines = "".join(f'{name} = "{place}"\n' for name, place in places.items())
        path.write_text(lines + self.site, encoding="utf-8")
        return path

    def _pytest(self, *options: str) -> tuple[int, str]:
        arguments = [
            *("--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), "--assert=plain", "-s"),
            *("-p", "no:cacheprovider", *self.site_options()),
            *("--thresholds", str(self.contract_file()), *options, str(ROOT / "acceptance")),
        ]
        text = io.StringIO()
        with redirect_stdout(text), redirect_stderr(text), _own_environment(), stages_here():
            status = int(pytest.main(arguments, [*self.plugins]))
        return status, text.getvalue()


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    with patch.dict(os.environ):
        for name in _FOREIGN:
            os.environ.pop(name, None)
        yield


@contextlib.contextmanager
def stages_here() -> Iterator[None]:
    """Run stages in this process, where a fault is planted; a timing keeps its own process.

    The search for the node that diverges takes seconds and decides nothing, so it is left out.
    """
    import torch

    # On a busy host, threads that wait for one another cost the tiny models more time than they save.
    torch.set_num_threads(1)

    def run(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        runner = run_in_child if function is time_session else run_here
        return runner(function, *args, **options)

    with contextlib.ExitStack() as stack:
        for module in (build, checks):
            stack.enter_context(patch.object(module, "run_in_child", run))
        stack.enter_context(patch.object(checks, "divergence", lambda *_: None))
        yield


@dataclasses.dataclass(frozen=True)
class Bench:
    """Makes a setting for each fault; everything that is built without a fault is built once."""

    device: str
    folder: Path
    cache: Path
    shared: dict[str, Any] = dataclasses.field(default_factory=dict)

    def setting(self, name: str) -> Setting:
        """Return a new setting."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        cache = folder / "cache"
        # Files of the store are never rewritten, so links suffice. Locks and what a killed run left stay behind.
        ignored = shutil.ignore_patterns("*.lock", "lock", "partial")
        self.cache.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.cache, cache, ignore=ignored, copy_function=os.link)
        return Setting(self.device, folder, cache, self.contract, lambda: self._runs, self.shared)

    @functools.cached_property
    def contract(self) -> str:
        """Return the contract of this repository with two tiers of the tiny models."""
        text = (ROOT / "thresholds.toml").read_text(encoding="utf-8")
        tiers = (("selftest", 6, 1.0), ("release", 1, 0.1))
        made = [
            TIERS.format(
                name=name, device=self.device, least=min(2, most), sessions=most, seconds=seconds
            )
            for name, most, seconds in tiers
        ]
        return text[: text.index("[tiers.")] + "".join(made)

    @functools.cached_property
    def _runs(self) -> tuple[Path, Path]:
        """Make two green runs and sign them."""
        setting = self.setting("signed")
        setting.contract = wide(self.contract)
        setting.harness("keygen", str(setting.folder / "key"), "--owner", "selftest")
        roots = (setting.folder / "clean", setting.folder / "other")
        for root in roots:
            words = ("-m", self.device, "--model", "nonlocal_tiny", "--tier", "release")
            answer = setting.pytest(*words, "--run-dir", str(root))
            if answer.status:
                raise StageError(f"a run without a fault is not green: {answer.said}")
            setting.harness("sign", str(root), "--key", str(setting.folder / "key"))
        return roots


def wide(contract: str) -> str:
    """Return a contract whose floors of speed are too low to stop a run that is not about speed."""
    return re.sub(r"tolerance = [\d.]+", "tolerance = 0.9", contract)


def of_this_machine(contract: str) -> str:
    """Return a contract whose goldens are of this host's processor, and of whatever chip it has."""
    contract = contract.replace('golden_on."', 'golden_on."another ')
    contract = re.sub(r', chip = "[^"]*"', "", contract)
    return re.sub(r'(?m)^processor = ".*"$', f'processor = "{processor_name()}"', contract)
