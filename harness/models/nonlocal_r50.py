"""TSM ResNet-50 with dot-product non-local blocks on Kinetics-400 (ModelZoo: Nonlocal)."""

from harness.spec import InputProtocol, ModelSpec, TensorSpec

SPEC = ModelSpec(
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
