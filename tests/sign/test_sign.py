import base64
import datetime
import hashlib
import json
import re
import shutil

import pytest

from harness.__main__ import main
from harness.contract.thresholds import stored_thresholds
from harness.errors import RecordError
from harness.record.record import RunDirectory
from harness.report.merge import merged_runs
from harness.report.release import run_report_from_merged
from harness.selftest.bends import bind, flip
from harness.sign.envelope import signed_envelope
from harness.sign.keys import signer_from_file, write_key_pair

NOW = "2026-03-02"


def verify(root, keys, *more, key="ours"):
    public = keys / f"{key}.pub.json"
    return main(["verify", str(root), "--key", str(public), "--at", NOW, *more])


def files(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


def edit_records(root, change):
    """Change records as somebody does who binds them to their run again."""
    path = root / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    bind(root)


def test_what_was_signed_verifies_elsewhere_without_models(signed, keys, capsys):
    assert verify(signed, keys, "--require-ship") == 0
    out = capsys.readouterr().out
    assert "signed    by ours" in out
    assert "files     11, each as it was signed" in out
    assert "verdicts  3 recomputed from raw files, 1 of exports judged again" in out
    assert "decision  SHIP (PASSED), tier release" in out


def test_any_edited_file_is_found_and_named(signed, keys, capsys):
    inside = [path for path in files(signed) if path.parent.name != "attestation"]
    assert {path.suffix for path in inside} >= {".json", ".jsonl", ".toml", ".npz", ".xml", ".html"}
    for path in inside:
        kept = path.read_bytes()
        flip(path)
        assert verify(signed, keys) == 1
        name = path.relative_to(signed).as_posix()
        assert f"PROBLEM   {name} was changed after signing" in capsys.readouterr().out
        path.write_bytes(kept)
    assert verify(signed, keys) == 0


@pytest.mark.parametrize("name", ["test-result.dsse.json", "verification-summary.dsse.json"])
def test_any_edited_byte_of_a_signature_file_is_found_and_named(signed, keys, name, capsys):
    path = signed / "attestation" / name
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 25)):
        flip(path, place)
        assert verify(signed, keys) == 1
        assert str(path) in capsys.readouterr().out
        path.write_bytes(content)


def test_a_byte_more_in_a_signature_file_is_found(signed, keys, capsys):
    path = signed / "attestation" / "test-result.dsse.json"
    path.write_bytes(path.read_bytes() + b"\n")
    assert verify(signed, keys) == 1
    assert f"{path} was edited" in capsys.readouterr().out


def test_a_missing_file_is_named(signed, keys, capsys):
    for path in files(signed):
        kept = path.read_bytes()
        path.unlink()
        assert verify(signed, keys) == 1
        assert path.name in capsys.readouterr().out
        path.write_bytes(kept)


def test_an_added_file_is_named(signed, keys, capsys):
    (signed / "raw" / "more.npz").write_bytes(b"")
    (signed / "attestation" / "note.txt").write_bytes(b"")
    assert verify(signed, keys) == 1
    out = capsys.readouterr().out
    assert "raw/more.npz was added after signing" in out
    assert "attestation/note.txt was added after signing" in out


def test_a_link_is_refused(signed, keys, capsys):
    (signed / "link").symlink_to(signed / "run.json")
    assert verify(signed, keys) == 1
    assert "link is not a plain file" in capsys.readouterr().out


def test_a_key_that_did_not_sign_is_refused(signed, keys, capsys):
    assert verify(signed, keys, key="theirs") == 1
    assert "not by the key given" in capsys.readouterr().out
    both = ["--key", str(keys / "ours.pub.json")]
    assert verify(signed, keys, *both, key="theirs") == 0


def test_an_expired_key_neither_verifies_nor_signs(signed, run_root, keys, capsys, monkeypatch):
    public = str(keys / "ours.pub.json")
    assert main(["verify", str(signed), "--key", public, "--at", "2027-01-02"]) == 2
    assert "of ours expired on 2027-01-01" in capsys.readouterr().err
    late = datetime.datetime(2028, 1, 1, tzinfo=datetime.UTC)
    monkeypatch.setattr("harness.cli.sign._now", lambda: late)
    assert main(["sign", str(run_root), "--key", str(keys / "ours")]) == 2
    assert "of ours expired on 2027-01-01" in capsys.readouterr().err
    assert not (run_root / "attestation").exists()


def test_signed_after_the_day_of_verifying_is_refused(signed, keys, capsys):
    public = str(keys / "ours.pub.json")
    assert main(["verify", str(signed), "--key", public, "--at", "2026-02-01"]) == 1
    assert "signed on 2026-03-01, which is after 2026-02-01" in capsys.readouterr().out


def test_signing_twice_is_refused(signed, keys, capsys):
    assert main(["sign", str(signed), "--key", str(keys / "ours")]) == 2
    assert "is signed already" in capsys.readouterr().err


def test_the_page_says_who_signed_it_and_its_style_sheet_cannot_be_changed(
    run_root, tmp_path, keys, capsys
):
    before, report = tmp_path / "before", tmp_path / "report"
    words = ["report", str(run_root), "--thresholds", str(run_root / "thresholds.toml")]
    main([*words, "--output", str(before)])
    shutil.copytree(run_root, before / "runs" / run_root.name)
    main([*words, "--output", str(report), "--against", str(before)])
    assert "Anybody could have changed this page" in (report / "signoff.html").read_text("utf-8")
    assert main(["sign", str(report), "--run", str(run_root), "--key", str(keys / "ours")]) == 0
    page = (report / "signoff.html").read_text("utf-8")
    assert "Signed by <bdi>ours</bdi> on " in page
    assert "Anybody could have changed" not in page
    check = ["verify", str(report), "--key", str(keys / "ours.pub.json")]
    assert main(check) == 0
    payload = json.loads((report / "attestation" / "test-result.dsse.json").read_text())["payload"]
    configuration = json.loads(base64.b64decode(payload))["predicate"]["configuration"]
    other = hashlib.sha256((before / "signoff.json").read_bytes()).hexdigest()
    assert configuration[-1] == {"name": "compared with before", "digest": {"sha256": other}}
    path = report / "attestation" / "page.css"
    digest = hashlib.sha256((report / "signoff.json").read_bytes()).hexdigest()
    assert digest in path.read_text()
    assert f'data-signoff="{digest}"' in page
    path.write_text(path.read_text() + "h1 { display: none }")
    assert main(check) == 1
    assert "attestation/page.css was changed after signing" in capsys.readouterr().out


def test_a_page_whose_signing_fails_stays_as_it_was(run_root, tmp_path, keys, monkeypatch):
    report = tmp_path / "report"
    words = ["report", str(run_root), "--output", str(report), "--thresholds"]
    main([*words, str(run_root / "thresholds.toml")])
    before = (report / "signoff.html").read_bytes()

    def refuse(*_):
        raise RecordError("no")

    monkeypatch.setattr("harness.sign.sign.signed_envelope", refuse)
    assert main(["sign", str(report), "--run", str(run_root), "--key", str(keys / "ours")]) == 2
    assert (report / "signoff.html").read_bytes() == before


def test_a_run_report_is_not_signed_as_a_release(run_root, tmp_path, keys, capsys):
    thresholds = stored_thresholds(run_root / "thresholds.toml")
    merged = merged_runs([RunDirectory(run_root)])
    report = run_report_from_merged(merged, thresholds, datetime.date(2026, 3, 1))
    assert report.reasons == ()
    (run_root / "signoff.json").write_text(report.model_dump_json())
    assert sign_now(run_root, keys) == 2
    assert "signoff.json is a run report, which decides nothing" in capsys.readouterr().err
    assert not (run_root / "attestation").exists()


def make_green(record):
    """Edit a verdict into a pass, and leave its measurement."""
    for finding in record["verdict"]["findings"]:
        finding["is_met"] = True
    record["verdict"]["status"] = "pass"
    record["signoff_blockers"] = []


def test_a_record_edited_and_files_hashed_again_do_not_pass_the_old_signature(
    make_run, found, tmp_path, keys, capsys
):
    root = make_run(tmp_path / "run", {"parity": found["parity"](9.0)}).root
    assert sign_now(root, keys) == 0
    assert "DO NOT SHIP (FAILED)" in capsys.readouterr().out
    edit_records(root, make_green)
    path = root / "attestation" / "test-result.dsse.json"
    envelope = json.loads(path.read_text())
    payload = json.loads(base64.b64decode(envelope["payload"]))
    for subject in payload["subject"]:
        if subject["name"] == "records.jsonl":
            digest = hashlib.sha256((root / "records.jsonl").read_bytes()).hexdigest()
            subject["digest"]["sha256"] = digest
    text = json.dumps(payload, indent=1, sort_keys=True).encode() + b"\n"
    envelope["payload"] = base64.b64encode(text).decode()
    path.write_text(json.dumps(envelope, indent=1, sort_keys=True) + "\n")
    assert verify(root, keys) == 1
    assert "the signature does not fit" in capsys.readouterr().out


def sign_now(root, keys, *more):
    return main(["sign", str(root), "--key", str(keys / "ours"), *more])


def refused(root, keys, capsys):
    """What signing says against a folder."""
    assert sign_now(root, keys) == 2
    assert not (root / "attestation").exists()
    return capsys.readouterr().err


# What does not follow from its raw files is not signed


@pytest.mark.parametrize(
    ("check", "argument"), [("parity", 9.0), ("accuracy", 60), ("throughput", 1.1)]
)
def test_a_verdict_edited_to_pass_is_not_signed(
    make_run, found, tmp_path, keys, capsys, check, argument
):
    root = make_run(tmp_path / "run", {check: found[check](argument)}).root
    edit_records(root, make_green)
    error = refused(root, keys, capsys)
    assert f"nonlocal_tiny-cpu-bs1:{check}: the verdict does not follow from what was" in error
    assert 'verdict.status is "pass", comes to "fail"' in error
    assert f"{root}: made by suite {'a' * 40}; one of another commit may judge otherwise" in error


@pytest.mark.parametrize(
    ("check", "argument"), [("parity", 9.0), ("accuracy", 60), ("throughput", 1.1)]
)
def test_a_whole_record_of_a_better_run_is_not_signed(
    make_run, found, tmp_path, keys, capsys, check, argument
):
    good = make_run(tmp_path / "good").records()
    root = make_run(tmp_path / "run", {check: found[check](argument)}).root
    better = {one.id: json.loads(one.model_dump_json()) for one in good}

    def take(record):
        told = better[f"nonlocal_tiny-cpu-bs1:{record['check']}"]
        record.update(verdict=told["verdict"], measurement=told["measurement"])

    edit_records(root, take)
    error = refused(root, keys, capsys)
    assert f"nonlocal_tiny-cpu-bs1:{check}: the record does not follow" in error
    assert "measurement." in error


def test_an_edited_limit_in_a_finding_is_not_signed(run_root, keys, capsys):
    def loosen(record):
        record["verdict"]["findings"][0]["limit"] += 1.0

    edit_records(run_root, loosen)
    assert "verdict.findings[0].limit is" in refused(run_root, keys, capsys)


def test_a_failed_export_that_is_said_to_pass_is_not_signed(run_root, keys, capsys):
    def spoil(record):
        if record["check"] == "export":
            record["measurement"]["problems"] = ["a node of no kind"]

    edit_records(run_root, spoil)
    assert 'verdict.status is "pass", comes to "fail"' in refused(run_root, keys, capsys)


def test_other_thresholds_than_those_of_the_run_are_not_signed(run_root, keys, capsys):
    path = run_root / "thresholds.toml"
    path.write_text(path.read_text() + "# looser\n")
    assert "is not the contract that run.json names" in refused(run_root, keys, capsys)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tier": "smoke"}, "it is of tier smoke, the run of release"),
        ({"subjects": {"thresholds": "9" * 64}}, "judged by other thresholds"),
        ({"raw": {}}, "names no raw scores, so its verdict cannot be recomputed"),
    ],
)
def test_a_record_that_cannot_be_so_is_not_signed(run_root, keys, capsys, change, reason):
    edit_records(run_root, lambda record: record.update(change))
    assert reason in refused(run_root, keys, capsys)


def test_checks_of_different_files_are_not_signed_as_one_cell(run_root, keys, capsys):
    def other(record):
        if record["check"] == "accuracy":
            record["subjects"]["onnx"] = "8" * 64

    edit_records(run_root, other)
    assert "accuracy: its onnx is not that of" in refused(run_root, keys, capsys)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("truncate", "line 4 is truncated or damaged"),
        ("schema", "line 4 has schema version 2, this harness reads 1"),
        ("raw", "is missing"),
        ("changed raw", "changed since the run"),
    ],
)
def test_a_run_that_cannot_be_read_is_refused_and_named(run_root, keys, capsys, what, reason):
    path = run_root / "records.jsonl"
    raw = min((run_root / "raw").iterdir())
    if what == "truncate":
        path.write_bytes(path.read_bytes()[:-40])
    elif what == "schema":
        lines = path.read_text().splitlines()
        lines[3] = lines[3].replace('"schema_version":1', '"schema_version":2')
        path.write_text("\n".join(lines) + "\n")
    elif what == "raw":
        raw.unlink()
    else:
        flip(raw)
    assert reason in refused(run_root, keys, capsys)


@pytest.mark.parametrize("what", ["scores", "labels", "latencies"])
def test_a_raw_file_of_no_use_is_named(run_root, keys, capsys, what):
    run = RunDirectory(run_root)
    digest = run.keep(b"PK\x03\x04 no archive", ".npz")

    def replace(record):
        if what in record["raw"]:
            record["raw"][what] = digest

    edit_records(run_root, replace)
    error = refused(run_root, keys, capsys)
    assert f"raw {what}" in error


def test_a_fail_of_nothing_measured_is_not_signed(run_root, keys, capsys):
    def spoil(record):
        if record["check"] == "parity":
            record["measurement"] = None
            record["verdict"] = {"status": "fail", "reason": "so", "findings": []}
            record["signoff_blockers"] = ["the outcome is fail"]

    edit_records(run_root, spoil)
    assert "its verdict is fail, but nothing was measured" in refused(run_root, keys, capsys)


# What is signed


def payload(root, name):
    envelope = json.loads((root / "attestation" / name).read_text())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    return json.loads(base64.b64decode(envelope["payload"]))


def test_the_statement_is_an_in_toto_test_result_of_every_file_and_artifact(signed):
    statement = payload(signed, "test-result.dsse.json")
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    digests = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    for path in files(signed):
        if path.parent.name != "attestation":
            name = path.relative_to(signed).as_posix()
            assert digests.pop(name) == hashlib.sha256(path.read_bytes()).hexdigest()
    cell = "nonlocal_tiny-cpu-bs1"
    kinds = ("weights", "inputs", "onnx", "simplified", "device_model", "clips", "thresholds")
    assert sorted(digests) == sorted(f"{kind}:{cell}" for kind in kinds)
    named = {subject["name"]: subject for subject in statement["subject"]}
    passport = named[f"device_model:{cell}"]["annotations"]["passport"]
    assert (passport["soc_version"], passport["memory_bytes"]) == ("Ascend310P3", 7)
    predicate = statement["predicate"]
    assert predicate["result"] == "PASSED"
    checks = ("export", "parity", "accuracy", "throughput")
    assert predicate["passedTests"] == [f"{cell}:{check}" for check in checks]
    assert "failedTests" not in predicate
    assert [one["name"] for one in predicate["configuration"]] == ["thresholds.toml", "suite"]
    assert predicate["configuration"][1]["digest"] == {"gitCommit": "a" * 40}


def test_the_decision_is_a_slsa_verification_summary(signed):
    statement = payload(signed, "verification-summary.dsse.json")
    assert statement["predicateType"] == "https://slsa.dev/verification_summary/v1"
    predicate = statement["predicate"]
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["ACCEPTANCE_RELEASE"]
    assert predicate["timeVerified"] == "2026-03-01T12:00:00Z"
    content = (signed / "attestation" / "test-result.dsse.json").read_bytes()
    digest = {"sha256": hashlib.sha256(content).hexdigest()}
    assert predicate["inputAttestations"][0]["digest"] == digest
    thresholds = hashlib.sha256((signed / "thresholds.toml").read_bytes()).hexdigest()
    assert predicate["policy"]["digest"] == {"sha256": thresholds}
    assert set(predicate) >= {"verifier", "resourceUri", "slsaVersion"}


@pytest.mark.parametrize(
    "more",
    [
        {"weights": "seeded", "signoff_blockers": ("seeded weights",)},
        {
            "is_emulated": True,
            "signoff_blockers": ("an emulator answered in the device's place",),
        },
    ],
)
def test_seeded_or_emulated_is_signed_as_failed(make_run, tmp_path, keys, capsys, more):
    root = make_run(tmp_path / "run", **more).root
    assert sign_now(root, keys) == 0
    predicate = payload(root, "test-result.dsse.json")["predicate"]
    assert predicate["result"] == "FAILED"
    assert "passedTests" not in predicate
    assert len(predicate["warnedTests"]) == 4
    summary = payload(root, "verification-summary.dsse.json")["predicate"]
    assert summary["verificationResult"] == "FAILED"
    assert summary["verifiedLevels"] == ["FAILED"]
    assert verify_today(root, keys) == 0
    assert "DO NOT SHIP (FAILED)" in capsys.readouterr().out
    assert verify_today(root, keys, "--require-ship") == 1


def verify_today(root, keys, *more):
    return main(["verify", str(root), "--key", str(keys / "ours.pub.json"), *more])


def test_what_failed_is_signed_and_named(make_run, found, tmp_path, keys, capsys):
    root = make_run(tmp_path / "run", {"throughput": found["throughput"](1.1)}).root
    assert sign_now(root, keys) == 0
    predicate = payload(root, "test-result.dsse.json")["predicate"]
    assert predicate["result"] == "FAILED"
    assert predicate["failedTests"] == ["nonlocal_tiny-cpu-bs1:throughput"]


def test_a_decision_that_does_not_follow_is_not_signed(
    make_run, found, signed, tmp_path, keys, capsys
):
    root = make_run(tmp_path / "run", {"throughput": found["throughput"](1.1)}).root
    shutil.copy(signed / "signoff.json", root)
    assert sign_now(root, keys) == 2
    assert "signoff.json does not follow from the records: release." in (capsys.readouterr().err)


def test_a_report_is_signed_with_the_runs_it_rests_on(run_root, tmp_path, keys, capsys):
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.html").write_text("<!doctype html>")
    assert sign_now(report, keys) == 2
    assert "holds no run" in capsys.readouterr().err
    assert sign_now(report, keys, "--run", str(tmp_path)) == 2
    assert "is not a run folder" in capsys.readouterr().err
    other = tmp_path / "other" / "run"
    shutil.copytree(run_root, other)
    flip(other / "records.jsonl")
    for runs in ([other], [run_root, tmp_path]):
        assert sign_now(report, keys, *(word for run in runs for word in ("--run", str(run)))) == 2
        assert not list(report.glob("runs/*"))
    assert sign_now(report, keys, "--run", str(run_root)) == 0
    assert verify_today(report, keys, "--require-ship") == 0
    assert sign_now(report, keys, "--run", str(run_root)) == 2
    assert "is there already" in capsys.readouterr().err
    flip(report / "runs" / "run" / "records.jsonl")
    assert verify_today(report, keys) == 1
    assert "runs/run/records.jsonl was changed after signing" in capsys.readouterr().out


def test_a_folder_that_is_none_is_refused(tmp_path, keys, capsys):
    assert verify(tmp_path / "nowhere", keys) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert verify(tmp_path, keys) == 1
    assert "was it signed (harness sign)?" in capsys.readouterr().out


def test_the_report_that_a_run_holds_is_the_decision(signed, make_run, tmp_path, keys):
    stored = json.loads((signed / "signoff.json").read_text())
    run_root = make_run(tmp_path / "run", is_closed=True).root
    (run_root / "report").mkdir()
    path = run_root / "report" / "signoff.json"
    path.write_text(json.dumps({**stored, "made": "2026-02-02"}))
    assert sign_now(run_root, keys) == 0
    assert not (run_root / "signoff.json").exists()
    assert verify_today(run_root, keys, "--require-ship") == 0


def test_a_decision_by_thresholds_that_no_run_keeps_is_not_signed(signed, run_root, keys, capsys):
    stored = json.loads((signed / "signoff.json").read_text())
    (run_root / "signoff.json").write_text(json.dumps({**stored, "thresholds": "7" * 64}))
    assert "which no run was judged by" in refused(run_root, keys, capsys)
    (run_root / "signoff.json").write_text(json.dumps({**stored, "made": "today"}))
    assert "signoff.json: made: Invalid isoformat" in refused(run_root, keys, capsys)
    (run_root / "signoff.json").write_text("{}")
    assert "signoff.json is not a valid Release" in refused(run_root, keys, capsys)


def test_statements_that_were_swapped_are_refused(signed, keys, capsys):
    folder = signed / "attestation"
    one, other = folder / "test-result.dsse.json", folder / "verification-summary.dsse.json"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    assert verify(signed, keys) == 1
    assert "is not a signed test result" in capsys.readouterr().out
    one.write_bytes(first)
    other.write_bytes(first)
    assert verify(signed, keys) == 1
    assert "is not a signed verification summary" in capsys.readouterr().out


def sign_statement(root, keys, name, change):
    """Sign what ``change`` makes of a statement: the signer himself lies."""
    statement = payload(root, name)
    change(statement)
    signer, _ = signer_from_file(keys / "ours")
    (root / "attestation" / name).write_bytes(signed_envelope(statement, signer))


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (
            "test-result.dsse.json",
            lambda one: one["predicate"].update(result="WARNED"),
            "test result: its result does not follow from the records: WARNED, comes to PASSED",
        ),
        (
            "test-result.dsse.json",
            lambda one: one["predicate"]["passedTests"].pop(),
            "test result: its passedTests does not follow",
        ),
        (
            "test-result.dsse.json",
            lambda one: one["subject"][-1]["digest"].update(sha256="0" * 64),
            "test result: its artifacts are not those of the records",
        ),
        (
            "test-result.dsse.json",
            lambda one: one.update(subject=[{"uri": "urn:x"}]),
            "is not a test result of this suite: KeyError('name')",
        ),
        (
            "verification-summary.dsse.json",
            lambda one: one["predicate"].update(verificationResult="FAILED"),
            "verification summary: its verificationResult does not follow from the records: FAILED",
        ),
        (
            "verification-summary.dsse.json",
            lambda one: one["predicate"].update(verifiedLevels=["SLSA_BUILD_LEVEL_3"]),
            "verification summary: its verifiedLevels does not follow",
        ),
        (
            "verification-summary.dsse.json",
            lambda one: one["predicate"].update(policy={}),
            "verification summary: its policy does not follow",
        ),
        (
            "verification-summary.dsse.json",
            lambda one: one["predicate"].update(inputAttestations=[]),
            "verification summary: its inputAttestations does not follow",
        ),
        (
            "verification-summary.dsse.json",
            lambda one: one["subject"].pop(),
            "verification summary: its subjects are not those of the records",
        ),
        (
            "verification-summary.dsse.json",
            lambda one: one["predicate"].update(timeVerified="2027-01-02T00:00:00Z"),
            "it was signed on 2027-01-02, after its key expired on 2027-01-01",
        ),
        (
            "verification-summary.dsse.json",
            lambda one: one["predicate"].pop("timeVerified"),
            "does not say when it was made",
        ),
    ],
)
def test_a_statement_that_its_own_signer_bent_is_found(signed, keys, capsys, name, change, reason):
    sign_statement(signed, keys, name, change)
    assert verify(signed, keys) == 1
    assert reason in capsys.readouterr().out


def test_a_run_of_nothing_is_signed_as_failed(make_run, tmp_path, keys, capsys):
    root = make_run(tmp_path / "run").root
    (root / "records.jsonl").write_text("")
    assert sign_now(root, keys) == 0
    assert "DO NOT SHIP (FAILED)" in capsys.readouterr().out
    summary = payload(root, "verification-summary.dsse.json")
    assert [one["name"] for one in summary["subject"]] == ["run/run.json"]
    assert verify_today(root, keys) == 0


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"payload": 1, "payloadType": "x", "signatures": []}']
)
def test_an_envelope_that_is_none_is_refused(signed, keys, capsys, content):
    (signed / "attestation" / "test-result.dsse.json").write_bytes(content)
    assert verify(signed, keys) == 1
    assert "is not a DSSE envelope, or was edited" in capsys.readouterr().out


WAIVER = """
[[waivers]]
cell = "nonlocal_tiny-cpu-bs1"
check = "throughput"
reason = "the host is shared"
issue = "https://example.org/7"
owner = "Ann"
expires = 2099-01-01
"""


def test_signing_and_verifying_speak_the_language_that_is_asked_for(
    make_run, found, tmp_path, keys, capsys
):
    root = make_run(tmp_path / "run", {"throughput": found["throughput"](1.1)}).root
    chinese = ("--language", "zh")
    assert sign_now(root, keys, *chinese) == 0
    said = capsys.readouterr().out
    assert "判定      不可发布（不通过），级别 release" in said
    assert re.search("          不通过: 太慢：处理器速度为 .* 倍（与未优化的图相比），应 >= ", said)
    assert verify_today(root, keys, *chinese) == 0
    said = capsys.readouterr().out
    assert "签名      由 ours，密钥 " in said
    assert said.endswith("验证通过\n")
    assert verify_today(root, keys, "--require-ship", *chinese) == 1
    assert capsys.readouterr().out.endswith("不可发布：签名之后没有任何改动，但判定为否\n")
    (root / "junit.xml").write_text("<edited/>")
    assert verify_today(root, keys, *chinese) == 1
    assert "问题      junit.xml 在签名之后被改动\n" in capsys.readouterr().out


def test_a_waived_check_is_warned_of_and_never_passed(make_run, found, tmp_path, keys, capsys):
    slow = {"throughput": found["throughput"](1.1)}
    root = make_run(tmp_path / "run", slow, contract=WAIVER).root
    assert sign_now(root, keys) == 0
    assert "SHIP (WARNED)" in capsys.readouterr().out
    predicate = payload(root, "test-result.dsse.json")["predicate"]
    assert predicate["result"] == "WARNED"
    assert predicate["warnedTests"] == ["nonlocal_tiny-cpu-bs1:throughput"]
    assert len(predicate["passedTests"]) == 3
    assert verify_today(root, keys, "--require-ship") == 0


def test_a_folder_that_is_still_written_to_is_not_signed(run_root, keys, capsys, monkeypatch):
    from harness.sign import sign as signing

    def late(*arguments):
        (run_root / "late.txt").write_text("late")
        return test_result(*arguments)

    test_result = signing.test_result
    monkeypatch.setattr(signing, "test_result", late)
    error = refused(run_root, keys, capsys)
    assert "because it is still being written" in error
    assert "late.txt was added" in error


def test_a_report_of_two_runs_given_in_any_order(make_run, tmp_path, keys, capsys):
    first, second = (make_run(tmp_path / name).root for name in ("b", "a"))
    report = tmp_path / "report"
    contract = str(first / "thresholds.toml")
    command = ["report", str(first), str(second), "--output", str(report)]
    assert main([*command, "--thresholds", contract]) == 1
    assert sign_now(report, keys, "--run", str(first), "--run", str(second)) == 0
    assert verify_today(report, keys) == 0
    assert "REPEATED: run 2 times, in b, a" in capsys.readouterr().out


def test_each_statement_needs_a_key_that_counts(signed, keys, tmp_path, capsys):
    old = write_key_pair(tmp_path / "old", "old", datetime.date(2026, 3, 1))
    statement = payload(signed, "verification-summary.dsse.json")
    signer, _ = signer_from_file(tmp_path / "old")
    path = signed / "attestation" / "verification-summary.dsse.json"
    path.write_bytes(signed_envelope(statement, signer))
    assert verify(signed, keys) == 1
    assert f"{path} is signed by" in capsys.readouterr().out
    assert verify(signed, keys, "--key", str(old)) == 2
    assert "of old expired on 2026-03-01" in capsys.readouterr().err
