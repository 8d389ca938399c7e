"""The command ``harness selftest``: plants known faults in real runs, and says which escape."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from harness import registry
from harness.cli.arguments import add_command, site_of
from harness.device import Presence
from harness.errors import DeviceAbsent, InputError
from harness.selftest.setting import Bench
from harness.selftest.table import (
    chosen_faults,
    counts_line,
    family_names,
    plant_all,
    without_fault,
)


def add_commands(commands: Any) -> None:
    """Add ``selftest`` to the subcommands of ``harness``."""
    text = (
        "plant known faults in runs of the tiny models; exit status 1 if one is not caught by name"
    )
    added = add_command(commands, "selftest", _selftest, text)
    added.add_argument("--device", default="cpu", help=registry.device_help())
    added.add_argument("--family", action="append", default=[], metavar="NAME", help="repeatable")
    added.add_argument("--smoke", action="store_true", help="fifteen quick faults")
    added.add_argument("--list", action="store_true", help="only list the faults")


def _selftest(options: argparse.Namespace) -> int:
    _require_faults(options)
    faults = chosen_faults(options.family, is_smoke=options.smoke)
    if options.list:
        print("\n".join(f"{fault.id} [{fault.by}]" for fault in faults))
        print(f"{len(faults)} faults of {len({fault.family for fault in faults})} families")
        return 0
    _require_present(options)
    with tempfile.TemporaryDirectory(prefix="selftest-") as folder:
        bench = Bench(options.device, Path(folder), site_of(options).cache_dir / "selftest")
        without_fault(bench, [fault.model for fault in faults])
        found = plant_all(bench, faults, lambda line: print(line, flush=True))
    print(f"harness selftest: {counts_line(found)}")
    if all(one.outcome == "not applicable" for one in found):
        raise InputError(
            f"none of these faults can be planted on {options.device}, so nothing was shown; plant faults of "
            "other families"
        )
    return 0 if all(one.outcome != "escaped" for one in found) else 1


def _require_faults(options: argparse.Namespace) -> None:
    known, smoke = family_names(), family_names(is_smoke=True)
    for name in options.family:
        if name not in known:
            raise InputError(f"no family is called {name!r}; there are: {', '.join(known)}")
        if options.smoke and name not in smoke:
            raise InputError(
                f"--smoke plants no fault of the family {name!r}, only of: {', '.join(smoke)}; name one of "
                "these, or leave --smoke out"
            )


def _require_present(options: argparse.Namespace) -> None:
    state = registry.device(options.device).at(site_of(options)).probe()
    if state.presence is not Presence.PRESENT:
        raise DeviceAbsent(f"{options.device} cannot be used here: {state.detail}")
