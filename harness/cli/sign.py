"""The commands of signing: ``harness keygen``, ``harness sign`` and ``harness verify``."""

import argparse
import datetime
from pathlib import Path
from typing import Any

from harness.cli.arguments import add_command, day
from harness.decide.todo import Reason
from harness.errors import KeyFileError, RecordError, printable
from harness.judge.verdict import listed
from harness.report.release import RELEASE_TIER
from harness.report.values import Release
from harness.sign.bundle import Bundle, with_runs
from harness.sign.keys import read_public_key, write_key_pair
from harness.sign.sign import sign
from harness.sign.statements import result_of
from harness.sign.verify import Verification, verify

KEY_DAYS = 365


def add_commands(commands: Any) -> None:
    """Add the commands of signing to the subcommands of ``harness``."""
    _add_keygen(commands)
    _add_sign(commands)
    _add_verify(commands)


def _add_keygen(commands: Any) -> None:
    text = "make a key that signs releases, and the public key file that verifies them"
    added = add_command(commands, "keygen", _keygen, text)
    added.add_argument("key", type=Path, help="file of the private key; never overwritten")
    added.add_argument("--owner", required=True, metavar="NAME", help="who signs with it")
    added.add_argument("--expires", type=day, metavar="DATE", help=f"default: in {KEY_DAYS} days")
    _add_password(added)


def _add_sign(commands: Any) -> None:
    text = "sign a run, or a report with its runs; a DO NOT SHIP is signed as FAILED"
    added = add_command(commands, "sign", _sign, text)
    added.add_argument("folder", type=Path, help="a run folder, or the folder of a report")
    added.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key")
    added.add_argument(
        "--run",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a run that a report rests on, copied into its folder; repeatable",
    )
    added.add_argument(
        "--tier",
        default=RELEASE_TIER,
        help=f"whose requirements decide where no signoff.json does; default: {RELEASE_TIER}",
    )
    _add_password(added)


def _add_verify(commands: Any) -> None:
    text = "verify a signed folder: signature, every file, and that the verdicts follow"
    added = add_command(commands, "verify", _verify, text)
    added.add_argument("folder", type=Path, help="the signed folder")
    added.add_argument(
        "--key",
        type=Path,
        required=True,
        action="append",
        metavar="PUB",
        help="public key file that you trust; repeatable",
    )
    added.add_argument("--at", type=day, metavar="DATE", help="as of this day; default: today")
    added.add_argument("--require-ship", action="store_true", help="fail unless it says SHIP")


def _add_password(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help="its first line locks the private key"
    )


def _keygen(options: argparse.Namespace) -> int:
    expires = options.expires or _now().date() + datetime.timedelta(days=KEY_DAYS)
    if expires <= _now().date():
        raise KeyFileError(f"--expires {expires}: the day is over; name one that is to come")
    public = write_key_pair(options.key, options.owner, expires, _password(options))
    print(f"private key  {options.key}  (keep it offline)")
    print(f"public key   {public}  (valid until {expires})")
    return 0


def _sign(options: argparse.Namespace) -> int:
    with with_runs(options.folder, options.run) as bundle:
        release = sign(bundle, options.key, _password(options), options.tier, _now())
    print(f"signed    {bundle.test_result}\n          {bundle.summary}")
    print("\n".join(map(printable, _decision_lines(release))))
    return 0


def _verify(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        raise RecordError(f"{options.folder} is not a folder; give the folder that was signed")
    keys = [read_public_key(path) for path in options.key]
    found = verify(Bundle(options.folder), keys, options.at or _now().date())
    print("\n".join(map(printable, _lines(found))))
    if found.problems:
        print(f"NOT VERIFIED: {len(found.problems)} problem(s)")
        return 1
    as_of = f" as of {options.at}" if options.at else ""
    is_shipped = found.release is not None and found.release.decision == "SHIP"
    if options.require_ship and not is_shipped:
        print(
            f"NOT TO BE SHIPPED: nothing has changed since signing{as_of}, but the decision is no"
        )
        return 1
    print(f"verified{as_of}")
    return 0


def _lines(found: Verification) -> list[str]:
    lines = [f"PROBLEM   {problem}" for problem in found.problems]
    if found.key is not None:
        key = found.key
        lines.append(f"signed    by {key.owner}, key {key.keyid[:12]}, valid until {key.expires}")
    if found.problems or found.release is None:
        return lines
    verdicts = (
        f"verdicts  {len(found.recomputed)} recomputed from raw files, {len(found.carried)} of "
        "exports judged again by the recorded facts"
    )
    return [
        *lines,
        f"          at {found.signed_at}, by the signer's own clock",
        f"files     {found.file_count}, each as it was signed",
        verdicts,
        *_decision_lines(found.release),
    ]


def _decision_lines(release: Release) -> list[str]:
    lines = [f"decision  {release.decision} ({result_of(release)}), tier {release.tier}"]
    return [*lines, *(f"          {_reason(reason)}" for reason in release.reasons)]


def _reason(reason: Reason) -> str:
    about = f" ({listed(reason.ids, ', ')})" if reason.ids else ""
    return f"{reason.kind.upper()}: {reason.text}{about}"


def _password(options: argparse.Namespace) -> bytes | None:
    if options.password_file is None:
        return None
    try:
        lines = options.password_file.read_bytes().splitlines()
    except OSError as error:
        raise KeyFileError(f"{options.password_file} cannot be read: {error.strerror}") from error
    if not lines or not lines[0]:
        raise KeyFileError(f"{options.password_file}: its first line is empty")
    password: bytes = lines[0]
    return password


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
