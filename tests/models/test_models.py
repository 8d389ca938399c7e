import dataclasses
import math

import pytest

from harness import registry
from harness.data.store import CROP_FIELDS
from harness.host.digests import digest_from_json, plain_fields
from harness.spec import InputProtocol, ModelSpec, TensorSpec

# What the digests of the shipped models were before their declarations were derived: the keys of
# everything that is built and decoded for them. The code of a stage is in its keys as well.
DIGESTS = {
    "nonlocal_r50": ("b2aca359767a39b6a672cac887b9d5cd", "ea6198ffd271f83f6830fae33155257b"),
    "nonlocal_tiny": ("4246e00bf9295786866070d5b46e0053", "9d717e354653be9d0e7458fd5d70e6e2"),
    "timesformer": ("ffbab9ce0033eee7c2fa8ea6d99ca355", "7f637d472c784065512e7736ee056caf"),
    "timesformer_tiny": ("c6cba7c624e8b2493c079ddd29ce9ee3", "3f95a77b4be77b7e9a53bd64533e3fdd"),
}
NONLOCAL = ModelSpec(
    name="nonlocal_r50",
    config="recognition/tsm/tsm_nl_dot_product_r50_1x1x8_50e_kinetics400_rgb.py",
    overrides={"backbone": {"pretrained": None}},
    checkpoint="tsm_nl_dot_product_r50_1x1x8_50e_kinetics400_rgb_20200724-d8ad84d2.pth",
    dataset="kinetics400",
    class_count=400,
    input=TensorSpec("video", (1, 8, 3, 224, 224)),
    output=TensorSpec("class", (1, 400)),
    softmax_in_graph=True,
    protocol=InputProtocol(
        sampling="uniform",
        frame_count=8,
        frame_interval=1,
        short_side=256,
        crop_size=224,
        crop_count=1,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        layout="TCHW",
    ),
    atc=(
        *("--model={model}", "--framework=5", "--output={output}", "--input_format=ND"),
        *("--input_shape={input_shape}", "--log=debug", "--soc_version={soc_version}"),
    ),
)
TIMESFORMER = ModelSpec(
    name="timesformer",
    config="recognition/timesformer/timesformer_divST_8x32x1_15e_kinetics400_rgb.py",
    overrides={"backbone": {"pretrained": None}},
    checkpoint="timesformer_divST_8x32x1_15e_kinetics400_rgb-3f8e5d03.pth",
    dataset="kinetics400",
    class_count=400,
    input=TensorSpec("imgs", (1, 3, 3, 8, 224, 224)),
    output=TensorSpec("result", (3, 400)),
    softmax_in_graph=False,
    protocol=InputProtocol(
        sampling="strided",
        frame_count=8,
        frame_interval=32,
        short_side=224,
        crop_size=224,
        crop_count=3,
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        layout="MCTHW",
        source="rawframes",
        rawframe_short_side=320,
    ),
    frozen_batch=1,
    atc=(
        *("--framework=5", "--model={model}", "--output={output}", "--input_format=ND"),
        *("--input_shape={input_shape}", "--log=error", "--soc_version={soc_version}"),
        *("--op_select_implmode=high_performance", "--optypelist_for_implmode=Gelu"),
    ),
)


@pytest.mark.parametrize("name", registry.model_names())
def test_a_model_is_consistent(name):
    spec = registry.model_spec(name)
    assert spec.name == name
    assert spec.output.shape[-1] == spec.class_count
    assert spec.input.shape == (1, *spec.protocol.sample_shape)
    assert math.gcd(spec.crop_count, spec.protocol.crop_count) in (1, spec.protocol.crop_count)


@pytest.mark.parametrize("guide", [NONLOCAL, TIMESFORMER], ids=lambda spec: spec.name)
def test_the_guides_models_follow_from_their_configurations(guide):
    assert registry.model_spec(guide.name) == guide


@pytest.mark.parametrize(("name", "digests"), DIGESTS.items())
def test_the_digests_of_the_shipped_models_stay(name, digests):
    spec = registry.model_spec(name)
    fields = plain_fields(spec.protocol)
    crops = {name: fields[name] for name in CROP_FIELDS if name in fields}
    assert (digest_from_json(plain_fields(spec))[:32], digest_from_json(crops)[:32]) == digests


def test_a_field_that_came_later_is_digested_where_it_is_set():
    spec = registry.model_spec("nonlocal_tiny")
    assert "calibrated" not in plain_fields(spec)
    assert plain_fields(dataclasses.replace(spec, calibrated=True))["calibrated"] is True
