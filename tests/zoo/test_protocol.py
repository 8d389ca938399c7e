import dataclasses

import pytest

from harness.errors import InputError
from harness.zoo.config import Config, config_from_file, mmaction2_folder
from harness.zoo.protocol import protocol_from_config

C3D = "c3d/c3d_sports1m_16x1x1_45e_ucf101_rgb.py"
REFUSED = {
    "slowonly/slowonly_k400_pretrained_r50_4x16x1_120e_gym99_flow.py": "Flow",
    "tsn/tsn_r50_320p_1x1x3_110e_kinetics400_flow.py": "Flow",
    "tsn/tsn_r50_1x1x6_100e_mit_rgb.py": "FormatShape without input_format",
}


def read(name):
    return config_from_file(mmaction2_folder() / "configs/recognition" / name)


def changed(config, kind, **changes):
    test = config.part("data", "test")
    pipeline = [{**step, **changes} if step["type"] == kind else step for step in test["pipeline"]]
    data = {**config.part("data"), "test": {**test, "pipeline": pipeline}}
    return dataclasses.replace(config, content={**config.content, "data": data})


@pytest.mark.parametrize(("name", "said"), REFUSED.items())
def test_what_no_protocol_says_is_refused_by_name(name, said):
    with pytest.raises(InputError, match=said):
        protocol_from_config(read(name))


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("Resize", {"keep_ratio": False}, "changes their proportions"),
        ("CenterCrop", {"crop_size": (112, 96)}, "square"),
        ("Normalize", {"to_bgr": True}, "red and blue"),
        ("SampleFrames", {"out_of_bound_opt": "repeat_last"}, "looped"),
        ("SampleFrames", {"test_mode": False}, "test mode"),
        ("RawFrameDecode", {"type": "ImageDecode"}, "ImageDecode"),
        ("CenterCrop", {"type": "Collect"}, "0 of CenterCrop, ThreeCrop, TenCrop"),
    ],
)
def test_a_step_that_would_be_lost_is_refused(kind, changes, said):
    with pytest.raises(InputError, match=said):
        protocol_from_config(changed(read(C3D), kind, **changes))


def test_a_pipeline_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"has no data\.test"):
        protocol_from_config(Config(tmp_path / "a.py", {"data": {}}, ()))
