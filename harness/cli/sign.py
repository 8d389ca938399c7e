"""The commands of signing: ``harness keygen``, ``harness sign`` and ``harness verify``."""

import argparse
import datetime
from pathlib import Path
from typing import Any

from harness.cli.arguments import add_command, add_language, day, language_of
from harness.decide.todo import Reason
from harness.errors import KeyFileError, RecordError, printable
from harness.judge.verdict import listed
from harness.language import _, padded, speaking
from harness.locale.recorded import translated
from harness.report.headline import decision_name
from harness.report.release import RELEASE_TIER
from harness.report.values import Release
from harness.sign.bundle import Bundle, with_runs
from harness.sign.keys import PublicKey, read_public_key, write_key_pair
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
    add_language(added, "what it says")
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
    add_language(added, "what it says")
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
    add_language(added, "what it says")


def _add_password(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help="its first line locks the private key"
    )


def _keygen(options: argparse.Namespace) -> int:
    expires = options.expires or _now().date() + datetime.timedelta(days=KEY_DAYS)
    if expires <= _now().date():
        raise KeyFileError(f"--expires {expires}: the day is over; name one that is to come")
    public = write_key_pair(options.key, options.owner, expires, _password(options))
    with speaking(language_of(options)):
        print(padded(_("private key"), 13) + f"{options.key}  {_('(keep it offline)')}")
        until = _("(valid until {expires})").format(expires=expires)
        print(padded(_("public key"), 13) + f"{public}  {until}")
    return 0


def _sign(options: argparse.Namespace) -> int:
    with with_runs(options.folder, options.run) as bundle:
        release = sign(bundle, options.key, _password(options), options.tier, _now())
    with speaking(language_of(options)):
        files = _labelled(_("signed"), str(bundle.test_result), str(bundle.summary))
        print("\n".join(map(printable, [*files, *_decision_lines(release)])))
    return 0


def _verify(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        raise RecordError(f"{options.folder} is not a folder; give the folder that was signed")
    keys = [read_public_key(path) for path in options.key]
    found = verify(Bundle(options.folder), keys, options.at or _now().date())
    is_shipped = found.release is not None and found.release.decision == "SHIP"
    is_refused = options.require_ship and not is_shipped
    with speaking(language_of(options)):
        print("\n".join(map(printable, _lines(found))))
        print(_outcome(len(found.problems), options.at, is_refused=is_refused))
    return 1 if found.problems or is_refused else 0


def _outcome(problems: int, at: datetime.date | None, *, is_refused: bool) -> str:
    """Return the last line: whether everything is as it was signed, and may be shipped if it must."""
    if problems:
        return _("NOT VERIFIED: {n} problem(s)").format(n=problems)
    as_of = "" if at is None else _(" as of {day}").format(day=at)
    if is_refused:
        text = _(
            "NOT TO BE SHIPPED: nothing has changed since signing{as_of}, but the decision is no"
        )
        return text.format(as_of=as_of)
    return _("verified{as_of}").format(as_of=as_of)


def _lines(found: Verification) -> list[str]:
    lines = [padded(_("PROBLEM"), 10) + translated(problem) for problem in found.problems]
    key = found.key
    by = [] if key is None else [_key_text(key)]
    if found.problems or found.release is None:
        return [*lines, *_labelled(_("signed"), *by)]
    by.append(_("at {time}, by the signer's own clock").format(time=found.signed_at))
    files = _("{n}, each as it was signed").format(n=found.file_count)
    verdicts = _(
        "{recomputed} recomputed from raw files, {carried} of exports judged again by the recorded facts"
    ).format(recomputed=len(found.recomputed), carried=len(found.carried))
    return [
        *_labelled(_("signed"), *by),
        *_labelled(_("files"), files),
        *_labelled(_("verdicts"), verdicts),
        *_decision_lines(found.release),
    ]


def _key_text(key: PublicKey) -> str:
    text = _("by {owner}, key {key}, valid until {expires}")
    return text.format(owner=key.owner, key=key.keyid[:12], expires=key.expires)


def _decision_lines(release: Release) -> list[str]:
    text = _("{decision} ({result}), tier {tier}")
    decision, result = decision_name(release), result_of(release)
    said = text.format(decision=decision, result=_(result), tier=release.tier)
    return _labelled(_("decision"), said, *map(_reason, release.reasons))


def _labelled(label: str, *texts: str) -> list[str]:
    """Return lines below one label, which only the first of them has."""
    return [padded(label if not place else "", 10) + text for place, text in enumerate(texts)]


def _reason(reason: Reason) -> str:
    about = translated(f" ({listed(reason.ids, ', ')})") if reason.ids else ""
    return f"{_(reason.kind).upper()}: {translated(reason.text)}{about}"


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
