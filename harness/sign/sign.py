"""Sign a bundle: only what follows from its raw files is signed, whatever it comes to."""

import contextlib
import dataclasses
import datetime
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.contract.thresholds import Thresholds
from harness.errors import RecordError, refusal
from harness.host.reading import bytes_from_file
from harness.record.recompute import differences
from harness.record.record import Record
from harness.report.merge import merged_runs
from harness.report.release import Head, release_from_merged
from harness.report.signature import Signature, signed_page, style
from harness.report.values import RUN_REPORT, Release
from harness.sign.bundle import ATTESTATION, SIGNOFF, STYLE, Bundle, changed_files
from harness.sign.envelope import signed_envelope
from harness.sign.evidence import evidence_problems, kept_thresholds
from harness.sign.keys import PublicKey, signer_from_file
from harness.sign.statements import files_of, test_result, verification_summary


@dataclasses.dataclass(frozen=True)
class Derived:
    """What the raw files of a bundle come to: the decision, and why it cannot be signed, if so."""

    release: Release
    records: tuple[Record, ...]
    problems: tuple[str, ...]


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
    found = derived(bundle, tier, now.date())
    if found.problems:
        raise RecordError(
            refusal(f"{bundle.root} is not signed, as it does not hold", [*found.problems])
        )
    if not bundle.signoff.exists():
        bundle.signoff.write_text(found.release.text, encoding="utf-8")
    with _page_signed(bundle, public, now) as changed:
        statement = test_result(bundle, found.release, found.records)
        _require_unchanged(bundle, {**before, **changed}, files_of(statement))
        content = signed_envelope(statement, signer)
        summary = verification_summary(found.release, found.records, content, now)
        bundle.test_result.parent.mkdir(exist_ok=True)
        bundle.test_result.write_bytes(content)
        bundle.summary.write_bytes(signed_envelope(summary, signer))
        if changed:
            (bundle.root / STYLE).write_text(style_of(bundle, statement), encoding="utf-8")
    return found.release


@contextlib.contextmanager
def _page_signed(
    bundle: Bundle, key: PublicKey, now: datetime.datetime
) -> Iterator[Mapping[str, str]]:
    """Say on the page who signs it and give its new digest; it is as before if the block fails."""
    if not bundle.page.is_file():
        yield {}
        return
    before, name = bundle.page.read_bytes(), bundle.page.relative_to(bundle.root).as_posix()
    folder = "../" * name.count("/") + ATTESTATION
    signature = Signature(key.owner, key.keyid, key.expires, f"{now:%Y-%m-%d %H:%M} UTC", folder)
    after = signed_page(before.decode(), signature).encode()
    bundle.page.write_bytes(after)
    try:
        yield {name: hashlib.sha256(after).hexdigest()}
    except BaseException:
        bundle.page.write_bytes(before)
        raise


def style_of(bundle: Bundle, statement: Mapping[str, Any]) -> str:
    """Return the style sheet that tells the page which decision a statement signs."""
    return style(files_of(statement)[bundle.signoff.relative_to(bundle.root).as_posix()])


def signed_release(bundle: Bundle) -> Release:
    """Read ``signoff.json``.

    Raises:
        RecordError: it is missing or damaged, or a run report.
    """
    try:
        content = bytes_from_file(bundle.signoff)
    except OSError as error:
        raise RecordError(f"{bundle.signoff} cannot be read: {error.strerror}") from error
    release = Release.from_json(content, bundle.signoff)
    if release.decision == RUN_REPORT:
        raise RecordError(
            f"{bundle.signoff} is a run report, which decides nothing: only a release is signed; make "
            "it with harness report --release"
        )
    return release


def derived(bundle: Bundle, tier: str, day: datetime.date) -> Derived:
    """Recompute a bundle from its raw files, and decide as its ``signoff.json`` was decided.

    Args:
        bundle: of one run, or of a report with its runs.
        tier: whose requirements decide where there is no ``signoff.json``.
        day: of the decision where there is no ``signoff.json``.

    Raises:
        RecordError: ``signoff.json`` or a run cannot be read, or a measurement does not follow from
            its raw files.
    """
    stored = signed_release(bundle) if bundle.signoff.exists() else None
    order = [] if stored is None else [run.run_id for run in stored.runs]
    runs = sorted(bundle.runs(), key=lambda run: _place(run.facts().run_id, order))
    merged = merged_runs(runs)
    kept = [kept_thresholds(run) for run in runs]
    problems = [
        problem
        for run, records, thresholds in zip(runs, merged.by_run, kept, strict=True)
        for problem in evidence_problems(run, records, thresholds)
    ]
    contracts = {one.digest: one for one in kept}
    if stored is None:
        release = release_from_merged(merged, next(iter(contracts.values())), day, tier)
    else:
        contract, made = _contract_of(stored, bundle, contracts), _day_of(stored, bundle)
        release = release_from_merged(
            merged, contract, made, stored.tier, Head(stored.title, stored.against)
        )
        problems += [
            f"{bundle.signoff.name} does not follow from the records: {difference}"
            for difference in differences(
                release.model_dump(mode="json"), stored.model_dump(mode="json"), "release"
            )
        ]
    records = tuple(record for group in merged.by_run for record in group)
    return Derived(release, records, tuple(problems))


def _contract_of(
    stored: Release, bundle: Bundle, contracts: Mapping[str, Thresholds]
) -> Thresholds:
    if stored.thresholds not in contracts:
        raise RecordError(
            f"{bundle.signoff} was decided by thresholds {stored.thresholds}, which no run was "
            "judged by; make the report with the thresholds of its runs"
        )
    return contracts[stored.thresholds]


def _day_of(stored: Release, bundle: Bundle) -> datetime.date:
    try:
        return datetime.date.fromisoformat(stored.made)
    except ValueError as error:
        raise RecordError(f"{bundle.signoff}: made: {error}") from error


def _place(run_id: str, order: Sequence[str]) -> int:
    return order.index(run_id) if run_id in order else len(order)


def _require_unchanged(
    bundle: Bundle, before: Mapping[str, str], signed: Mapping[str, str]
) -> None:
    """Refuse to sign bytes other than those that were checked."""
    made = {name: digest for name, digest in signed.items() if name == SIGNOFF}
    changed = changed_files({**made, **before}, signed)
    if changed:
        raise RecordError(
            refusal(f"{bundle.root} is not signed, because it is still being written", changed)
        )
