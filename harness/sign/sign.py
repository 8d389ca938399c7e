"""Sign a bundle: only what follows from its raw files is signed, whatever it comes to."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.contract.thresholds import Thresholds
from harness.errors import RecordError
from harness.record.record import Record, RunDirectory
from harness.report.release import release_from_runs
from harness.report.values import Release
from harness.sign.bundle import ATTESTATION, SIGNOFF, Bundle, changed_files
from harness.sign.envelope import signed_envelope
from harness.sign.evidence import differences, evidence_problems, kept_thresholds, plain
from harness.sign.keys import signer_from_file
from harness.sign.statements import files_of, test_result, verification_summary

SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Derived:
    """What the raw files of a bundle come to."""

    release: Release
    records: tuple[Record, ...]


def derived(
    runs: Sequence[RunDirectory], contract: Thresholds, tier: str, day: datetime.date
) -> Derived:
    """Decide on runs, from their records.

    Raises:
        RecordError: a run cannot be read.
    """
    release = release_from_runs(runs, contract, day, tier)
    return Derived(release, tuple(record for run in runs for record in run.records()))


def sign(
    bundle: Bundle, key: Path, password: bytes | None, tier: str, now: datetime.datetime
) -> Release:
    """Write the signed test result and verification summary of a bundle, whatever they say.

    A bundle without ``signoff.json`` gets one, by what ``tier`` requires.

    Raises:
        KeyFileError: the key cannot be used, or expired.
        RecordError: it is signed already, or a record, or the decision in it, does not follow from
            its raw files.
    """
    signer, public = signer_from_file(key, password)
    public.require_valid_on(now.date())
    if bundle.test_result.exists() or bundle.summary.exists():
        folder = bundle.root / ATTESTATION
        raise RecordError(f"{bundle.root} is signed already; to sign again remove {folder}")
    before = bundle.digests()
    problems = [problem for run in bundle.runs() for problem in evidence_problems(run)]
    if problems:
        raise RecordError(refusal(f"{bundle.root} is not signed, as it does not hold", problems))
    found = _decided(bundle, tier, now.date())
    statement = test_result(bundle, found.release, found.records)
    _require_unchanged(bundle, before, files_of(statement))
    content = signed_envelope(statement, signer)
    summary = verification_summary(found.release, found.records, content, now)
    bundle.test_result.parent.mkdir(exist_ok=True)
    bundle.test_result.write_bytes(content)
    bundle.summary.write_bytes(signed_envelope(summary, signer))
    return found.release


def signed_release(bundle: Bundle) -> Release:
    """Read ``signoff.json``.

    Raises:
        RecordError: it is missing or damaged.
    """
    try:
        content = bundle.signoff.read_bytes()
    except OSError as error:
        raise RecordError(f"{bundle.signoff} cannot be read: {error.strerror}") from error
    return Release.from_json(content, bundle.signoff)


def decision_problems(bundle: Bundle) -> tuple[Derived, list[str]]:
    """Decide again as ``signoff.json`` was decided, and name what comes out otherwise.

    Raises:
        RecordError: it, or a run, cannot be read.
    """
    stored, name = signed_release(bundle), bundle.signoff.name
    order = [run.run_id for run in stored.runs]
    runs = sorted(bundle.runs(), key=lambda run: _place(run.facts().run_id, order))
    contracts = {one.digest: one for one in map(kept_thresholds, runs)}
    if stored.thresholds not in contracts:
        raise RecordError(
            f"{bundle.signoff} was decided by thresholds {stored.thresholds}, which no run was "
            "judged by; make the report with the thresholds of its runs"
        )
    try:
        day = datetime.date.fromisoformat(stored.made)
    except ValueError as error:
        raise RecordError(f"{bundle.signoff}: made: {error}") from error
    found = derived(runs, contracts[stored.thresholds], stored.tier, day)
    return found, [
        f"{name} does not follow from the records: {difference}"
        for difference in differences(plain(found.release), plain(stored), "release")
    ]


def refusal(title: str, problems: list[str]) -> str:
    """List problems under a title, the first of them if there are many."""
    more = len(problems) - SHOWN
    lines = [*problems[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return "\n  ".join([f"{title}:", *lines])


def _decided(bundle: Bundle, tier: str, day: datetime.date) -> Derived:
    """Take the decision that is there, if it follows from the records, or else decide."""
    if not bundle.signoff.exists():
        runs = bundle.runs()
        found = derived(runs, kept_thresholds(runs[0]), tier, day)
        bundle.signoff.write_text(found.release.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return found
    found, problems = decision_problems(bundle)
    if problems:
        raise RecordError(refusal(f"{bundle.root} is not signed", problems))
    return found


def _place(run_id: str, order: Sequence[str]) -> int:
    return order.index(run_id) if run_id in order else len(order)


def _require_unchanged(
    bundle: Bundle, before: Mapping[str, str], signed: Mapping[str, str]
) -> None:
    """Refuse to sign other bytes than those that were looked at."""
    made = {name: digest for name, digest in signed.items() if name == SIGNOFF}
    changed = changed_files({**made, **before}, signed)
    if changed:
        raise RecordError(refusal(f"{bundle.root} is not signed, as it is being written", changed))
