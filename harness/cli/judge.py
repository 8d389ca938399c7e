"""The command ``harness judge``: a stored run under the contract of today."""

import argparse
from pathlib import Path
from typing import Any

from harness.cli.arguments import add_command, add_language, add_thresholds, language_of
from harness.contract.thresholds import stored_thresholds
from harness.decide.blockers import UNBOUND
from harness.decide.problems import exit_status
from harness.decide.rejudge import judged_today
from harness.decide.summary import summary_lines
from harness.language import _, speaking
from harness.locale.recorded import translated
from harness.record.record import RunDirectory


def add_commands(commands: Any) -> None:
    """Add ``judge`` to the subcommands of ``harness``."""
    text = "judge a stored run again, without running anything"
    added = add_command(commands, "judge", _judge, text)
    added.add_argument("run", type=Path, help="folder of the run")
    added.add_argument(
        "--without-host",
        action="append",
        default=[],
        metavar="NAME",
        help="of a farm: throw out every check that this host had a part in; repeatable",
    )
    add_thresholds(added)
    add_language(added, "the summary")


def _judge(options: argparse.Namespace) -> int:
    run = RunDirectory(options.run)
    thresholds = stored_thresholds(options.thresholds)
    facts, records, decision = judged_today(run, thresholds, options.without_host)
    with speaking(language_of(options)):
        if thresholds.digest != facts.thresholds_digest:
            text = _("judged by {path}, which is not what the run was judged by then")
            print(text.format(path=thresholds.path))
        if not facts.nonce:
            print(f"{run.root}: {translated(UNBOUND)}")
        print("\n".join(summary_lines(records, decision, thresholds, facts)))
    return exit_status(decision.problems)
