"""The command that makes the page: ``harness report``."""

import argparse
import datetime
import sys
from pathlib import Path
from typing import Any

from harness.cli.arguments import THRESHOLDS, add_command, add_language, language_of, site_of
from harness.contract.thresholds import stored_thresholds
from harness.errors import RecordError, refusal
from harness.language import speaking
from harness.locale.recorded import translated
from harness.nightly.history import History
from harness.record.record import RunDirectory
from harness.report.headline import last_line
from harness.report.write import Other, Wanted, is_of_release, stem, write_report
from harness.sign.bundle import Bundle, changed_files
from harness.sign.envelope import unverified_statement
from harness.sign.statements import files_of


def add_commands(commands: Any) -> None:
    """Add ``report`` to the subcommands of ``harness``."""
    text = (
        "merge runs into one page with its PDF, Markdown summary and JSON: a sign-off that decides on "
        "a release, or a report of what the runs show. Exit status 0 for SHIP and nothing else, 1 "
        "for DO NOT SHIP and for a run report"
    )
    added = add_command(commands, "report", _report, text, "merge runs into a sign-off page")
    added.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    added.add_argument("--output", type=Path, required=True, metavar="DIR")
    added.add_argument(
        "--release",
        action="store_true",
        default=None,
        help="decide whether a release may ship; default where every run is of the release tier",
    )
    added.add_argument("--title", default="", metavar="TEXT", help="default: as site.toml says")
    added.add_argument(
        "--thresholds",
        type=Path,
        metavar="FILE",
        help="default: for a release that of the suite, for one run the one it was judged by",
    )
    added.add_argument(
        "--against",
        type=Path,
        metavar="OTHER",
        help="compare with a frozen baseline, or with the folder of a report that holds its runs",
    )
    add_language(added, "the page and its summary")
    added.add_argument(
        "--history", type=Path, metavar="FILE", help="nightly series, for the trends"
    )


def _other(path: Path) -> Path | Other:
    """Return what to compare with; a signed folder must hold what was signed."""
    if not path.is_dir():
        return path
    bundle = Bundle(path)
    if bundle.test_result.is_file():
        changed = changed_files(
            files_of(unverified_statement(bundle.test_result)), bundle.digests()
        )
        if changed:
            raise RecordError(refusal(f"{path} is not as it was signed", changed))
    if not bundle.signoff.is_file():
        raise RecordError(f"{path} has no signoff.json; name the folder of a report with its runs")
    return Other(path.resolve().name, bundle.signoff.read_bytes(), bundle.runs())


def _report(options: argparse.Namespace) -> int:
    runs = [RunDirectory(path) for path in options.runs]
    today = datetime.datetime.now(datetime.UTC).date()
    is_release = options.release or is_of_release(runs)
    kept = runs[0].root / "thresholds.toml"
    is_kept = not is_release and len(runs) == 1 and kept.is_file()
    thresholds = stored_thresholds(options.thresholds or (kept if is_kept else THRESHOLDS))
    wanted = Wanted(
        is_release,
        options.title or site_of(options).title,
        None if options.history is None else History(options.history),
        None if options.against is None else _other(options.against),
        language_of(options),
    )
    release, problems = write_report(runs, thresholds, options.output, today, wanted)
    with speaking(language_of(options)):
        for problem in problems:
            print(translated(problem), file=sys.stderr)
        print(last_line(release))
    print(options.output / f"{stem(release)}.html")
    return 0 if release.decision == "SHIP" else 1
