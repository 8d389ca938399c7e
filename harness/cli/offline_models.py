"""The command ``harness om``: what an offline model of Ascend says of itself."""

import argparse
from pathlib import Path
from typing import Any

from harness.cli.arguments import add_command, add_group, site_of
from harness.host.provenance import sha256_from_file


def add_commands(commands: Any) -> None:
    """Add ``om`` to the subcommands of ``harness``."""
    actions = add_group(commands, "om", "look at an offline model (.om) of Ascend")
    show = add_command(
        actions, "show", _show, "ask atc for its chip, command line, memory and AI-CPU operators"
    )
    show.add_argument("file", type=Path, metavar="FILE")


def _show(options: argparse.Namespace) -> int:
    # Not at the top: `harness --help` needs no tools of Ascend.
    from harness.runtimes.ascend.foreign import passport_from_file
    from harness.runtimes.ascend.site import tools_from_site

    passport = passport_from_file(options.file, tools_from_site(site_of(options)))
    for name, value in {**passport.lines, "sha256": sha256_from_file(options.file)}.items():
        print(f"{name:<18}{value}")
    return 0
