"""TSM ResNet-50 with dot-product non-local blocks on Kinetics-400 (ModelZoo: Nonlocal)."""

from harness.zoo.model import model_spec_from_config

SPEC = model_spec_from_config(
    "recognition/tsm/tsm_nl_dot_product_r50_1x1x8_50e_kinetics400_rgb.py",
    "tsm_nl_dot_product_r50_1x1x8_50e_kinetics400_rgb_20200724-d8ad84d2.pth",
    name="nonlocal_r50",
    input="video",
    output="class",
    softmax_in_graph=True,
    # The guide decodes the videos themselves.
    protocol={"source": "video"},
    atc=(
        *("--model={model}", "--framework=5", "--output={output}", "--input_format=ND"),
        *("--input_shape={input_shape}", "--log=debug", "--soc_version={soc_version}"),
    ),
)
