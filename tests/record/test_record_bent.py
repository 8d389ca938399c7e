"""Runs whose records were bent: everything that reads a stored run refuses them by name."""

import re
import shutil

import pytest

from harness.__main__ import main
from harness.selftest.stored_faults import RAW, RECORDS

FAULTS = [*RECORDS, *RAW]


@pytest.mark.parametrize(
    ("bend", "finding"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_a_bent_run_is_refused_by_name(
    signed, make_run, found, keys, tmp_path, capsys, bend, finding
):
    other = make_run(tmp_path / "other", {"throughput": found["throughput"](4.6)}).root
    root, contract = str(signed), ["--thresholds", str(signed / "thresholds.toml")]
    history = str(tmp_path / "history")
    commands = {
        "judge": ["judge", root, *contract],
        "report": ["report", root, "--output", str(tmp_path / "out"), *contract],
        "gate": ["gate", root, "--history", history, "--without-baseline", *contract],
        "export": ["export-results", root, "--junit", str(tmp_path / "junit.xml")],
        "verify": ["verify", root, "--key", str(keys / "ours.pub.json"), "--at", "2026-03-02"],
        "sign": ["sign", root, "--key", str(keys / "ours")],
    }
    assert main(commands["judge"]) == 0
    assert main(commands["verify"]) == 0
    capsys.readouterr()
    bend(signed, other)
    for name, command in commands.items():
        if name == "sign":
            shutil.rmtree(signed / "attestation")
        assert main(command) == (1 if name == "verify" else 2), name
        answer = capsys.readouterr()
        assert re.search(finding, answer.out + answer.err), name


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
