"""Runs whose records were bent: everything that reads a stored run refuses them by name."""

import json
import shutil

import pytest

from harness.__main__ import main
from harness.record.record import RunDirectory
from tests.made import bind

CELL = "nonlocal_tiny-cpu-bs1"
MOVED = f"{CELL}:throughput does not belong to this run as both stand now"


def edit(root, check, change):
    path = root / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        if record["check"] == check:
            change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def rename(root, other):
    """Give a run a new id and a new start."""
    facts = json.loads((root / "run.json").read_text())
    new = {"run_id": "tonight", "started": "2026-03-02T00:00:00+00:00"}
    (root / "run.json").write_text(json.dumps(facts | new))
    for check in ("export", "parity", "accuracy", "throughput"):
        edit(root, check, lambda record: record.update(run_id="tonight"))


def make_faster(root, other):
    """Edit a measurement and the verdict on it together, as another run has them."""
    (theirs,) = [one for one in RunDirectory(other).records() if one.check == "throughput"]
    values = json.loads(theirs.model_dump_json())
    edit(
        root,
        "throughput",
        lambda record: record.update({key: values[key] for key in ("measurement", "verdict")}),
    )


def make_faster_and_bind(root, other):
    make_faster(root, other)
    bind(root)


def take(root, other):
    """Take a record and its raw file from another green run."""
    (theirs,) = [one for one in RunDirectory(other).records() if one.check == "throughput"]
    values = json.loads(theirs.model_dump_json())
    edit(root, "throughput", lambda record: record.update(values, run_id=record["run_id"]))
    (name,) = theirs.raw.values()
    shutil.copy(other / "raw" / f"{name}.jsonl", root / "raw")


def take_and_bind(root, other):
    take(root, other)
    bind(root)


def strip(root, other):
    """Make a run look as if it was made before records were bound, but leave its raw files."""
    facts = json.loads((root / "run.json").read_text())
    (root / "run.json").write_text(json.dumps({**facts, "nonce": ""}))
    for check in ("export", "parity", "accuracy", "throughput"):
        edit(root, check, lambda record: record.update(binding=""))


BENT = [
    (rename, f"{CELL}:export does not belong to this run as both stand now"),
    (make_faster, MOVED),
    (make_faster_and_bind, f"{CELL}:throughput: the record does not follow from its raw files"),
    (take, MOVED),
    (take_and_bind, "changed since the run, or is from another run"),
    (strip, f"{CELL}:parity: raw scores:"),
]


@pytest.mark.parametrize(("bend", "named"), BENT, ids=lambda one: getattr(one, "__name__", None))
def test_a_bent_run_is_refused_by_name(
    signed, make_run, found, keys, tmp_path, capsys, bend, named
):
    other = make_run(tmp_path / "other", {"throughput": found["throughput"](4.6)}).root
    root, contract = signed, str(signed / "thresholds.toml")
    commands = {
        "judge": ["judge", str(root), "--thresholds", contract],
        "report": [
            "report",
            str(root),
            "--output",
            str(tmp_path / "out"),
            "--thresholds",
            contract,
        ],
        "gate": ["gate", str(root), "--history", str(tmp_path / "history"), "--without-baseline"],
        "export": ["export-results", str(root), "--junit", str(tmp_path / "junit.xml")],
        "verify": ["verify", str(root), "--key", str(keys / "ours.pub.json"), "--at", "2026-03-02"],
        "sign": ["sign", str(root), "--key", str(keys / "ours")],
    }
    commands["gate"] += ["--thresholds", contract]
    assert main(commands["judge"]) == 0
    assert main(commands["verify"]) == 0
    capsys.readouterr()
    bend(root, other)
    for name, command in commands.items():
        if name == "sign":
            shutil.rmtree(root / "attestation")
        assert main(command) == (1 if name == "verify" else 2), name
        answer = capsys.readouterr()
        assert named in answer.out + answer.err, name


def test_a_run_from_before_is_read_and_says_that_it_can_never_be_signed(
    make_run, keys, tmp_path, capsys
):
    root = make_run(tmp_path / "run", nonce="").root
    words = "can be judged, and never signed off"
    contract = ["--thresholds", str(root / "thresholds.toml")]
    assert main(["judge", str(root), *contract]) == 0
    assert words in capsys.readouterr().out
    assert main(["report", str(root), "--output", str(tmp_path / "out"), *contract]) == 1
    assert "DO NOT SHIP: Not yet: 1 run does not count" in capsys.readouterr().out
    assert '"unbound"' in (tmp_path / "out" / "signoff.json").read_text()
    gate = ["gate", str(root), "--history", str(tmp_path / "history"), "--without-baseline"]
    # What the gate makes of a first night without a baseline is another matter.
    assert main([*gate, *contract]) != 2
    assert words in capsys.readouterr().out
    assert main(["sign", str(root), "--key", str(keys / "ours")]) == 2
    assert words in capsys.readouterr().err
