import pytest

import harness.models
from harness.__main__ import main
from harness.check.model_check import Looked
from harness.cli import model as command
from harness.host.site import FIXTURES

TSM = "recognition/tsm/tsm_r50_1x1x8_50e_kinetics400_rgb.py"
C3D = "recognition/c3d/c3d_sports1m_16x1x1_45e_ucf101_rgb.py"
CHECKPOINT = "tsm_r50_1x1x8_50e_kinetics400_rgb_20200607-af7fb746.pth"


@pytest.fixture
def contract(monkeypatch, tmp_path):
    """A contract and a folder of models that may be written to."""
    (tmp_path / "models").mkdir()
    paths = [str(tmp_path / "models"), *harness.models.__path__]
    monkeypatch.setattr(harness.models, "__path__", paths)
    path = tmp_path / "thresholds.toml"
    path.write_text((FIXTURES.parent / "thresholds.toml").read_text())
    return path


def add(contract, *arguments):
    return main(["model", "add", *arguments, "--thresholds", str(contract)])


def test_a_dry_run_shows_both_texts_and_writes_nothing(contract, capsys):
    before = contract.read_text()
    assert add(contract, TSM, CHECKPOINT, "--name", "tsm_new", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "SPEC = model_spec_from_config(" in shown
    assert 'top1 = { golden = 0.7024, floor = 0.6954, source = "tsm_new_accuracy" }' in shown
    assert contract.read_text() == before
    assert list((contract.parent / "models").iterdir()) == []


def test_adding_says_what_to_run_next(contract, capsys):
    assert add(contract, TSM, CHECKPOINT, "--name", "tsm_new", "--device", "ascend310p") == 0
    shown = capsys.readouterr().out
    assert "harness model check tsm_new" in shown
    assert "pytest -m ascend310p --model tsm_new acceptance/" in shown
    assert "calibrate" not in shown
    assert "[models.tsm_new]" in contract.read_text()
    assert (contract.parent / "models/tsm_new.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([TSM], "lists 3 checkpoints"),
        ([TSM, "tsm-00000000.pth"], "lacks tsm-00000000.pth"),
        ([TSM, CHECKPOINT, "--name", "timesformer"], "there is a model timesformer already"),
        ([TSM, CHECKPOINT, "--device", "tpu"], "no device is called 'tpu'"),
        ([TSM, "mine-00000000.pth", "--top1", "0.7"], "give the checkpoint and --source"),
        ([C3D], "or say how many clips it has with --clip-count"),
        ([C3D, "--dataset", "kinetics400"], "the head has 101 classes, kinetics400 has 400"),
        (["recognition/tsm/gone.py", "a.pth", "--top1", "0.7", "--source", "me"], "cannot be read"),
        (["recognition/tsn/tsn_r50_320p_1x1x3_110e_kinetics400_flow.py"], "takes Flow input"),
    ],
)
def test_what_cannot_be_added_is_refused_with_the_reason(contract, capsys, arguments, said):
    assert add(contract, *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_checkpoint_file_must_be_what_its_name_promises(contract, capsys, tmp_path):
    path = tmp_path / "mine-01234567.pth"
    path.write_bytes(b"other bytes")
    assert add(contract, TSM, str(path), "--top1", "0.7", "--source", "me") == 2
    assert "its name promises a sha256" in capsys.readouterr().err


@pytest.mark.parametrize(("is_good", "status"), [(True, 0), (False, 1)])
def test_a_check_prints_what_it_saw(monkeypatch, capsys, is_good, status):
    seen = [Looked("protocol", True, "same"), Looked("parity", is_good, "4 edges")]
    monkeypatch.setattr(command, "look_at_model", lambda *arguments: iter(seen))
    assert main(["model", "check", "nonlocal_tiny"]) == status
    assert f"parity     {'ok' if is_good else 'NOT OK'}" in capsys.readouterr().out
