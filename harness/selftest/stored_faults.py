"""Faults of what a green run leaves: records, raw files, facts, signature, history and baseline."""

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.selftest.bends import (
    Bend,
    added,
    better,
    bind,
    bound,
    byte,
    contract_edited,
    decided,
    excused,
    flip,
    more_sessions,
    of_lines,
    of_record,
    raw_file,
    rename,
    renamed,
    set_facts,
    signature_of,
    stripped,
    swapped,
    taken,
    worse_but_green,
)
from harness.selftest.faults import Fault, Trial
from harness.selftest.setting import Answer, Setting

READERS = ("judge", "report", "gate", "verify")


def after_bending(bend: Bend, readers: Sequence[str], finding: str) -> Trial:
    """Return a trial that bends a green run; every reader must then refuse it with the finding."""

    def trial(setting: Setting) -> Answer:
        root = Path(shutil.copytree(setting.clean_run, setting.folder / "bent"))
        other = Path(shutil.copytree(setting.other_run, setting.folder / "other"))
        bend(root, other)
        answers = [(reader, _read(setting, reader, root)) for reader in readers]
        for reader, answer in answers:
            if answer.status == 0 or not re.search(finding, answer.said, re.DOTALL):
                said = f"harness {reader}: exit status {answer.status}: {answer.said}"
                return Answer(0, said)
        return answers[0][1]

    return trial


def _read(setting: Setting, reader: str, root: Path) -> Answer:
    contract = ("--thresholds", str(root / "thresholds.toml"))
    words = {
        "judge": ("judge", str(root), *contract),
        "report": ("report", str(root), "--output", str(setting.folder / "out"), *contract),
        "gate": (
            *("gate", str(root), "--history", str(setting.folder / "history.sqlite")),
            *("--without-baseline", *contract),
        ),
        "verify": ("verify", str(root), "--key", _key_of(setting)),
    }
    return setting.harness(*words[reader])


_MOVED = r"[\w-]+-bs\d+:\w+ does not belong to this run as both stand now"
_FOREIGN_RAW = "changed since the run, or is from another run"
_FOUNDED = r"[\w-]+-bs\d+:\w+: the record does not follow from its raw files"
_REMOVED = "a record was removed, or one of the two changed"
# What a run is refused for by whatever reads it; tests bend a run made by hand in the same ways.
RECORDS: tuple[tuple[str, Bend, str], ...] = (
    ("an old green run under another id", renamed, _MOVED),
    (
        "another reason in the verdict",
        of_record("parity", lambda r: r["verdict"].update(reason="")),
        _MOVED,
    ),
    ("a measurement edited", of_record("throughput", more_sessions), _MOVED),
    ("a measurement edited, bound anew", bound(of_record("throughput", more_sessions)), _FOUNDED),
    ("measurement and verdict of another run", taken("measurement", "verdict"), _MOVED),
    (
        "measurement and verdict of another run, bound anew",
        bound(taken("measurement", "verdict")),
        _FOUNDED,
    ),
    ("record and raw file of another run", taken(), _MOVED),
    ("record and raw file of another run, bound anew", bound(taken()), _FOREIGN_RAW),
    (
        "another chip's facts",
        of_record("export", lambda r: r.update(device_facts={"chip": "310P"})),
        _MOVED,
    ),
    (
        "another checkpoint's digest",
        of_record("export", lambda r: r["subjects"].update(weights="0")),
        _MOVED,
    ),
    ("another start", lambda root, _: set_facts(root, started="2026-03-02T00:00:00+00:00"), _MOVED),
    ("another host", lambda root, _: set_facts(root, environment={"host": "quiet"}), _MOVED),
    ("nothing required", lambda root, _: set_facts(root, required=[]), _MOVED),
    ("another nonce", lambda root, _: set_facts(root, nonce="ab" * 16), f"{_MOVED}|{_FOREIGN_RAW}"),
    ("no binding and no nonce", stripped, r"[\w-]+-bs\d+:parity: raw \w+:"),
    ("a record twice", of_lines(lambda lines: [*lines, lines[0]]), "twice"),
    (
        "half a record",
        of_lines(lambda lines: [*lines[:-1], lines[-1][:-20]]),
        "truncated or damaged",
    ),
    ("a record taken out", of_lines(lambda lines: lines[:-1]), _REMOVED),
    ("a record taken out, its device said to be absent", excused, _REMOVED),
    ("the run not over", lambda root, _: set_facts(root, is_over=False), _REMOVED),
)
RAW: tuple[tuple[str, Bend, str], ...] = (
    ("a bit of the predictions", byte("accuracy", "predictions"), _FOREIGN_RAW),
    ("a bit of PyTorch's predictions", byte("accuracy", "reference"), _FOREIGN_RAW),
    ("a bit of the labels", byte("accuracy", "labels"), _FOREIGN_RAW),
    ("a bit of the parity scores", byte("parity", "scores"), _FOREIGN_RAW),
    ("a bit of the times", byte("throughput", "latencies"), _FOREIGN_RAW),
    (
        "the predictions missing",
        lambda root, _: raw_file(root, "accuracy", "predictions").unlink(),
        "is missing",
    ),
    ("PyTorch's answers in the place of the device's, bound anew", bound(better), _FOUNDED),
    ("wrong answers behind a green record, bound anew", bound(worse_but_green), _FOUNDED),
)
_SIGNED: tuple[tuple[str, Bend, str], ...] = (
    (
        "the contract of the run edited",
        contract_edited,
        "thresholds.toml was changed after signing",
    ),
    ("a file added", added, "more.npz was added after signing"),
    ("a file taken out", lambda root, _: (root / "junit.xml").unlink(), "junit.xml"),
    ("the decision edited", decided, "signoff.json"),
    ("the two statements swapped", swapped, "attestation"),
    (
        "a byte of the signature",
        lambda root, _: flip(min((root / "attestation").iterdir())),
        "attestation",
    ),
    ("no signature", lambda root, _: shutil.rmtree(root / "attestation"), "attestation"),
    (
        "the signature of another run",
        signature_of,
        "changed after signing|added after signing",
    ),
)


def _key_of(setting: Setting) -> str:
    return str(setting.clean_run.parent / "key.pub.json")


def _verified_with(*options: str) -> Trial:
    """Return a trial that verifies a green run as it was signed, with more options."""
    return lambda setting: setting.harness(
        "verify", str(setting.clean_run), "--key", _key_of(setting), *options
    )


def _other_key(setting: Setting) -> Answer:
    key = setting.folder / "theirs"
    setting.harness("keygen", str(key), "--owner", "theirs")
    return setting.harness("verify", str(setting.clean_run), "--key", f"{key}.pub.json")


def _seen_before(setting: Setting) -> Answer:
    """Add an old green run to the history a second time, under another name and bound anew."""
    root = Path(shutil.copytree(setting.clean_run, setting.folder / "again"))
    history = ("--history", str(setting.folder / "history.sqlite"))
    first = setting.harness("history", "add", str(setting.clean_run), *history)
    rename(root)
    bind(root)
    second = setting.harness("history", "add", str(root), *history)
    return second if first.status == 0 else Answer(0, first.said)


def _damaged_history(setting: Setting) -> Answer:
    path = setting.folder / "history.sqlite"
    setting.harness("history", "add", str(setting.clean_run), "--history", str(path))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    content[100:140] = bytes(40)
    path.write_bytes(content)
    return setting.harness("history", "add", str(setting.other_run), "--history", str(path))


def _edited_baseline(setting: Setting) -> Answer:
    path, run = setting.folder / "baseline.json", str(setting.clean_run)
    words = ("--output", str(path), "--reviewer", "me", "--reason", "planted")
    frozen = setting.harness("baseline", "freeze", run, *words)
    if frozen.status:
        return Answer(0, frozen.said)
    values = json.loads(path.read_text("utf-8"))
    values["series"][0]["values"] = [0.5 * one for one in values["series"][0]["values"]]
    path.write_text(json.dumps(values), "utf-8")
    history = ("--history", str(setting.folder / "history.sqlite"))
    contract = ("--thresholds", str(setting.clean_run / "thresholds.toml"))
    return setting.harness("gate", run, "--baseline", str(path), *history, *contract)


_COMMANDS: tuple[tuple[str, str, str, str, Trial], ...] = (
    (
        *("signature", "a key that has expired", "verify", "expired|valid"),
        _verified_with("--at", "2100-01-01"),
    ),
    ("signature", "a key that did not sign", "verify", "not by the key given", _other_key),
    (
        *("signature", "a decision that is not SHIP", "verify", "NOT TO BE SHIPPED"),
        _verified_with("--require-ship"),
    ),
    ("history", "an old run under another id", "history add", "under another name", _seen_before),
    ("history", "a damaged page", "history add", "damaged|cannot be used", _damaged_history),
    ("baseline", "a baseline edited", "gate", "was edited since it was frozen", _edited_baseline),
)


def stored_faults() -> Iterable[Fault]:
    """Return the faults of stored runs."""
    tables = (
        ("record", READERS, RECORDS),
        ("raw file", READERS, RAW),
        ("signature", ("verify",), _SIGNED),
    )
    for family, readers, table in tables:
        for name, bend, finding in table:
            trial = after_bending(bend, readers, finding)
            yield Fault(family, name, ", ".join(readers), finding, trial)
    for family, name, by, finding, trial in _COMMANDS:
        yield Fault(family, name, by, finding, trial)
