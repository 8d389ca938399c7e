"""Contracts in the old form: moved by a command, and read as they are where a run keeps one."""

import hashlib
import json
import tomllib
from pathlib import Path

import pytest

from harness.__main__ import main
from harness.contract.thresholds import stored_thresholds, thresholds_from_file
from harness.contract.toml import table_lines
from harness.errors import ThresholdsError
from harness.record.facts import binding_of
from harness.record.recompute import founded_records
from harness.record.record import RunDirectory
from harness.sign.evidence import evidence_problems, kept_thresholds
from tests.signed_run import make_run

__all__ = ["make_run"]
OLD = Path(__file__).parent / "schema_1.toml"
TODAY = Path(__file__).parents[2] / "thresholds.toml"


def test_the_old_form_is_refused_with_the_command_that_moves_it(capsys):
    with pytest.raises(ThresholdsError, match=r"harness thresholds migrate .*schema_1\.toml --out"):
        thresholds_from_file(OLD)
    assert main(["thresholds", "lint", "--thresholds", str(OLD)]) == 2
    assert "is in the old form (schema = 1)" in capsys.readouterr().err


def test_a_moved_contract_has_the_limits_that_it_had(tmp_path, capsys):
    new = tmp_path / "new.toml"
    assert main(["thresholds", "migrate", str(OLD), "--output", str(new)]) == 0
    assert "comments of" in capsys.readouterr().err
    old, moved = tomllib.loads(OLD.read_text()), thresholds_from_file(new)
    nonlocal_r50 = old["models"]["nonlocal_r50"]
    assert [cell.id for cell in moved.cells()] == [
        "nonlocal_r50-cpu-bs1",
        "nonlocal_r50-ascend310-bs1",
        "nonlocal_r50-ascend310-bs4",
    ]
    for cell in moved.cells():
        limits, device = moved.limits(cell), nonlocal_r50["devices"][cell.device]
        precision = "fp32" if cell.device == "cpu" else "fp16"
        assert limits.parity.model_dump() == nonlocal_r50["parity"][precision]
        paired = limits.accuracy.paired.model_dump(exclude_unset=True)
        assert paired == nonlocal_r50["paired"]
        assert limits.accuracy.every_clip.model_dump() == nonlocal_r50["every_clip"][precision]
        assert limits.weights == nonlocal_r50["weights"]
        written = limits.throughput.model_dump(exclude_unset=True, exclude={"guide"})
        assert written == device["throughput"][f"bs{cell.batch}"]
        for name in ("top1", "top5"):
            floor = getattr(limits.accuracy, name).model_dump(exclude_unset=True, exclude={"guide"})
            assert floor == device[name]
    tier = moved.tier("nightly").model_dump(mode="json", exclude_defaults=True)
    assert tier == old["tiers"]["nightly"]
    assert [waiver.model_dump(exclude_defaults=True) for waiver in moved.file.waivers] == old[
        "waivers"
    ]


def test_the_numbers_of_the_guide_get_keys_of_their_own():
    thresholds = stored_thresholds(OLD)
    cells = thresholds.cells()
    floors = [thresholds.limits(cell).accuracy for cell in cells]
    assert [(one.top1.guide, one.top5.guide) for one in floors] == [
        (None, None),
        (0.7161, 0.9026),
        (0.7161, 0.9026),
    ]
    assert [thresholds.limits(cell).throughput.guide for cell in cells] == [None, 53.8752, None]


def test_what_is_alike_is_said_once(capsys):
    assert main(["thresholds", "migrate", str(OLD)]) == 0
    text = capsys.readouterr().out
    assert text.count('unit = "clips/s"') == 1
    assert text.count("the guide gives no floor") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([str(TODAY)], "thresholds.toml is not in the old form (schema = 1)"),
        (["none.toml"], "none.toml cannot be read"),
        ([str(OLD), "--output", str(OLD)], "schema_1.toml: File exists"),
    ],
)
def test_what_cannot_be_moved_is_named(capsys, arguments, words):
    assert main(["thresholds", "migrate", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_an_old_contract_that_is_malformed_is_named_by_its_key(tmp_path):
    path = tmp_path / "old.toml"
    path.write_text(OLD.read_text().replace("golden = 1.16", 'golden = "fast"'))
    with pytest.raises(
        ThresholdsError, match=r"\n  models\.nonlocal_r50\.devices\.cpu\.throughput"
    ):
        stored_thresholds(path)


# Stored runs


@pytest.fixture
def old_run(make_run, tmp_path):
    """A run that was judged by a contract in the old form."""
    run = make_run(tmp_path / "run")
    path = run.root / "thresholds.toml"
    thresholds = thresholds_from_file(path)
    tables = thresholds.file.model_dump(exclude_defaults=True)
    text = "\n".join(table_lines({"schema": 1, **without(tables, "guide", "no_golden")}))
    path.write_text(text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts, records = run.root / "run.json", run.root / "records.jsonl"
    for file in (facts, records):
        file.write_text(file.read_text().replace(thresholds.digest, digest))
    stored = json.loads(facts.read_text())
    lines = map(json.loads, records.read_text().splitlines())
    bound = [one | {"binding": binding_of(stored, one)} for one in lines]
    records.write_text("".join(f"{json.dumps(one)}\n" for one in bound))
    return RunDirectory(run.root)


def without(tables, *names):
    return {
        key: without(value, *names) if isinstance(value, dict) else value
        for key, value in tables.items()
        if key not in names
    }


def test_a_run_that_keeps_the_old_form_is_still_borne_out(old_run):
    assert "schema = 1" in (old_run.root / "thresholds.toml").read_text()
    assert evidence_problems(old_run, founded_records(old_run), kept_thresholds(old_run)) == []


def test_a_run_that_keeps_the_old_form_is_judged_by_it(old_run, tmp_path, capsys):
    contract = ["--thresholds", str(old_run.root / "thresholds.toml")]
    assert main(["judge", str(old_run.root), *contract]) == 0
    assert "which is not what the run was judged by" not in capsys.readouterr().out
    page = tmp_path / "page"
    main(["report", str(old_run.root), "--output", str(page), *contract])
    assert (page / "signoff.html").is_file()
