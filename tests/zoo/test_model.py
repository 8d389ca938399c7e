import pytest

from harness.errors import InputError
from harness.zoo.config import config_path
from harness.zoo.model import model_spec_from_config

# configuration, input, output
SHAPES = {
    "tsm/tsm_r50_1x1x8_50e_kinetics400_rgb.py": ((1, 8, 3, 224, 224), (1, 400)),
    "tsm/tsm_r50_dense_1x1x8_100e_kinetics400_rgb.py": ((1, 800, 3, 224, 224), (100, 400)),
    "tsn/tsn_r50_320p_1x1x3_100e_kinetics400_rgb.py": ((1, 75, 3, 256, 256), (1, 400)),
    "tanet/tanet_r50_1x1x8_50e_sthv1_rgb.py": ((1, 48, 3, 256, 256), (6, 174)),
    "slowfast/slowfast_r50_4x16x1_256e_kinetics400_rgb.py": ((1, 30, 3, 32, 256, 256), (30, 400)),
    "c3d/c3d_sports1m_16x1x1_45e_ucf101_rgb.py": ((1, 10, 3, 16, 112, 112), (10, 101)),
    "tpn/tpn_tsm_r50_1x1x8_150e_sthv1_rgb.py": ((1, 48, 3, 256, 256), (6, 174)),
}
DATASETS = {
    "tsm/tsm_r50_1x1x8_50e_kinetics400_rgb.py": "kinetics400",
    "c3d/c3d_sports1m_16x1x1_45e_ucf101_rgb.py": "ucf101",
    "tsm/tsm_r50_1x1x8_50e_sthv2_rgb.py": "sthv2",
    "tsm/tsm_r50_1x1x8_50e_jester_rgb.py": "jester",
}
MODEL = """
_base_ = '{base}'
{change}
"""


def derived(name, **differences):
    return model_spec_from_config(f"recognition/{name}", "a-00000000.pth", **differences)


@pytest.fixture
def own_config(tmp_path):
    def write(change, base="tsm/tsm_r50_1x1x8_50e_kinetics400_rgb.py"):
        path = tmp_path / "My config.py"
        path.write_text(MODEL.format(base=config_path(f"recognition/{base}"), change=change))
        return str(path)

    return write


@pytest.mark.parametrize(("name", "shapes"), SHAPES.items())
def test_the_tensors_follow_from_the_views(name, shapes):
    spec = derived(name)
    assert (spec.input.shape, spec.output.shape) == shapes


@pytest.mark.parametrize(("name", "dataset"), DATASETS.items())
def test_the_data_set_is_the_folder_of_its_list(name, dataset):
    assert derived(name).dataset == dataset


def test_averaging_is_the_configurations():
    assert derived("c3d/c3d_sports1m_16x1x1_45e_ucf101_rgb.py").protocol.averaging == "score"
    assert derived("tsn/tsn_r50_320p_1x1x3_100e_kinetics400_rgb.py").protocol.averaging == "none"


def test_no_model_fetches_weights_to_start_from():
    found = derived("slowfast/slowfast_r50_4x16x1_256e_kinetics400_rgb.py").overrides
    assert found == {}
    csn = derived("csn/ircsn_ig65m_pretrained_r152_32x2x1_58e_kinetics400_rgb.py")
    assert csn.overrides == {"backbone": {"pretrained": None}}


def test_a_configuration_of_ones_own(own_config):
    spec = model_spec_from_config(own_config("model = dict(cls_head=dict(num_classes=7))"), "a.pth")
    assert (spec.name, spec.class_count, spec.output.shape) == ("my_config", 7, (1, 7))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model = dict(type='AudioRecognizer')", "AudioRecognizer"),
        ("model = dict(cls_head=dict(_delete_=True))", "no classification head"),
        (
            "model = dict(backbone=dict(num_segments=3), cls_head=dict(num_segments=3))",
            "whole clips",
        ),
        ("data = dict(test=dict(modality='Flow'))", "Flow input"),
    ],
)
def test_what_is_no_rgb_recognizer_is_refused(own_config, change, said):
    with pytest.raises(InputError, match=said):
        model_spec_from_config(own_config(change), "a.pth")


def test_a_configuration_without_data_is_refused(tmp_path):
    path = tmp_path / "model.py"
    path.write_text("model = dict(type='Recognizer2D', cls_head=dict(type='TSNHead'))")
    with pytest.raises(InputError, match=r"has no data\.test"):
        model_spec_from_config(str(path), "a.pth")
