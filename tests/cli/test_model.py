import re
import runpy

import pytest

from harness.__main__ import main
from harness.check.model_check import Looked
from harness.cli import model as command
from harness.host.site import FIXTURES
from tests.bare_onnx import mean_proto, slow_fast_proto, stored

TSM = "recognition/tsm/tsm_r50_1x1x8_50e_kinetics400_rgb.py"
C3D = "recognition/c3d/c3d_sports1m_16x1x1_45e_ucf101_rgb.py"
AUDIO = "recognition_audio/resnet/tsn_r18_64x1x1_100e_kinetics400_audio_feature.py"
TINY = str(FIXTURES / "checkpoints/nonlocal_tiny_motion8-4d340936.pth")
OWN = ("--top1", "0.7", "--source", "our training")
CHECKPOINT = "tsm_r50_1x1x8_50e_kinetics400_rgb_20200607-af7fb746.pth"


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
    assert f"note: {CHECKPOINT} is not on this machine; until `checkpoints` in site.toml" in shown
    assert "note: data set kinetics400 is not on this machine" in shown
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
        ([AUDIO], "builds AudioRecognizer; this suite takes classifiers of RGB clips"),
        (["localization/bmn/bmn_400x100_2x8_9e_activitynet_feature.py"], "builds BMN"),
        (["recognition/tsm/metafile.yml"], "is not a configuration of mmaction2"),
        (
            ["recognition/i3d/i3d_r50_video_inference_32x2x1_100e_kinetics400_rgb.py"],
            "no checkpoint",
        ),
        ([TSM, "/gone/mine-01234567.pth", *OWN], "/gone/mine-01234567.pth cannot be read"),
        ([TSM, TINY, *OWN], "does not fit the model: missing keys"),
    ],
)
def test_what_cannot_be_added_is_refused_with_the_reason(contract, capsys, arguments, said):
    assert add(contract, *arguments) == 2
    assert said in capsys.readouterr().err


def test_the_head_must_be_of_the_data_set_that_is_here(contract, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.avi").touch()
    (tmp_path / "list.txt").write_text("a.avi 1\n")
    (tmp_path / "names.txt").write_text("Archery\nBiking\n")
    here = f'[datasets.ucf101]\nlist = "list.txt"\nroot = "{tmp_path}"\nlabel_map = "names.txt"\n'
    (tmp_path / "site.toml").write_text(here)
    monkeypatch.setenv("ACCEPTANCE_SITE", str(tmp_path / "site.toml"))
    assert add(contract, C3D) == 2
    assert "the head has 101 classes, ucf101 on this machine has 2" in capsys.readouterr().err


def test_a_checkpoint_file_must_be_what_its_name_promises(contract, capsys, tmp_path):
    path = tmp_path / "mine-01234567.pth"
    path.write_bytes(b"other bytes")
    assert add(contract, TSM, str(path), "--top1", "0.7", "--source", "me") == 2
    assert "its name promises a sha256" in capsys.readouterr().err


OWN = ("--top1", "0.5", "--source", "me")


def test_an_onnx_file_is_added_with_what_it_is_fed(contract, capsys, tmp_path):
    path = stored(tmp_path, mean_proto(shape=(2, 8, 3, 64, 64)), "means")
    assert add(contract, str(path), "--protocol", "nonlocal_tiny", *OWN) == 0
    text = (contract.parent / "models/means.py").read_text()
    assert f'SPEC = model_spec_from_file(\n    "{path.name}",\n    name="means",\n' in text
    assert 'inputs={"video": (1, 8, 3, 64, 64)},\n    output=("class", (1, 8)),\n' in text
    assert 'protocol={"short_side": 72, "crop_size": 64, "source": "video"},' in text
    assert "frozen_batch=2,\n)" in text
    assert not {"opset=", "frames="} & set(re.findall(r"\w+=", text))
    spec = runpy.run_path(str(contract.parent / "models/means.py"))["SPEC"]
    assert (spec.checkpoint, spec.frozen_batch) == (path.name, 2)
    tables = contract.read_text().partition("[models.means]")[2]
    assert f'weights = "{path.stem[-8:]}"' in tables
    assert "\nbs2 = { golden = 1.0, tolerance = 0.9" in tables
    assert "harness model check means" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("proto", "arguments", "said"),
    [
        (mean_proto(), (), "give --protocol, --top1 and --source"),
        (mean_proto(), ("--protocol", "recognition/gone.py", *OWN), "cannot be read"),
        (mean_proto(), ("--protocol", "nonlocal_r50", *OWN), "do not fill; name another protocol"),
        (slow_fast_proto(), ("--protocol", "nonlocal_tiny", *OWN), "--frames slow=0:8"),
        (
            slow_fast_proto(),
            ("--protocol", "nonlocal_tiny", "--frames", "slow=8", *OWN),
            "'slow=8' does not say frames as slow=0:8:4 does",
        ),
    ],
)
def test_an_onnx_file_that_cannot_be_added_is_refused(
    contract, capsys, tmp_path, proto, arguments, said
):
    path = stored(tmp_path, proto, "means")
    try:
        status = add(contract, str(path), *arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("is_good", "status"), [(True, 0), (False, 1)])
def test_a_check_prints_what_it_saw(monkeypatch, capsys, is_good, status):
    seen = [Looked("protocol", True, "same"), Looked("parity", is_good, "4 edges")]
    monkeypatch.setattr(command, "look_at_model", lambda *arguments: iter(seen))
    assert main(["model", "check", "nonlocal_tiny"]) == status
    assert f"parity     {'ok' if is_good else 'NOT OK'}" in capsys.readouterr().out
