"""What the options of a run say: its contract, what is asked of it, and the language it speaks."""

import contextlib
from collections.abc import Generator
from pathlib import Path

import pytest

from harness.contract.scope import Scope, scope_from_options
from harness.contract.thresholds import thresholds_from_file
from harness.errors import HarnessError
from harness.language import speaking
from harness.pytest_plugin.farm import site_from_config

SCOPE: pytest.StashKey[Scope] = pytest.StashKey()


@contextlib.contextmanager
def usage_errors() -> Generator[None]:
    """Show errors of the user as pytest shows wrong options, without a traceback."""
    try:
        yield
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error


def scope_from_config(config: pytest.Config) -> Scope:
    """Return what the options of this process ask for.

    Raises:
        pytest.UsageError: they cannot be used.
    """
    if SCOPE not in config.stash:
        option = config.getoption
        devices = [name.strip() for name in option("--require-devices").split(",") if name.strip()]
        with usage_errors():
            config.stash[SCOPE] = scope_from_options(
                thresholds_from_file(thresholds_path(config)),
                option("--tier"),
                option("--model"),
                option("--batch-size"),
                option("-m"),
                devices,
            )
    return config.stash[SCOPE]


def thresholds_path(config: pytest.Config) -> Path:
    """Return the contract that the options name, or the one of the repository."""
    named: Path | None = config.getoption("--thresholds")
    return named or config.rootpath / "thresholds.toml"


def spoken(config: pytest.Config) -> str:
    """Return the language of what a run says to a person; its records are English."""
    named: str | None = config.getoption("--language")
    return named or site_from_config(config).language


def speaking_as_asked(config: pytest.Config) -> contextlib.AbstractContextManager[None]:
    """Speak it inside the block."""
    return speaking(spoken(config))


def only_lists(config: pytest.Config) -> bool:
    """Whether pytest is asked to show something and to run nothing."""
    shown = ("collectonly", "showfixtures", "show_fixtures_per_test", "cacheshow")
    return any(config.getoption(name, None) for name in shown)
