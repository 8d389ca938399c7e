"""Sign a bundle: only what follows from its raw files is signed, whatever it comes to."""

import dataclasses
import datetime
from pathlib import Path

import pydantic

from harness.errors import RecordError
from harness.records import Record
from harness.report.release import release_from_runs
from harness.report.values import Release
from harness.signing.bundle import ATTESTATION, Bundle
from harness.signing.envelope import signed_envelope
from harness.signing.evidence import differences, evidence_problems, kept_thresholds, plain
from harness.signing.keys import signer_from_file
from harness.signing.statements import test_result, verification_summary
from harness.thresholds import Thresholds

SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Derived:
    """What the raw files of a bundle come to."""

    release: Release
    records: tuple[Record, ...]


def derived(bundle: Bundle, contract: Thresholds, tier: str, day: datetime.date) -> Derived:
    """Decide on the runs of a bundle, from their records.

    Raises:
        RecordError: a run cannot be read.
    """
    runs = bundle.runs()
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
    problems = [problem for run in bundle.runs() for problem in evidence_problems(run)]
    if problems:
        raise RecordError(refusal(f"{bundle.root} is not signed, as it does not hold", problems))
    found = _decided(bundle, tier, now.date())
    statement = test_result(bundle, found.release, found.records)
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
    stored = signed_release(bundle)
    contracts = {one.digest: one for one in map(kept_thresholds, bundle.runs())}
    if stored.thresholds not in contracts:
        raise RecordError(
            f"{bundle.signoff} was decided by thresholds {stored.thresholds}, which no run was "
            "judged by; make the report with the thresholds of its runs"
        )
    day = datetime.date.fromisoformat(stored.made)
    found = derived(bundle, contracts[stored.thresholds], stored.tier, day)
    name = bundle.signoff.name
    return found, [
        f"{name} does not follow from the records: {difference}"
        for difference in differences(_in_order(found.release), _in_order(stored), "release")
    ]


def refusal(title: str, problems: list[str]) -> str:
    """List problems under a title, the first of them if there are many."""
    more = len(problems) - SHOWN
    lines = [*problems[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return "\n  ".join([f"{title}:", *lines])


def _decided(bundle: Bundle, tier: str, day: datetime.date) -> Derived:
    """Take the decision that is there, if it follows from the records, or else decide."""
    if not bundle.signoff.exists():
        found = derived(bundle, kept_thresholds(bundle.runs()[0]), tier, day)
        bundle.signoff.write_text(found.release.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return found
    found, problems = decision_problems(bundle)
    if problems:
        raise RecordError(refusal(f"{bundle.root} is not signed", problems))
    return found


def _in_order(release: Release) -> pydantic.JsonValue:
    """Return a release with its runs in the order of their names, as folders are listed."""
    runs = tuple(sorted(release.runs, key=lambda run: run.run_id))
    return plain(release.model_copy(update={"runs": runs}))
