"""Faults of how pytest is called: options and plugins that hide, swallow or deselect."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from harness.selftest.device_faults import always, faulty_device
from harness.selftest.faults import MODEL, Fault, Trial
from harness.selftest.plugins import (
    Again,
    AllPassed,
    Deselects,
    ExitZero,
    GreenRecord,
    Marks,
    NothingCalled,
    NothingRun,
    OwnCheck,
    Swallows,
)
from harness.selftest.setting import Answer, Setting

_WRONG = faulty_device(always(lambda rows: np.roll(rows, 1, axis=1)))


def _red(setting: Setting, *options: str, plugin: object = None) -> Answer:
    """Run a red check with options or a plugin that would hide it; return all that was printed."""
    if plugin is not None:
        setting.plugins.append(plugin)
    words = ("-m", f"{setting.device} and parity", "--model", MODEL, "--tier", "selftest")
    with _WRONG(setting):
        return setting.pytest(*words, "--run-dir", str(setting.folder / "run"), *options)


def _with_options(*options: str) -> Trial:
    return lambda setting: _red(setting, *options)


def _with_plugin(make: Callable[[], object]) -> Trial:
    return lambda setting: _red(setting, plugin=make())


def _judged_again(setting: Setting) -> Answer:
    _red(setting, plugin=GreenRecord())
    contract = ("--thresholds", str(setting.contract_file()))
    return setting.harness("judge", str(setting.folder / "run"), *contract)


_NOT_RUN, _FAILED = rf"NOT RUN: {MODEL}-\S+:parity", rf"FAIL: {MODEL}-\S+:parity"
_OPTIONS: tuple[tuple[str, str, Trial], ...] = (
    ("-k that leaves it out", _NOT_RUN, _with_options("-k", "not parity")),
    ("--deselect", _NOT_RUN, _with_options("--deselect", "acceptance/test_parity.py")),
    ("--ignore", _NOT_RUN, _with_options("--ignore", "acceptance/test_parity.py")),
    ("--ignore-glob", _NOT_RUN, _with_options("--ignore-glob", "*parity*")),
    ("--setup-plan", _NOT_RUN, _with_options("--setup-plan")),
    ("--setup-only", _NOT_RUN, _with_options("--setup-only")),
    ("-p no:acceptance", "unrecognized arguments", _with_options("-p", "no:acceptance")),
    (
        "-p no:acceptance-controller",
        "do not block it",
        _with_options("-p", "no:acceptance-controller"),
    ),
    ("no summary and no traceback", "1 failed", _with_options("-q", "--no-summary", "--tb=no")),
    (
        "a device that is not asked for",
        "NOT RUN|usage|no tests ran",
        _with_options("-m", f"parity and not {MODEL} and smoke"),
    ),
    ("a plugin that reports every test as passed", _FAILED, _with_plugin(AllPassed)),
    ("a plugin that ends with exit status 0", _FAILED, _with_plugin(ExitZero)),
    ("a plugin that deselects", _NOT_RUN, _with_plugin(Deselects)),
    (
        "a plugin that marks as expected to fail",
        _FAILED,
        _with_plugin(lambda: Marks(pytest.mark.xfail(reason="known"))),
    ),
    (
        "a plugin that marks to be skipped",
        _NOT_RUN,
        _with_plugin(lambda: Marks(pytest.mark.skip(reason="later"))),
    ),
    ("a plugin that calls no test", _NOT_RUN, _with_plugin(NothingCalled)),
    ("a plugin that runs no test", _NOT_RUN, _with_plugin(NothingRun)),
    ("a plugin that swallows what a test raises", _FAILED, _with_plugin(Swallows)),
    ("a plugin with a check that does nothing", _NOT_RUN, _with_plugin(OwnCheck)),
    ("a plugin that runs every test again", "was run 2 times", _with_plugin(Again)),
    ("a plugin that writes a pass into the record", _FAILED, _judged_again),
)


def option_faults() -> Iterable[Fault]:
    """Return the faults of options and plugins."""
    for name, finding, trial in _OPTIONS:
        yield Fault("pytest", name, "exit status and summary", finding, trial)
