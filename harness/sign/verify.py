"""Verify a signed bundle on any machine: signature, every byte, and that the verdicts follow."""

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.errors import HarnessError, RecordError, SignatureError
from harness.host.reading import bytes_from_file
from harness.report.values import Release
from harness.sign.bundle import STYLE, Bundle, changed_files
from harness.sign.envelope import opened_envelope
from harness.sign.keys import PublicKey
from harness.sign.sign import Derived, derived, style_of
from harness.sign.statements import (
    SUMMARY_TYPE,
    TEST_RESULT_TYPE,
    artifacts_of,
    files_of,
    test_result,
    verification_summary,
)

# What a verification summary says of the signer, not of the records.
BY_THE_SIGNER = frozenset({"timeVerified", "verifier"})


@dataclasses.dataclass(frozen=True)
class Verification:
    """What verifying found.

    Attributes:
        problems: everything that does not hold; none, and the bundle is what was signed.
        key: that signed it; None if none that was given did.
        signed_at: when, by the signer's own word; empty if that could not be read.
        file_count: files that were signed.
        release: the decision, as it follows from the raw files; None if that broke.
        recomputed: ids of the checks whose verdict was recomputed from raw files.
        carried: ids of those whose measurement stands as recorded, as no raw file holds it.
    """

    problems: tuple[str, ...]
    key: PublicKey | None = None
    signed_at: str = ""
    file_count: int = 0
    release: Release | None = None
    recomputed: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()


def verify(bundle: Bundle, keys: Sequence[PublicKey], day: datetime.date) -> Verification:
    """Verify a bundle against trusted keys, as of a day.

    Raises:
        KeyFileError: no key is valid on that day, or one is damaged.
    """
    try:
        statement, key = _opened(bundle, keys, day)
    except SignatureError as error:
        return Verification((str(error),))
    try:
        signed = files_of(statement)
        problems = [*changed_files(signed, bundle.digests()), *_style_problems(bundle, statement)]
    except HarnessError as error:
        return Verification((str(error),), key)
    except (KeyError, TypeError) as error:
        return Verification(
            (f"{bundle.test_result} is not a test result of this suite: {error!r}",),
            key,
        )
    summary, summary_problems = _summary(bundle, keys, day)
    found, founding = _founding_problems(bundle, day)
    problems += [*summary_problems, *founding]
    if found is not None:
        problems += _statement_problems(bundle, statement, summary, found)
    records = [] if found is None else found.records
    measured = [record for record in records if record.measurement is not None]
    return Verification(
        tuple(dict.fromkeys(problems)),
        key,
        str(summary.get("predicate", {}).get("timeVerified", "")),
        len(signed),
        None if found is None else found.release,
        tuple(record.id for record in measured if record.check != "export"),
        tuple(record.id for record in measured if record.check == "export"),
    )


def _opened(
    bundle: Bundle, keys: Sequence[PublicKey], day: datetime.date
) -> tuple[Mapping[str, Any], PublicKey]:
    """Return the test result and its key, which has to count on that day."""
    statement, key = opened_envelope(bundle.test_result, keys)
    key.require_valid_on(day)
    if statement.get("predicateType") != TEST_RESULT_TYPE:
        raise SignatureError(f"{bundle.test_result} is not a signed test result")
    return statement, key


def _style_problems(bundle: Bundle, statement: Mapping[str, Any]) -> Iterator[str]:
    """Name a style sheet that could make the page look other than it was signed."""
    path, page = bundle.root / STYLE, bundle.page
    is_linked = page.is_file() and STYLE.encode() in page.read_bytes()
    if is_linked and not path.is_file():
        yield f"{STYLE} is missing"
    elif path.is_file() and path.read_bytes() != style_of(bundle, statement).encode():
        yield f"{STYLE} was changed after signing"


def _summary(
    bundle: Bundle, keys: Sequence[PublicKey], day: datetime.date
) -> tuple[Mapping[str, Any], list[str]]:
    """Return the verification summary, or nothing and what is wrong with it."""
    try:
        statement, key = opened_envelope(bundle.summary, keys)
        key.require_valid_on(day)
        if statement.get("predicateType") != SUMMARY_TYPE:
            return {}, [f"{bundle.summary} is not a signed verification summary"]
        made = datetime.datetime.fromisoformat(statement["predicate"]["timeVerified"]).date()
    except SignatureError as error:
        return {}, [str(error)]
    except (KeyError, ValueError) as error:
        return {}, [f"{bundle.summary} does not say when it was made: {error}"]
    if made > key.last_day:
        return statement, [f"it was signed on {made}, after its key expired on {key.expires}"]
    # Clocks of two machines may stand on either side of midnight.
    if made > day + datetime.timedelta(days=1):
        return statement, [f"it says that it was signed on {made}, which is after {day}"]
    return statement, []


def _founding_problems(bundle: Bundle, day: datetime.date) -> tuple[Derived | None, list[str]]:
    """Recompute every verdict from raw files and the decision from the records."""
    try:
        if not bundle.signoff.exists():
            raise RecordError(f"{bundle.signoff} is missing: it was signed with the rest")
        found = derived(bundle, "", day)
    except HarnessError as error:
        return None, [str(error)]
    return found, [*found.problems]


def _statement_problems(
    bundle: Bundle, signed: Mapping[str, Any], summary: Mapping[str, Any], found: Derived
) -> Iterator[str]:
    """Name what the signed statements say and the records do not."""
    expected = test_result(bundle, found.release, found.records)
    # Its files are named one by one elsewhere.
    yield from _said_otherwise("test result", signed, {**expected, "subject": signed["subject"]})
    if artifacts_of(signed) != artifacts_of(expected):
        yield "test result: its artifacts are not those of the records"
    if summary:
        content, now = bytes_from_file(bundle.test_result), datetime.datetime.now(datetime.UTC)
        again = verification_summary(found.release, found.records, content, now)
        yield from _said_otherwise("verification summary", summary, again)


def _said_otherwise(
    title: str, signed: Mapping[str, Any], expected: Mapping[str, Any]
) -> Iterator[str]:
    if signed["subject"] != expected["subject"]:
        yield f"{title}: its subjects are not those of the records"
    for name in sorted({*expected["predicate"], *signed["predicate"]} - BY_THE_SIGNER):
        ours, theirs = (one["predicate"].get(name) for one in (expected, signed))
        if ours != theirs:
            yield f"{title}: its {name} does not follow from the records: {theirs}, comes to {ours}"
