"""What is signed: an in-toto test result of a bundle, and a SLSA summary of the decision."""

import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from harness.measure.export import ExportMeasurement
from harness.record.record import Record
from harness.report.values import Outcome, Release
from harness.sign.bundle import ATTESTATION, TEST_RESULT, Bundle

if TYPE_CHECKING:
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor

TEST_RESULT_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
SUMMARY_TYPE = "https://slsa.dev/verification_summary/v1"
PACKAGE = "ascend-video-acceptance"
SLSA_VERSION = "1.1"


def result_of(release: Release) -> str:
    """Return PASSED, WARNED (shipped with waivers) or FAILED."""
    if release.decision != "SHIP":
        return "FAILED"
    is_waived = any(line.outcome == "waived" for line in release.check_lines)
    return "WARNED" if is_waived else "PASSED"


def test_result(bundle: Bundle, release: Release, records: Sequence[Record]) -> dict[str, Any]:
    """Return the statement: every file and artifact by digest, every check by its outcome.

    A pass with something that keeps it from being signed off, such as seeded weights, is warned of.
    """
    from google.protobuf.json_format import MessageToDict
    from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult

    predicate = TestResult(
        result=result_of(release),
        configuration=[one.pb for one in _configuration(release)],
        passed_tests=_names(release, {"pass"}, is_blocked=False),
        warned_tests=[*_names(release, {"pass"}, is_blocked=True), *_names(release, {"waived"})],
        failed_tests=_failed(release),
    )
    files = [_descriptor(name, digest) for name, digest in bundle.digests().items()]
    subjects = [*files, *_artifacts(records)]
    return _statement(subjects, TEST_RESULT_TYPE, MessageToDict(predicate))


def verification_summary(
    release: Release, records: Sequence[Record], signed_test_result: bytes, now: datetime.datetime
) -> dict[str, Any]:
    """Return the SLSA verification summary of the decision on a release.

    Its subjects are the judged artifacts; where nothing was judged, the run files.
    """
    is_shipped = release.decision == "SHIP"
    digest = hashlib.sha256(signed_test_result).hexdigest()
    # As SLSA specifies it: in_toto_attestation 0.9.3 has verifiedLevels as one string, not a list.
    predicate = {
        "verifier": {"id": f"pkg:generic/{PACKAGE}@{version(PACKAGE)}"},
        "timeVerified": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "resourceUri": f"urn:{PACKAGE}:{'+'.join(run.run_id for run in release.runs)}",
        "policy": {"uri": "thresholds.toml", "digest": {"sha256": release.thresholds}},
        "inputAttestations": [
            {"uri": f"{ATTESTATION}/{TEST_RESULT}", "digest": {"sha256": digest}},
        ],
        "verificationResult": "PASSED" if is_shipped else "FAILED",
        "verifiedLevels": [f"ACCEPTANCE_{release.tier.upper()}" if is_shipped else "FAILED"],
        "slsaVersion": SLSA_VERSION,
    }
    runs = [_descriptor(f"{run.run_id}/run.json", run.facts_sha256) for run in release.runs]
    return _statement(_artifacts(records) or runs, SUMMARY_TYPE, predicate)


def files_of(statement: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of the files that a test result lists; artifacts are annotated."""
    return {
        subject["name"]: subject["digest"]["sha256"]
        for subject in statement["subject"]
        if "annotations" not in subject
    }


def artifacts_of(statement: Mapping[str, Any]) -> list[Any]:
    """Return the judged artifacts that a statement lists."""
    return [subject for subject in statement["subject"] if "annotations" in subject]


def _statement(
    subjects: Sequence["ResourceDescriptor"], kind: str, predicate: Any
) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict
    from in_toto_attestation.v1.statement import Statement

    statement = Statement([subject.pb for subject in subjects], kind, predicate)
    statement.validate()
    plain: dict[str, Any] = MessageToDict(statement.pb)
    return plain


def _artifacts(records: Sequence[Record]) -> list["ResourceDescriptor"]:
    """Name each distinct artifact once, with the cells that were judged on it."""
    cells: dict[tuple[str, str], dict[str, None]] = {}
    passports = {
        record.subjects.get("device_model"): passport.model_dump(mode="json", exclude_none=True)
        for record in records
        if isinstance(record.measurement, ExportMeasurement)
        and (passport := record.measurement.passport) is not None
    }
    for record in records:
        for kind, digest in record.subjects.items():
            cells.setdefault((kind, digest), {})[record.cell.id] = None
    return [
        _descriptor(
            f"{kind}:{next(iter(names))}",
            digest,
            {
                "kind": kind,
                "cells": list(names),
                **({"passport": passports[digest]} if digest in passports else {}),
            },
            # Seeded weights have no file; the digest says which seed.
            "sha256" if re.fullmatch("[0-9a-f]{64}", digest) else "seed",
        )
        for (kind, digest), names in sorted(cells.items())
    ]


def _configuration(release: Release) -> list["ResourceDescriptor"]:
    found = [_descriptor("thresholds.toml", release.thresholds)]
    commits = dict.fromkeys(run.commit for run in release.runs if run.commit)
    other = release.against
    compared = [] if other is None else [_descriptor(f"compared with {other.name}", other.digest)]
    return [*found, *(_suite(commit) for commit in commits), *compared]


def _suite(commit: str) -> "ResourceDescriptor":
    """Name the suite by its commit, or by the digest of the wheel that was installed."""
    kind, _, digest = commit.rpartition(":")
    return _descriptor("suite", digest, algorithm="sha256" if kind else "gitCommit")


def _descriptor(
    name: str, digest: str, annotations: Any = None, algorithm: str = "sha256"
) -> "ResourceDescriptor":
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor

    return ResourceDescriptor(name=name, digest={algorithm: digest}, annotations=annotations)


def _names(release: Release, outcomes: set[Outcome], is_blocked: bool | None = None) -> list[str]:
    return [
        line.id
        for line in release.check_lines
        if line.outcome in outcomes and (is_blocked is None or bool(line.blockers) is is_blocked)
    ]


def _failed(release: Release) -> list[str]:
    """List what is red or open, and what was required and did not run."""
    return [
        line.id
        for line in release.check_lines
        if line.outcome not in ("pass", "waived")
        and (line.is_required or line.outcome != "not run")
    ]
