import pytest

from harness.errors import InputError
from harness.zoo.metafile import entry_of_checkpoint, zoo_entries

TSM = "recognition/tsm/tsm_r50_1x1x8_50e_kinetics400_rgb.py"
C3D = "recognition/c3d/c3d_sports1m_16x1x1_45e_ucf101_rgb.py"


def test_an_accuracy_is_that_of_its_checkpoint():
    found = {entry.checkpoint[-12:-4]: (entry.top1, entry.top5) for entry in zoo_entries(TSM)}
    assert found == {
        "af7fb746": (0.7024, 0.8956),
        "020785e2": (0.7059, 0.8952),
        "68d582b4": (0.7073, 0.8981),
    }


def test_the_only_checkpoint_of_a_configuration_need_not_be_named():
    assert entry_of_checkpoint(C3D, None) == zoo_entries(C3D)[0]


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [(None, r"lists 3 checkpoints(.*\n)*.*70\.24% / 89\.56%"), ("mine-01234567.pth", "lacks mine")],
)
def test_a_checkpoint_that_the_zoo_cannot_tell_is_refused(checkpoint, said):
    with pytest.raises(InputError, match=said):
        entry_of_checkpoint(TSM, checkpoint)


def test_a_configuration_of_ones_own_has_no_entry(tmp_path):
    assert zoo_entries(str(tmp_path / "mine.py")) == ()
