import dataclasses
import runpy

import pytest

import harness.models
from harness import registry
from harness.contract.add_model import NewModel, contract_with, require_new_name, write_model
from harness.contract.thresholds import thresholds_from_file
from harness.errors import InputError
from harness.host.site import FIXTURES
from harness.spec import Cell
from harness.zoo.model import model_spec_from_config

CONTRACT = FIXTURES.parent / "thresholds.toml"
TSM = model_spec_from_config(
    "recognition/tsm/tsm_r50_1x1x8_50e_kinetics400_rgb.py",
    "tsm-af7fb746.pth",
    name="tsm_added",
    calibrated=True,
)
C3D = model_spec_from_config(
    "recognition/c3d/c3d_sports1m_16x1x1_45e_ucf101_rgb.py",
    "c3d-26655025.pth",
    name="c3d_added",
    calibrated=True,
)


@pytest.fixture
def models(monkeypatch, tmp_path):
    """A folder of models of its own, before the shipped ones."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setattr(harness.models, "__path__", [str(folder), *harness.models.__path__])
    return folder


@pytest.fixture
def contract(tmp_path):
    path = tmp_path / "thresholds.toml"
    path.write_text(CONTRACT.read_text())
    return path


def new(spec, **changes):
    made = NewModel(spec, 0.7024, 0.8956, "where from", 19796, ["cpu", "ascend310p"], [1, 4])
    return dataclasses.replace(made, **changes)


@pytest.mark.usefixtures("models")
def test_an_added_model_is_declared_and_judged(contract):
    before = contract.read_text().splitlines()
    path, text = write_model(new(TSM), contract)
    assert registry.model_spec("tsm_added") == TSM
    assert runpy.run_path(str(path))["SPEC"] == TSM
    assert path.read_text().startswith(
        '"""tsm_added: tsm_r50_1x1x8_50e_kinetics400_rgb of mmaction2."""'
    )
    limits = thresholds_from_file(contract).limits(Cell("tsm_added", "ascend310p", 4))
    assert limits.weights == "af7fb746"
    assert (limits.accuracy.top1.golden, limits.accuracy.top1.floor) == (0.7024, 0.6954)
    assert limits.accuracy.clip_count == 19796
    # Nothing that was there is lost or moved.
    assert [line for line in text.splitlines() if line in set(before)][: len(before)]
    assert [line for line in before if line not in text.splitlines()] == []


@pytest.mark.usefixtures("models")
def test_a_new_data_set_comes_with_its_clips_classes_and_margin(contract):
    write_model(new(C3D, clip_count=3783, top5=None, devices=["cpu"], batches=[1]), contract)
    file = thresholds_from_file(contract).file
    assert (file.clip_sets["ucf101"].clip_count, file.clip_sets["ucf101"].class_count) == (
        3783,
        101,
    )
    assert file.models["c3d_added"].paired.margin == 0.003
    second = dataclasses.replace(C3D, name="c3d_second")
    write_model(new(second, clip_count=3783, devices=["cpu"]), contract)
    assert contract.read_text().count("[clip_sets.ucf101]") == 1


@pytest.mark.usefixtures("models")
def test_the_source_of_a_margin_on_kinetics_is_written_where_the_contract_lacks_it(contract):
    text = contract.read_text()
    contract.write_text(text.replace("paired_20k", "paired_of_ours"))
    write_model(new(TSM), contract)
    added = thresholds_from_file(contract).file.models["tsm_added"]
    assert added.paired.source.startswith("19,796 clips: ")
    # One that is there is used as it is.
    contract.write_text(text)
    write_model(new(dataclasses.replace(TSM, name="tsm_second")), contract)
    assert contract.read_text().count("\npaired_20k = ") == 1
    assert "paired_kinetics400" not in contract.read_text()


def test_a_model_that_does_not_hold_together_changes_nothing(contract, models):
    text = contract.read_text()
    wrong = dataclasses.replace(C3D, name="c3d_wrong", dataset="kinetics400")
    with pytest.raises(InputError, match="tells 101 classes apart, kinetics400 has 400"):
        write_model(new(wrong), contract)
    assert contract.read_text() == text
    assert list(models.glob("*.py")) == []


def test_a_contract_of_another_layout_is_refused():
    with pytest.raises(InputError, match="no table that begins"):
        contract_with("schema = 2\n", new(TSM))


@pytest.mark.parametrize(
    ("name", "said"),
    [("nonlocal_tiny", "already"), ("tsm-r50", "cannot name"), ("Tsm", "cannot name")],
)
def test_a_name_must_be_new_and_a_module(name, said):
    with pytest.raises(InputError, match=said):
        require_new_name(name)
